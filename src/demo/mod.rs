//! THE DEMO: two sites that do not exist, forty devices that speak over real sockets, and a story.
//!
//! Outside the flow: it is the world the gateway looks at. The gateway in the demo is the same as on a real site; it
//! knows the devices by their sockets only.

mod bus;
mod control;
mod devices;
mod publisher;
mod story;
mod world;

pub use story::{CHAPTERS, Chapter, STORY_SECS, Storyteller};
pub use world::World;

use crate::config::{Config, Report};
use anyhow::Context;
use devices::Form;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The two sites.
pub const PLAN: &str = include_str!("plan.toml");

/// The links of the plan that are Modbus buses.
const BUSES: [&str; 2] = ["yg-bus", "wsy-bus"];

/// Every device of the plan with its form. The plan is part of the program, and a test reads it.
fn roster() -> impl Iterator<Item = (&'static str, Form)> {
    static ROSTER: OnceLock<Vec<(String, Form)>> = OnceLock::new();
    let listed = ROSTER.get_or_init(|| {
        let plan: toml::Table = PLAN.parse().unwrap_or_default();
        let tables = |of: &toml::Table, key: &str| -> Vec<toml::Table> {
            let list = of.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default();
            list.into_iter().filter_map(|value| value.as_table().cloned()).collect()
        };
        let sites = tables(&plan, "site");
        let zones = sites.iter().flat_map(|site| tables(site, "zone"));
        let devices = zones.flat_map(|zone| tables(&zone, "device"));
        let named = devices.filter_map(|device| {
            let text = |key: &str| device.get(key).and_then(toml::Value::as_str);
            let id = text("id")?;
            Some((id.to_owned(), Form::of(text("profile")?, id)?))
        });
        named.collect()
    });
    listed.iter().map(|(id, form)| (id.as_str(), *form))
}

/// A demo whose sockets are bound and whose configuration is read, but where nothing runs yet.
pub struct Prepared {
    config: Config,
    buses: Vec<(&'static str, TcpListener)>,
    world: World,
    teller: Storyteller,
}

/// The simulated devices, running. They stop when asked to, or with the process.
pub struct Simulated {
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// Binds the simulated buses on free ports of 127.0.0.1 and builds the gateway's configuration around them.
///
/// Errors: no port could be bound, or the demo's own files are wrong (which a test excludes).
pub async fn prepare(dir: &Path, listen: SocketAddr) -> anyhow::Result<Prepared> {
    let mut buses = Vec::new();
    let mut gateway = format!(
        "plan = \"plan.toml\"\n\n[journal]\ndir = {}\n\n[web]\nlisten = \"{listen}\"\n\n[broker]\nlisten = \"127.0.0.1:0\"\nanonymous = true\n",
        toml::Value::String(dir.display().to_string()),
    );
    for name in BUSES {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("cannot bind a simulated Modbus server")?;
        gateway.push_str(&format!(
            "\n[[modbus]]\nname = \"{name}\"\nurl = \"tcp://{}\"\n",
            listener.local_addr()?
        ));
        buses.push((name, listener));
    }
    let texts = [("gateway.toml", gateway.as_str()), ("plan.toml", PLAN)];
    let (config, _) = Config::from_texts(&texts, &|_| None).map_err(|report| told(&report))?;
    let world = World::default();
    devices::settle(&world);
    let teller = Storyteller::new(world.clone());
    Ok(Prepared { config, buses, world, teller })
}

fn told(report: &Report) -> anyhow::Error {
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the demo's own files are wrong: {}", problems.join("; "))
}

impl Prepared {
    /// What the gateway is told.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The pages' controls.
    pub fn controls(&self) -> axum::Router {
        control::routes(self.teller.clone())
    }

    /// Switches the devices on; tells the story at once unless it should stay quiet.
    pub fn start(self, broker: SocketAddr, quiet: bool) -> Simulated {
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        for (link, listener) in self.buses {
            let units = self.config.bindings.iter().filter(|binding| binding.link.as_str() == link);
            let units = units.filter_map(|binding| {
                let device = binding.device.as_str();
                Some((binding.unit?, (device.to_owned(), Form::of(binding.profile.id.as_str(), device)?)))
            });
            let bus = bus::serve(listener, units.collect(), self.world.clone(), cancel.clone());
            tasks.spawn(bus);
        }
        for binding in &self.config.bindings {
            let device = binding.device.as_str();
            let Some(form) = Form::of(binding.profile.id.as_str(), device) else { continue };
            let site = self.config.plan.device(device).map_or("", |(site, ..)| site.id.as_str());
            let Some(topic) = form.topic(site, &binding.address) else { continue };
            let publisher = publisher::Publisher {
                device: device.to_owned(),
                form,
                topic,
                broker,
                world: self.world.clone(),
            };
            tasks.spawn(cancel.clone().run_until_cancelled_owned(publisher.run()));
        }
        if !quiet {
            self.teller.restart();
        }
        tasks.close();
        Simulated { cancel, tasks }
    }
}

impl Simulated {
    /// Switches every device off and waits until the last has gone.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_device_of_the_demo_is_simulated_and_every_actor_of_the_story_exists() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = prepare(dir.path(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let simulated: Vec<&str> = roster().map(|(id, _)| id).collect();
        let planned: Vec<&str> =
            prepared.config.bindings.iter().map(|binding| binding.device.as_str()).collect();
        assert_eq!(simulated, planned);
        assert!(planned.len() >= 40, "{} devices", planned.len());
        for (device, signal) in CHAPTERS.iter().flat_map(Chapter::cast) {
            assert!(prepared.world.measure(device, signal).is_some(), "{device} has no signal {signal}");
        }
    }

    #[tokio::test]
    async fn every_simulated_message_is_understood_by_its_profile() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = prepare(dir.path(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut checked = 0;
        for binding in &prepared.config.bindings {
            let device = binding.device.as_str();
            let form = Form::of(binding.profile.id.as_str(), device).unwrap();
            let at = crate::model::Timestamp::from_secs(1_800_000_000);
            let Some(topic) = form.topic("yangguang", &binding.address) else { continue };
            let kind = binding
                .profile
                .topics()
                .iter()
                .position(|form| form.matches(&topic) == Some(&binding.address));
            let message = form.message(&prepared.world, device).to_string();
            let decoded = binding.profile.decode_message(kind.unwrap(), message.as_bytes(), at);
            assert!(
                decoded.understood && decoded.problems.is_empty(),
                "{device}: {message}: {:?}",
                decoded.problems
            );
            assert!(!decoded.samples.is_empty());
            checked += 1;
        }
        assert!(checked >= 30, "{checked} messages");
    }
}
