//! BESIDE THE FLOW · which model a sender may be: every profile that listens to its topic reads what is kept of it, and the one that
//! understands most comes first. Never on the hot path: only when a person opens the page.

use super::InForce;
use crate::model::{LinkId, Quality, Text, Timestamp};
use crate::profile::sparkplug::SparkplugTopic;
use crate::profile::{Decoded, Part, Profile, ProfileLink, Sample};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most candidates that are shown: more are no help to a person who chooses.
pub const CANDIDATES_MAX: usize = 4;

/// The most models of another topic that are named: hints, no choices.
pub const ALIKE_MAX: usize = 3;

/// What may be decoded to find the candidates, in bytes of payload: 134 profiles times four frames of 4 KiB are 2 MiB. A usual
/// frame of 100 bytes takes all of them 3 ms, unoptimised. Larger frames are tried with fewer profiles.
const TRIED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Between a topic and the address of a part of its message, in what a part is kept under.
const PART: char = '#';

/// Somebody whom nobody planned, as he stands on the page 待接入.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The link he sends on.
    pub link: LinkId,
    /// His topic, without the part.
    pub topic: String,
    /// The address of a part, when a message told of several devices.
    pub part: Option<String>,
}

impl Sender {
    /// From the key of his row: link and topic. `None`: it is no topic (a DTU, an announcement).
    pub fn of(key: &str) -> Option<Self> {
        let (link, topic) = key.split_once(' ')?;
        let link = LinkId::parse(link).ok()?;
        let (topic, part) = match topic.split_once(PART) {
            Some((topic, part)) => (topic, Some(part.to_owned())),
            None => (topic, None),
        };
        // What announces itself is kept under its name, not under a topic.
        let announced = topic.starts_with("homeassistant: ");
        (!topic.is_empty() && !announced).then(|| Self { link, topic: topic.to_owned(), part })
    }
}

/// One frame of a sender.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The payload.
    pub payload: Vec<u8>,
    /// When it came.
    pub at: Timestamp,
}

/// A model that the sender may be.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// `vendor/model`.
    pub profile: String,
    /// What the model is called.
    pub name: Text,
    /// Who makes it, and its number.
    pub maker: String,
    /// Somebody tried it on the hardware.
    pub verified: bool,
    /// What stands for the sender in its topics.
    pub address: String,
    /// What the frames read as.
    pub readings: Vec<Shown>,
    /// How many points were understood.
    pub understood: usize,
    /// How many points it has.
    pub points: usize,
    /// What could not be read, for a person.
    pub problems: Vec<String>,
    /// Its own topics: to be told when they are others than the sender's.
    pub topics: Vec<String>,
}

/// One value of the preview.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What the point is called.
    pub name: Text,
    /// What it says, with its unit.
    pub value: Text,
    /// It can be trusted.
    pub good: bool,
}

impl Candidate {
    /// Points understood minus problems; of two alike the one of which less is missing, and then the one that was tried.
    fn rank(&self) -> (i64, i64, bool) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let missing = self.points.saturating_sub(self.understood);
        (count(self.understood) - count(self.problems.len()), -count(missing), self.verified)
    }
}

/// What the frames of a sender may be.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Models that listen to his topic, the likeliest first.
    pub fitting: Vec<Candidate>,
    /// How many more there are.
    pub more: usize,
    /// Models that understand the message on another topic.
    pub alike: Vec<Candidate>,
}

impl InForce {
    /// What a sender may be. `first`: a model that a person wants to see, if it listens to the topic.
    pub fn candidates(&self, sender: &Sender, sent: &[Sent], first: Option<&str>) -> Candidates {
        let mut found = Candidates::default();
        let budget = &mut TRIED_BYTES_MAX.clone();
        let profiles = || self.library.profiles.values().filter(|profile| is_mqtt(profile));
        // Whoever listens to the topic first: what is left of the budget is for the others.
        for profile in profiles() {
            if let Some((topic, address)) = listens(profile, sender) {
                found.fitting.push(self.try_one(profile, topic, address, sender, sent, budget));
            }
        }
        for profile in profiles().filter(|profile| listens(profile, sender).is_none()) {
            let kinds = 0..profile.topics().len();
            let tried = kinds
                .map(|topic| self.try_one(profile, topic, String::new(), sender, sent, budget))
                .max_by_key(Candidate::rank);
            found.alike.extend(tried.filter(|tried| tried.understood >= 2 && tried.problems.is_empty()));
        }
        for list in [&mut found.fitting, &mut found.alike] {
            list.sort_by_key(|candidate| std::cmp::Reverse(candidate.rank()));
        }
        if let Some(at) = found.fitting.iter().position(|candidate| Some(&*candidate.profile) == first) {
            found.fitting[..=at].rotate_right(1);
        }
        // A model that reads nothing of it is no help, unless nobody reads more or a person asked for it.
        let of_use = |one: &Candidate| one.understood > 0 || Some(&*one.profile) == first;
        let listening = found.fitting.len();
        if found.fitting.iter().any(|one| one.understood > 0) {
            found.fitting.retain(of_use);
        }
        found.more = listening.saturating_sub(found.fitting.len().min(CANDIDATES_MAX));
        found.fitting.truncate(CANDIDATES_MAX);
        found.alike.truncate(ALIKE_MAX);
        found
    }

