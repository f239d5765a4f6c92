//! THE LOOP, rehearsed: the hazard examples of a profile, played by the [`Player`] with one device of that model, alone in
//! a plan without overrides, under the default rules of its classes.
//!
//! An example's own time is moved along with its frame, so that a series is as fresh as it says it is. Registers are
//! read again and again while time passes, as on a bus: what the last frame said holds until the next.

mod draft;

use super::read::{link_reading, reading};
use super::{Binding, Played, Player};
use crate::hazard::meets;
use crate::journal::{LogLine, Logged};
use crate::model::{
    Change, Condition, Device, DeviceId, LINK_POINT, LinkId, Plan, Point, PointId, Reading, Rule, RuleId,
    SignalClass, Site, SiteId, Span, Timestamp, Zone, ZoneId,
};
use crate::profile::{Decoded, Example, HazardExample, PointClass, Profile, ProfileLink, Told, Vocabulary};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The class of the point `link`.
const LINK_CLASS: &str = "link_state";

/// When a series begins.
const START: Timestamp = Timestamp::from_secs(1_767_225_600); // 2026-01-01T00:00:00Z

/// A rule that has to be seen at work in a hazard example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The point.
    pub point: String,
    /// The rule.
    pub rule: RuleId,
    /// It closes by itself once it was seen and is over.
    pub self_clearing: bool,
    /// Why.
    pub why: Why,
}

/// Why a rule has to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// This example meets it.
    Example(String),
    /// It is a limit of fire: a scale that is wrong by ten would never reach it.
    FireLimit,
    /// The profile can alarm, and no hazard example shows any alarm of it.
    NothingShown,
}

/// A profile on the stage.
#[derive(Debug)]
pub struct Rehearsal {
    profile: Arc<Profile>,
    plan: Arc<Plan>,
    binding: Binding,
}

impl Rehearsal {
    /// One device of that model. `None`: the vocabulary lacks one of its classes.
    pub fn new(profile: &Arc<Profile>, vocabulary: &Vocabulary) -> Option<Self> {
        let device = DeviceId::parse("device").ok()?;
        let link = LinkId::parse("link").ok()?;
        let mut points = Vec::new();
        for shape in &profile.points {
            let class = vocabulary.class(shape.class.as_str())?;
            points.push(point(PointId::new(&device, &shape.name).ok()?, class, profile)?);
        }
        let ids = points.iter().map(|point| point.id.clone()).collect();
        points.push(point(PointId::new(&device, LINK_POINT).ok()?, vocabulary.class(LINK_CLASS)?, profile)?);
        let planned = Device {
            id: device.clone(),
            name: "".into(),
            place: "".into(),
            profile: profile.id.clone(),
            model: profile.model.clone(),
            link: link.clone(),
            silent_after: profile.silent_after,
            commands: Vec::new(),
            points,
        };
        let zone = Zone { id: ZoneId::parse("zone").ok()?, name: "".into(), devices: vec![planned] };
        let site = Site {
            id: SiteId::parse("site").ok()?,
            name: "".into(),
            address: "".into(),
            contacts: Vec::new(),
            zones: vec![zone],
        };
        let binding = Binding { device, link, address: String::new(), profile: profile.clone(), points: ids };
        Some(Self { profile: profile.clone(), plan: Arc::new(Plan::new(vec![site])), binding })
    }

    /// Plays a series: every change of a hazard that comes of it, in order.
    pub fn play(&self, series: &HazardExample) -> Vec<Told> {
        let mut player = Player::new(self.plan.clone(), Vec::new(), START);
        let mut stage = Stage { player: &mut player, told: Vec::new(), step: 0, since: START };
        let mut at = START;
        let mut last: Option<&Example> = None;
        for (place, step) in series.series.iter().enumerate() {
            let next = at + step.wait;
            if let (ProfileLink::Modbus { every, .. }, Some(example)) = (&self.profile.link, last) {
                self.poll_on(example, at, next, *every, &mut stage);
            }
            let lines = stage.player.wait_until(next);
            stage.take(lines);
            at = next;
            if let Some(example) = step.example.and_then(|place| self.profile.examples.get(place)) {
                let played = self.frame(example, at, stage.player);
                // Frames of the same moment have a millisecond each.
                let since = played.readings.first().map_or(at, |reading| reading.received_at);
                (stage.step, stage.since, last) = (place, since, Some(example));
                stage.take(played.lines);
            }
        }
        stage.told
    }

    /// What was read of a bus is read again until `next`, and as long as the frame lasts.
    fn poll_on(&self, example: &Example, at: Timestamp, next: Timestamp, every: Span, stage: &mut Stage<'_>) {
        let mut poll = at + every;
        while every > Span::ZERO && poll < next {
            let lines = stage.player.wait_until(poll);
            stage.take(lines);
            let played = self.frame(example, poll, stage.player);
            stage.take(played.lines);
            poll = poll + every;
        }
    }

    fn frame(&self, example: &Example, at: Timestamp, player: &mut Player) -> Played {
        let mut played = Played::default();
        player.told(&self.binding, &self.decoded(example, at), at, false, &mut played);
        played
    }

