//! THE COMPOSITION ROOT, the permits: every command that the plan allows, worked out for the pipeline.

use crate::config::Config;
use crate::model::DeviceId;
use crate::pipeline::Permit;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn permits(config: &Config) -> HashMap<(DeviceId, Arc<str>), Permit> {
    let mut permits = HashMap::new();
    for binding in &config.bindings {
        let Some((.., device)) = config.plan.device(binding.device.as_str()) else { continue };
        for command in &binding.commands {
            let permit = Permit {
                link: binding.link.clone(),
                device_name: device.name.clone(),
                text: command.text.clone(),
                write: command.write.clone(),
            };
            permits.insert((binding.device.clone(), command.name.as_str().into()), permit);
        }
    }
    permits
}
