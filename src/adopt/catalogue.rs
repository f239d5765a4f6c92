//! BESIDE THE FLOW · the catalogue (型号目录): every model that this gateway can read, as a person looks for it.

use super::InForce;
use super::plan_file::{NewDevice, Reach, snippet};
use crate::config::LinkKind;
use crate::model::Text;
use crate::profile::{PointClass, Profile, ProfileLink, explain};
use std::sync::Arc;

/// What a model is for. The groups of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its name in addresses.
    pub name: &'static str,
    /// In Chinese.
    pub zh: &'static str,
    /// In English.
    pub en: &'static str,
    /// Beginnings of the ids of its classes.
    classes: &'static [&'static str],
}

/// In the order of the vocabulary. A class that none of them names is in the last one: it is found there and by its words.
pub const GROUPS: [Group; 7] = [
    Group {
        name: "fire",
        zh: "火灾探测",
        en: "Fire detection",
        classes: &["smoke_", "contamination", "heat_", "manual_call_point", "panel_alarm", "sounder_state"],
    },
    Group {
        name: "gas",
        zh: "可燃气体",
        en: "Gas",
        classes: &["combustible_gas", "gas_", "carbon_monoxide", "oxygen"],
    },
    Group {
        name: "electrical",
        zh: "电气火灾监控",
        en: "Electrical",
        classes: &[
            "residual_current",
            "cable_temperature",
            "arc",
            "electrical_alarm",
            "phase_",
            "active_power",
            "energy",
            "frequency",
            "mains_failure",
        ],
    },
    Group {
        name: "water",
        zh: "消防给水",
        en: "Fire water",
        classes: &[
            "hydrant_",
            "pipe_",
            "tank_level",
            "water_",
            "flow",
            "pump_",
            "valve_state",
            "loop_current",
        ],
    },
    Group {
        name: "surroundings",
        zh: "疏散与环境",
        en: "Evacuation and surroundings",
        classes: &["fire_door", "ambient_"],
    },
    Group {
        name: "device",
        zh: "设备自身",
        en: "The device itself",
        classes: &["battery", "signal", "link_", "tamper", "device_fault", "muted", "self_test"],
    },
    Group { name: "other", zh: "其他", en: "Other", classes: &[] },
];

/// How a model is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// It publishes on these topics.
    Mqtt(Vec<String>),
    /// It is polled, with so many reads a round.
    Modbus(usize),
}

/// One row.
#[derive(Debug, Clone)]
pub struct Model {
    /// `vendor/model`.
    pub id: String,
    /// Who makes it.
    pub vendor: String,
    /// The number on the box.
    pub number: String,
    /// What it is called.
    pub name: Text,
    /// How it is reached.
    pub reached: Reached,
    /// The classes it reports, each once, as id and name.
    pub classes: Vec<(String, Text)>,
    /// The groups it is in, the main one first.
    pub groups: Vec<&'static str>,
    /// Who tried it on the hardware; `None`: nobody yet.
    pub verified: Option<String>,
    /// Of which firmware the profile speaks; `None`: it makes no difference, or nobody said.
    pub firmware: Option<String>,
    /// Under which other names the same device is sold.
    pub also_sold_as: Vec<String>,
    /// How many points it has.
    pub points: usize,
    /// All that it is found by, in lower case.
    pub words: String,
}

impl Model {
    /// Whether every word of a question is in what it is found by.
    pub fn is_found_by(&self, question: &str) -> bool {
        let question = question.to_lowercase();
        question.split_whitespace().all(|word| self.words.contains(word))
    }
}

/// The page of a model.
#[derive(Debug, Clone)]
pub struct ModelPage {
    /// Its row.
    pub model: Model,
    /// Where the format comes from.
    pub source: String,
    /// The longest silence that is normal, in words; `None`: it only speaks when something happens.
    pub silent_after: Option<Text>,
    /// What it reports.
    pub points: Vec<PointWords>,
    /// What it can be told to do.
    pub commands: Vec<(String, Text)>,
    /// How many examples prove it.
    pub examples: usize,
    /// Lines for the plan, to copy.
    pub snippet: String,
}

/// A point in plain words.
#[derive(Debug, Clone)]
pub struct PointWords {
    /// Its name in the profile.
    pub id: String,
    /// What it is called.
    pub name: Text,
    /// Its class.
    pub class: String,
    /// What the class is called.
    pub class_name: Text,
    /// The canonical unit; may be empty.
    pub unit: &'static str,
    /// The plausible range.
    pub range: Option<(f64, f64)>,
    /// What it may say, when it has states.
    pub states: Vec<Text>,
    /// What it can raise: the lamp's name, the priority's name, and the sentence.
    pub hazards: Vec<(&'static str, &'static str, Text)>,
}

