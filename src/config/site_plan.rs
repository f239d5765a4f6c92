//! `plan.toml` + profiles + vocabulary → the [`Plan`] in force and the [`Binding`]s that say how devices are reached.

use crate::model::{DeviceId, LinkId, PointId};
use crate::profile::Profile;
use std::sync::Arc;

/// How one device of the plan is reached and understood.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Which device.
    pub device: DeviceId,
    /// By which link.
    pub link: LinkId,
    /// What stands for `{address}` in the profile's topics; empty on Modbus.
    pub address: String,
    /// The Modbus unit id, 1..=247; `None` on MQTT.
    pub unit: Option<u8>,
    /// How its bytes become readings.
    pub profile: Arc<Profile>,
    /// The device's points, index-aligned with `profile.points`. The implicit point `link` is not among them.
    pub points: Vec<PointId>,
    /// The implicit point `link`, that stands for the device being heard at all.
    pub link_point: PointId,
}