    /// The model that a person means who typed this: its id, or else the first that has all the words and listens to the sender.
    pub fn meant(&self, typed: &str, sender: &Sender) -> Option<String> {
        if self.library.profiles.contains_key(typed) {
            return Some(typed.to_owned());
        }
        let hears = |model: &super::Model| {
            self.library.profiles.get(&*model.id).is_some_and(|profile| listens(profile, sender).is_some())
        };
        let models = self.models_on_topics().into_iter();
        models.filter(|model| model.is_found_by(typed)).find(hears).map(|model| model.id)
    }

    /// What stands for the sender in the topics of this model; `None`: it does not listen there.
    pub fn address_of(&self, profile: &str, sender: &Sender, sent: &[Sent]) -> Option<String> {
        let profile = self.library.profiles.get(profile)?;
        let (topic, address) = listens(profile, sender)?;
        Some(self.try_one(profile, topic, address, sender, sent, &mut TRIED_BYTES_MAX.clone()).address)
    }

    fn try_one(
        &self,
        profile: &Arc<Profile>,
        topic: usize,
        mut address: String,
        sender: &Sender,
        sent: &[Sent],
        budget: &mut usize,
    ) -> Candidate {
        let mut samples: BTreeMap<usize, Sample> = BTreeMap::new();
        let mut problems = Vec::new();
        for Sent { payload, at } in sent {
            let Some(left) = budget.checked_sub(payload.len()) else { break };
            *budget = left;
            let (part, decoded) = read(profile, topic, sender, payload, *at);
            if let Some(part) = part {
                address = if address.is_empty() { part } else { format!("{address}:{part}") };
            }
            for sample in decoded.samples {
                let known =
                    samples.get(&sample.point).is_some_and(|known| is_good(known) && !is_good(&sample));
                if !known {
                    samples.insert(sample.point, sample);
                }
            }
            for problem in decoded.problems {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
            if profile.is_shared() {
                // One part of one message is enough; the others are rows of their own once this one is planned.
                break;
            }
        }
        let readings = samples.values().filter_map(|sample| {
            let point = profile.points.get(sample.point)?;
            let class = self.library.vocabulary.class(point.class.as_str())?;
            let name = point.label.clone().unwrap_or_else(|| class.name.clone());
            Some(Shown { name, value: shown(profile, sample, &class.states), good: is_good(sample) })
        });
        Candidate {
            profile: profile.id.to_string(),
            name: profile.model.clone(),
            maker: format!("{} {}", profile.vendor, profile.model_number),
            verified: profile.verified.is_some(),
            address,
            readings: readings.collect(),
            understood: samples.values().filter(|sample| is_good(sample)).count(),
            points: profile.points.len(),
            problems,
            topics: profile.topics().iter().map(|topic| topic.as_str().to_owned()).collect(),
        }
    }
}

/// A state by its name, a flag as yes or no, anything else as an example writes it.
fn shown(profile: &Profile, sample: &Sample, states: &[(crate::model::Code, Text)]) -> Text {
    let text = profile.shown(sample);
    match &*text {
        "true" => return Text::new("是", "yes"),
        "false" => return Text::new("否", "no"),
        _ => {}
    }
    let state = states.iter().find(|(code, _)| **code == *text).map(|(_, name)| name.clone());
    state.unwrap_or_else(|| Text::new(&text, &text))
}

fn is_mqtt(profile: &Profile) -> bool {
    matches!(profile.link, ProfileLink::Mqtt { .. })
}

fn is_good(sample: &Sample) -> bool {
    matches!(sample.quality, Quality::Good | Quality::Uncertain)
}

/// Which of the model's topics this is, and the address in it.
pub(super) fn listens(profile: &Profile, sender: &Sender) -> Option<(usize, String)> {
    let topic = &sender.topic;
    if profile.is_sparkplug() {
        return SparkplugTopic::parse(topic).map(|topic| (0, topic.address()));
    }
    if sender.part.is_some() && !profile.is_shared() {
        return None;
    }
    let mut topics = profile.topics().iter().enumerate();
    let (kind, through) = topics.find_map(|(kind, form)| Some((kind, form.matches(topic)?)))?;
    let address = match &sender.part {
        Some(part) if through.is_empty() => part.clone(),
        Some(part) => format!("{through}:{part}"),
        None => through.to_owned(),
    };
    Some((kind, address))
}

/// What a frame says, and of which part of it.
fn read(
    profile: &Profile,
    topic: usize,
    sender: &Sender,
    payload: &[u8],
    at: Timestamp,
) -> (Option<String>, Decoded) {
    if !profile.is_shared() {
        return (None, profile.decode_message(topic, payload, at));
    }
    if sender.part.is_some() {
        return (None, profile.decode_part(topic, &Part::alone(payload), at));
    }
    let mut first = None;
    let read = profile.parts(payload, &mut |part| {
        if first.is_none() && part.address.is_some() {
            first = Some((part.address.clone(), profile.decode_part(topic, part, at)));
        }
    });
    match (first, read) {
        (Some(first), _) => first,
        (None, Err(why)) => (None, Decoded::refused(why)),
        (None, Ok(())) => (None, Decoded::refused("消息里没有设备".to_owned())),
    }
}