impl InForce {
    /// Every model that can be used, by id.
    pub fn catalogue(&self) -> Vec<Model> {
        self.library.profiles.values().map(|profile| self.row(profile)).collect()
    }

    /// The page of one.
    pub fn model(&self, id: &str) -> Option<ModelPage> {
        let profile = self.library.profiles.get(id)?;
        let points = profile.points.iter().filter_map(|point| {
            let class = self.library.vocabulary.class(point.class.as_str())?;
            let words = |rule: &crate::model::Rule| {
                (rule.signal.name(), rule.priority.name(), explain::sentence(rule, class))
            };
            Some(PointWords {
                id: point.name.clone(),
                name: point.label.clone().unwrap_or_else(|| class.name.clone()),
                class: class.id.to_string(),
                class_name: class.name.clone(),
                unit: point.quantity.unit(),
                range: point.range,
                states: class.states.iter().map(|(_, name)| name.clone()).collect(),
                hazards: explain::hazards(class).map(words).collect(),
            })
        });
        Some(ModelPage {
            model: self.row(profile),
            source: profile.source.clone(),
            silent_after: profile.silent_after.map(explain::duration),
            points: points.collect(),
            commands: profile.commands.iter().map(|one| (one.name.clone(), one.text.clone())).collect(),
            examples: profile.examples.len(),
            snippet: snippet(&self.example_device(profile)),
        })
    }

    fn row(&self, profile: &Arc<Profile>) -> Model {
        let mut classes: Vec<&PointClass> = Vec::new();
        for point in &profile.points {
            let class = self.library.vocabulary.class(point.class.as_str());
            classes.extend(class.filter(|class| !classes.iter().any(|known| known.id == class.id)));
        }
        let mut groups: Vec<&'static str> = Vec::new();
        for class in &classes {
            let group = group_of(class.id.as_str());
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        // Every device has a battery or a radio: that is what it is for only when there is nothing else.
        if groups.len() > 1 {
            groups.retain(|group| *group != "device");
        }
        let mut words = vec![profile.id.to_string(), profile.vendor.clone(), profile.model_number.clone()];
        words.extend(profile.also_sold_as.iter().cloned());
        let mut add = |text: &Text| words.extend([text.zh.to_string(), text.en.to_string()]);
        add(&profile.model);
        classes.iter().for_each(|class| add(&class.name));
        profile.points.iter().filter_map(|point| point.label.as_ref()).for_each(&mut add);
        words.extend(classes.iter().map(|class| class.id.to_string()));
        words.extend(profile.points.iter().map(|point| point.name.clone()));
        let reached = match &profile.link {
            ProfileLink::Mqtt { topics } => {
                words.push("mqtt".to_owned());
                Reached::Mqtt(topics.iter().map(|topic| topic.as_str().to_owned()).collect())
            }
            ProfileLink::Modbus { .. } => {
                words.push("modbus".to_owned());
                Reached::Modbus(profile.poll_plan().len())
            }
        };
        Model {
            id: profile.id.to_string(),
            vendor: profile.vendor.clone(),
            number: profile.model_number.clone(),
            name: profile.model.clone(),
            reached,
            classes: classes.iter().map(|class| (class.id.to_string(), class.name.clone())).collect(),
            groups,
            verified: profile.verified.clone(),
            firmware: profile.firmware.clone(),
            also_sold_as: profile.also_sold_as.clone(),
            points: profile.points.len(),
            words: words.join("\n").to_lowercase(),
        }
    }

    /// As it would stand in this gateway's plan: on its first link of that kind.
    fn example_device(&self, profile: &Profile) -> NewDevice {
        let is_mqtt = matches!(profile.link, ProfileLink::Mqtt { .. });
        let fits = |kind: LinkKind| if is_mqtt { kind.has_topics() } else { kind == LinkKind::Modbus };
        let link = self.links.iter().find(|(_, kind)| fits(**kind)).map(|(link, _)| link.to_string());
        let at = match (is_mqtt, profile.is_sparkplug()) {
            (true, true) => Reach::Address("组/边缘节点/设备".to_owned()),
            (true, false) => Reach::Address("设备在主题里的那一段".to_owned()),
            (false, _) => Reach::Unit(1),
        };
        NewDevice {
            id: self.free_id(profile.id.as_str().rsplit('/').next().unwrap_or("device")),
            name: profile.model.zh.to_string(),
            place: "装在哪里".to_owned(),
            profile: profile.id.to_string(),
            link: link.unwrap_or_else(|| if is_mqtt { "broker" } else { "bus" }.to_owned()),
            at,
        }
    }
}

fn group_of(class: &str) -> &'static str {
    let of = |group: &&Group| group.classes.iter().any(|start| class.starts_with(start));
    GROUPS.iter().find(of).map_or("other", |group| group.name)
}
