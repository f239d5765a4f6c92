//! THE DEMO, who measures it: the devices of `plan.toml`, what each measures at rest, and how each says it.
//!
//! Every device speaks the format of its own profile, written here from the format's description and not by turning
//! the profile round: a profile that is read wrongly must not look right because its simulator is wrong alike.

use super::world::World;
use serde_json::{Value, json};

/// How a device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `fengsui/smoke-json`.
    Smoke,
    /// `fengsui/heat-json`.
    Heat,
    /// `fengsui/gas-json`.
    Gas,
    /// `fengsui/electrical-json`.
    Electrical,
    /// `fengsui/water-json` on a hydrant.
    Hydrant,
    /// `fengsui/water-json` on a tank.
    Tank,
    /// `zigbee2mqtt/heiman-hs1sa-e`.
    ZigbeeSmoke,
    /// `zigbee2mqtt/aqara-mccgq11lm`.
    ZigbeeDoor,
    /// `fengsui/electrical-modbus`.
    ElectricalUnit,
    /// `eastron/sdm120`.
    MeterUnit,
    /// `waveshare/modbus-rtu-io-8ch`.
    ContactsUnit,
    /// `generic/rs485-pressure`.
    PressureUnit,
    /// `generic/rs485-level`.
    LevelUnit,
    /// `xy/xy-md02`.
    ClimateUnit,
}

