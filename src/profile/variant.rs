//! FRAMES → READINGS, variants of a model: another firmware, another way to be reached. A variant says what is different and has
//! the rest of its file; it becomes a profile of its own, `vendor/model@name`, and nothing behind here knows the difference.

use super::draft::{Problems, Spanned, TextFile, suggest_or_list};
use super::example::ExampleFile;
use super::hazard_example::HazardExampleFile;
use super::json_schema;
use super::schema::ProfileFile;
use super::schema_bytes::FrameFile;
use super::schema_register::ModbusFile;
use super::shape_mqtt::{MqttFile, TimeFile};
use super::shape_point::{PointChangeFile, PointFile};
use crate::model::ProfileId;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;

/// The most variants of one file.
const VARIANTS_MAX: usize = 16;

/// Stands between a model and its variant in what a plan writes.
pub(super) const VARIANT: char = '@';

/// `[[variant]]`.
#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct VariantFile {
    /// 变型名，平面文件中写作 厂商/型号@名 / its name; a plan writes vendor/model@name
    #[schemars(regex(pattern = json_schema::SLUG))]
    name: Spanned<String>,
    /// 它是什么，接在型号名称之后 / what it is, behind the name of the model
    text: TextFile,
    /// 适用的固件 / of which firmware it speaks
    firmware: Option<Spanned<String>>,
    /// 出处，与型号不同时写 / where its format comes from, if from elsewhere
    source: Option<Spanned<String>>,
    /// 谁、何时在实物上核对过；不从型号继承 / who tried it on the hardware, and when; never inherited
    verified: Option<String>,
    /// 正常情况下最长的沉默，秒 / the longest normal silence, in seconds
    #[schemars(range(min = 1))]
    silent_after_secs: Option<Spanned<u32>>,
    /// 改由 MQTT 接入：只有这里写出的测点 / reached over MQTT instead: it has the points that it names
    mqtt: Option<MqttFile>,
    /// 改由 Modbus 接入：只有这里写出的测点 / reached over Modbus instead: it has the points that it names
    modbus: Option<ModbusFile>,
    /// 字节消息的校验 / what a message of bytes must be before anything in it is believed
    frame: Option<Spanned<FrameFile>>,
    /// 设备自己的时间 / the device's own time
    time: Option<Spanned<TimeFile>>,
    /// 没有的测点 / points of the file that it does not have
    #[serde(default)]
    without: Vec<Spanned<String>>,
    /// 不同之处；新测点要写全 / what differs; a new point is written whole
    #[serde(default)]
    point: Vec<PointChangeFile>,
    /// 它自己的示例 / its own examples
    #[serde(default)]
    example: Vec<ExampleFile>,
    /// 报警示例：一串示例应当报出什么 / what a series of the examples has to raise
    #[serde(default)]
    hazard_example: Vec<HazardExampleFile>,
}

/// One variant as a file of its own: its id, and the file.
pub(super) fn each_variant(
    id: &ProfileId,
    base: &ProfileFile,
    problems: &mut Problems,
) -> Vec<(ProfileId, ProfileFile)> {
    if base.variant.len() > VARIANTS_MAX {
        problems.whole_file(
            format!("文件有 {0} 个变体 / the file has {0} variants", base.variant.len()),
            format!("最多 {VARIANTS_MAX} 个；差别这么多就是不同的型号 / {VARIANTS_MAX} at most; what differs in so much is several models"),
        );
        return Vec::new();
    }
    let mut names = HashSet::new();
    let mut made = Vec::new();
    for variant in &base.variant {
        let name = variant.name.get_ref();
        let of_variant = ProfileId::parse(&format!("{id}{VARIANT}{name}"));
        match of_variant {
            Ok(of_variant) if names.insert(name) && !name.contains([VARIANT, '/']) => {
                made.push((of_variant, variant.over(base, problems)));
            }
            _ => problems.error(
                variant.name.span(),
                format!("{name:?} 不能作变体名，或已被占用 / {name:?} is no name of a variant, or is taken"),
                "只用小写字母、数字、- 和 _，每个名称只用一次 / use lower-case letters, digits, - and _; each name once",
            ),
        }
    }
    made
}

impl VariantFile {
    fn over(&self, base: &ProfileFile, problems: &mut Problems) -> ProfileFile {
        let reached_otherwise = self.mqtt.is_some() || self.modbus.is_some();
        let mut device = base.device.clone();
        device.name = device.name.with(&self.text);
        device.firmware = self.firmware.clone().or(device.firmware);
        device.source = self.source.clone().unwrap_or(device.source);
        // What was tried on another firmware or by another way says nothing of this one.
        device.verified = self.verified.clone();
        device.silent_after_secs = self.silent_after_secs.clone().or(device.silent_after_secs);
        let own = |variant: bool| variant || reached_otherwise;
        ProfileFile {
            device,
            mqtt: if reached_otherwise { self.mqtt.clone() } else { base.mqtt.clone() },
            modbus: if reached_otherwise { self.modbus.clone() } else { base.modbus.clone() },
            frame: if own(self.frame.is_some()) { self.frame.clone() } else { base.frame.clone() },
            time: if own(self.time.is_some()) { self.time.clone() } else { base.time.clone() },
            point: self.points(base, reached_otherwise, problems),
            command: if reached_otherwise { Vec::new() } else { base.command.clone() },
            example: self.example.clone(),
            hazard_example: self.hazard_example.clone(),
            variant: Vec::new(),
        }
    }

    /// Reached in another way, it has the points that it names; otherwise those of the file, with its changes.
    fn points(&self, base: &ProfileFile, reached_otherwise: bool, problems: &mut Problems) -> Vec<PointFile> {
        let known = |name: &str| base.point.iter().find(|point| point.name.get_ref() == name);
        for name in &self.without {
            if known(name.get_ref()).is_none() {
                let names = base.point.iter().map(|point| point.name.get_ref().as_str());
                problems.error(
                    name.span(),
                    format!("文件里没有测点 {0:?} / the file has no point {0:?}", name.get_ref()),
                    suggest_or_list(name.get_ref(), names),
                );
            }
        }
        let is_left_out = |point: &&PointFile| {
            !self.without.iter().any(|name| name.get_ref() == point.name.get_ref())
                && !self.point.iter().any(|change| change.name.get_ref() == point.name.get_ref())
        };
        let kept = base.point.iter().filter(|_| !reached_otherwise).filter(is_left_out).cloned();
        let mut points: Vec<PointFile> = kept.collect();
        for change in &self.point {
            match change.over(known(change.name.get_ref())) {
                Some(point) => points.push(point),
                None => problems.error(
                    change.name.span(),
                    format!("测点 {0:?} 是这里新增的，但不完整 / the point {0:?} is new here and is not whole", change.name.get_ref()),
                    "写出 class 和 from，或改用文件中已有测点的名称 / say its class and from, or use the name of a point of the file",
                ),
            }
        }
        points
    }
}