    /// An example as if it came at that time: its device's clock has gone on as long as ours.
    fn decoded(&self, example: &Example, at: Timestamp) -> Decoded {
        let mut decoded = self.profile.decode_example(example);
        let later = at.since(example.received_at);
        for sample in &mut decoded.samples {
            sample.sampled_at = sample.sampled_at.map(|time| time + later);
        }
        decoded
    }

    /// Every rule that has to be shown: what an example of the file meets, and every limit of fire. What is refused says
    /// nothing, and what is late raises nothing but a fire.
    pub fn due(&self) -> Vec<Due> {
        let mut due: Vec<Due> = Vec::new();
        let mut add = |point: &Point, rule: &Rule, why: Why| {
            if !due.iter().any(|one| one.point == point.id.name() && one.rule == rule.id) {
                let (point, rule_id) = (point.id.name().to_owned(), rule.id.clone());
                due.push(Due { point, rule: rule_id, self_clearing: !rule.latching, why });
            }
        };
        for example in self.profile.examples.iter().filter(|example| !example.refused) {
            for reading in self.readings(example) {
                let point = self.points().find(|point| point.id == reading.point);
                for (point, rule) in point.into_iter().flat_map(rules_of) {
                    let counts = !reading.late || rule.signal == SignalClass::Fire;
                    if counts && meets(rule, &reading) {
                        add(point, rule, Why::Example(example.name.clone()));
                    }
                }
            }
        }
        for (point, rule) in self.points().flat_map(rules_of) {
            if rule.signal == SignalClass::Fire && rule.condition.limit().is_some() {
                add(point, rule, Why::FireLimit);
            }
        }
        due
    }

    /// Whether a state or a limit of one of its points raises anything: more than being unusable or silent.
    pub fn can_alarm(&self) -> bool {
        self.alarms().next().is_some()
    }

    fn alarms(&self) -> impl Iterator<Item = (&Point, &Rule)> {
        let all = self.points().flat_map(rules_of);
        all.filter(|(_, rule)| !matches!(rule.condition, Condition::Unusable | Condition::Silent { .. }))
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        let zones = self.plan.sites.iter().flat_map(|site| &site.zones);
        zones.flat_map(|zone| &zone.devices).flat_map(|device| &device.points)
    }

    fn readings(&self, example: &Example) -> Vec<Reading> {
        let decoded = self.decoded(example, START);
        let samples = decoded.samples.iter();
        let mut readings: Vec<Reading> =
            samples.filter_map(|sample| reading(&self.binding, sample, START, false)).collect();
        readings.extend(decoded.link.and_then(|online| link_reading(&self.binding.device, online, START)));
        readings
    }

    /// What has to be shown and is not raised by the hazard examples of the file.
    pub fn unshown(&self) -> Vec<Due> {
        let expected = self.profile.hazard_examples.list.iter().flat_map(|example| &example.expected);
        let raised: BTreeSet<(&str, &RuleId)> = expected
            .filter(|told| told.change == Change::Raised)
            .map(|told| (told.point.as_str(), &told.rule))
            .collect();
        let is_raised = |point: &str, rule: &RuleId| raised.contains(&(point, rule));
        let mut unshown = self.due();
        unshown.retain(|one| !is_raised(&one.point, &one.rule));
        if unshown.is_empty() && !self.alarms().any(|(point, rule)| is_raised(point.id.name(), &rule.id)) {
            unshown.extend(self.alarms().next().map(|(point, rule)| Due {
                point: point.id.name().to_owned(),
                rule: rule.id.clone(),
                self_clearing: !rule.latching,
                why: Why::NothingShown,
            }));
        }
        unshown
    }
}

fn rules_of(point: &Point) -> impl Iterator<Item = (&Point, &Rule)> {
    point.rules.iter().map(move |rule| (point, &**rule))
}

/// A series while it is played.
struct Stage<'a> {
    player: &'a mut Player,
    told: Vec<Told>,
    /// The frame that holds, and since when.
    step: usize,
    since: Timestamp,
}

impl Stage<'_> {
    fn take(&mut self, lines: Vec<LogLine>) {
        for line in lines {
            let Logged::Transition(moved) = line.what else { continue };
            self.told.push(Told {
                step: self.step,
                after: moved.at.since(self.since),
                point: moved.hazard.point.name().to_owned(),
                signal: moved.hazard.signal,
                rule: moved.hazard.rule.clone(),
                change: moved.change,
                latched: moved.change == Change::Returned && moved.hazard.latching,
            });
        }
    }
}

/// A point with the rules that a plan without overrides gives it.
fn point(id: PointId, class: &PointClass, profile: &Profile) -> Option<Point> {
    let shape = profile.points.iter().find(|shape| shape.name == id.name());
    let is_heard_of = id.name() != LINK_POINT || profile.reports_link();
    let rules = class.rules.iter().filter_map(|rule| {
        let silent = matches!(rule.condition, Condition::Silent { .. });
        let condition = match rule.condition {
            Condition::Silent { .. } => Condition::Silent { after: profile.silent_after? },
            ref other => other.clone(),
        };
        (silent || is_heard_of).then(|| Arc::new(Rule { condition, ..rule.clone() }))
    });
    Some(Point {
        class: class.id.clone(),
        name: class.name.clone(),
        quantity: class.quantity,
        range: shape.and_then(|shape| shape.range).or(class.range),
        states: class.states.clone(),
        decimals: class.decimals,
        rules: rules.collect(),
        id,
    })
}