/// What a signal is at rest, and how much it trembles.
type Rest = (&'static str, f64, f64);

impl Form {
    /// The form of that profile; `None`: the demo does not know it, which a test forbids.
    pub(super) fn of(profile: &str, device: &str) -> Option<Self> {
        Some(match profile {
            "fengsui/smoke-json" => Self::Smoke,
            "fengsui/heat-json" => Self::Heat,
            "fengsui/gas-json" => Self::Gas,
            "fengsui/electrical-json" => Self::Electrical,
            "fengsui/water-json" if device.contains("tank") => Self::Tank,
            "fengsui/water-json" => Self::Hydrant,
            "zigbee2mqtt/heiman-hs1sa-e" => Self::ZigbeeSmoke,
            "zigbee2mqtt/aqara-mccgq11lm" => Self::ZigbeeDoor,
            "fengsui/electrical-modbus" => Self::ElectricalUnit,
            "eastron/sdm120" => Self::MeterUnit,
            "waveshare/modbus-rtu-io-8ch" => Self::ContactsUnit,
            "generic/rs485-pressure" => Self::PressureUnit,
            "generic/rs485-level" => Self::LevelUnit,
            "xy/xy-md02" => Self::ClimateUnit,
            _ => return None,
        })
    }

    fn rest(self) -> &'static [Rest] {
        match self {
            Self::Smoke => &[
                ("smoke", 0.0, 0.0),
                ("concentration", 0.01, 0.01),
                ("temperature", 22.5, 0.3),
                ("contamination", 12.0, 0.0),
                ("battery", 97.0, 0.0),
                ("rssi", -71.0, 3.0),
            ],
            Self::Heat => &[
                ("heat", 0.0, 0.0),
                ("temperature", 31.0, 0.8),
                ("battery", 94.0, 0.0),
                ("rssi", -76.0, 3.0),
            ],
            Self::Gas => &[("gas", 0.0, 0.0), ("lel", 0.6, 0.3), ("co", 3.0, 1.0), ("oxygen", 20.9, 0.05)],
            Self::Electrical | Self::ElectricalUnit => &[
                ("residual", 86.0, 4.0),
                ("cable", 34.0, 0.5),
                ("current", 12.4, 0.6),
                ("voltage", 228.0, 1.2),
            ],
            Self::Hydrant => &[("pressure", 0.28, 0.003), ("battery", 91.0, 0.0), ("rssi", -88.0, 4.0)],
            Self::Tank => &[("level", 97.0, 0.3), ("battery", 88.0, 0.0), ("rssi", -84.0, 4.0)],
            Self::ZigbeeSmoke => &[
                ("smoke", 0.0, 0.0),
                ("temperature", 21.8, 0.3),
                ("battery", 100.0, 0.0),
                ("quality", 128.0, 8.0),
            ],
            Self::ZigbeeDoor => &[("open", 0.0, 0.0), ("battery", 95.0, 0.0), ("quality", 112.0, 8.0)],
            Self::MeterUnit => &[("current", 8.2, 0.5), ("voltage", 229.0, 1.0), ("energy", 1532.5, 0.0)],
            Self::ContactsUnit => &[("call_point", 0.0, 0.0), ("pump", 0.0, 0.0), ("manual", 0.0, 0.0)],
            Self::PressureUnit => &[("pressure", 0.42, 0.004)],
            Self::LevelUnit => &[("depth", 2.85, 0.005)],
            Self::ClimateUnit => &[("temperature", 21.5, 0.2), ("humidity", 52.0, 1.0)],
        }
    }

    /// How often it speaks when nothing happens, in seconds.
    pub(super) fn period_secs(self) -> u64 {
        match self {
            Self::Electrical | Self::Hydrant | Self::Gas => 2,
            Self::Tank | Self::Heat => 4,
            _ => 5,
        }
    }

    /// The signals whose change is reported at once.
    pub(super) fn urgent(self) -> &'static [&'static str] {
        match self {
            Self::Smoke | Self::ZigbeeSmoke => &["smoke"],
            Self::Heat => &["heat"],
            Self::Gas => &["gas"],
            Self::ZigbeeDoor => &["open"],
            _ => &[],
        }
    }

    /// The topic that a device of this form publishes on; `None`: it speaks Modbus.
    pub(super) fn topic(self, site: &str, address: &str) -> Option<String> {
        match self {
            Self::Smoke | Self::Heat | Self::Gas | Self::Electrical | Self::Hydrant | Self::Tank => {
                Some(format!("site/{site}/device/{address}/up"))
            }
            Self::ZigbeeSmoke | Self::ZigbeeDoor => Some(format!("zigbee2mqtt/{address}")),
            _ => None,
        }
    }

    /// What it publishes now.
    pub(super) fn message(self, world: &World, device: &str) -> Value {
        let get = |signal: &str| world.measure_or(device, signal, 0.0);
        #[expect(clippy::cast_possible_truncation, reason = "codes, percentages and signal strengths")]
        let whole = |value: f64| value.round() as i64;
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        match self {
            Self::Smoke => json!({
                "smoke": whole(get("smoke")),
                "smoke_db_m": (get("concentration").max(0.0) * 1000.0).round() / 1000.0,
                "temperature": tenth(get("temperature")),
                "contamination": whole(get("contamination")),
                "battery": whole(get("battery")),
                "rssi": whole(get("rssi")),
                "tamper": false,
            }),
            Self::Heat => json!({
                "heat": whole(get("heat")),
                "temperature": tenth(get("temperature")),
                "battery": whole(get("battery")),
                "rssi": whole(get("rssi")),
            }),
            Self::Gas => json!({
                "gas": whole(get("gas")),
                "lel": tenth(get("lel").max(0.0)),
                "co_ppm": whole(get("co").max(0.0)),
                "oxygen_pct": tenth(get("oxygen")),
                "mains_failure": false,
            }),
            Self::Electrical => json!({
                "residual_ma": tenth(get("residual")),
                "cable_c": [tenth(get("cable")), tenth(get("cable") + 0.7), tenth(get("cable") - 0.4), -200],
                "current_a": [tenth(get("current")), tenth(get("current") * 0.94), tenth(get("current") * 1.05)],
                "voltage_v": [tenth(get("voltage")), tenth(get("voltage") + 1.1), tenth(get("voltage") - 0.8)],
                "state": 0,
                "arc": 0,
            }),
            Self::Hydrant => json!({
                "hydrant_mpa": (get("pressure") * 1000.0).round() / 1000.0,
                "cap_open": false,
                "tilt": false,
                "impact": false,
                "pipe_c": 11.5,
                "battery": whole(get("battery")),
                "rssi": whole(get("rssi")),
            }),
            Self::Tank => json!({
                "level_pct": tenth(get("level")),
                "battery": whole(get("battery")),
                "rssi": whole(get("rssi")),
            }),
            Self::ZigbeeSmoke => json!({
                "smoke": get("smoke") > 0.5,
                "test": false,
                "temperature": tenth(get("temperature")),
                "battery": whole(get("battery")),
                "battery_low": get("battery") < 15.0,
                "linkquality": whole(get("quality")),
            }),
            Self::ZigbeeDoor => json!({
                "contact": get("open") < 0.5,
                "battery": whole(get("battery")),
                "linkquality": whole(get("quality")),
            }),
            _ => Value::Null,
        }
    }

    /// What a register holds now, by its address in the table the form uses; `None`: there is no such register.
    pub(super) fn register(self, world: &World, device: &str, address: u16) -> Option<u16> {
        let get = |signal: &str| world.measure_or(device, signal, 0.0);
        let scaled = |value: f64, factor: f64| word((value * factor).round());
        match self {
            Self::ElectricalUnit => Some(match address {
                0 => scaled(get("residual"), 1.0),
                1 => scaled(get("cable"), 10.0),
                2 => scaled(get("cable") + 0.7, 10.0),
                3 => word(-2000.0),
                4 => 0,
                5 => scaled(get("current"), 100.0),
                6 => scaled(get("current") * 0.94, 100.0),
                7 => scaled(get("current") * 1.05, 100.0),
                8 => scaled(get("voltage"), 10.0),
                9 => scaled(get("voltage") + 1.1, 10.0),
                10 => scaled(get("voltage") - 0.8, 10.0),
                _ => return None,
            }),
            // Single-precision floats in two registers each, the high word first.
            Self::MeterUnit => {
                let value = match address & !1 {
                    0 => get("voltage"),
                    6 => get("current"),
                    12 => get("voltage") * get("current"),
                    70 => 50.0,
                    72 => get("energy"),
                    _ if address < 80 => 0.0,
                    _ => return None,
                };
                #[expect(clippy::cast_possible_truncation, reason = "the meter's own precision")]
                let bits = (value as f32).to_bits();
                let words = [(bits >> 16) as u16, (bits & 0xFFFF) as u16];
                words.get(usize::from(address & 1)).copied()
            }
            Self::ContactsUnit => Some(match address {
                0 => u16::from(get("call_point") > 0.5),
                2 => u16::from(get("pump") > 0.5),
                4 => u16::from(get("manual") < 0.5),
                6 => 1,
                1 | 3 | 5 | 7 => 0,
                _ => return None,
            }),
            Self::PressureUnit => Some(match address {
                3 => 3,
                4 => scaled(get("pressure"), 1000.0),
                0..=6 => 0,
                _ => return None,
            }),
            Self::LevelUnit => Some(match address {
                3 => 3,
                4 => scaled(get("depth"), 1000.0),
                0..=6 => 0,
                _ => return None,
            }),
            Self::ClimateUnit => Some(match address {
                1 => scaled(get("temperature"), 10.0),
                2 => scaled(get("humidity"), 10.0),
                _ => return None,
            }),
            _ => None,
        }
    }
}

/// A signed or unsigned number as a register holds it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a register can hold"
)]
fn word(value: f64) -> u16 {
    if value < 0.0 {
        (value.max(f64::from(i16::MIN)) as i16) as u16
    } else {
        value.min(f64::from(u16::MAX)) as u16
    }
}

/// Puts every device of the demo at rest.
pub(super) fn settle(world: &World) {
    for (device, form) in super::roster() {
        for (signal, value, noise) in form.rest() {
            // A tremble that differs from device to device, so that forty charts do not look copied.
            let shift =
                (f64::from(device.bytes().map(u32::from).sum::<u32>() % 17) / 17.0 - 0.5) * 2.0 * noise;
            world.settle(device, signal, value + shift, *noise);
        }
        world.settle(device, super::world::MUTE, 0.0, 0.0);
    }
}
