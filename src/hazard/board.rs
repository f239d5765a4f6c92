//! READINGS → TRANSITIONS: the plan laid out flat, so that a reading finds its rules without searching or allocating.
//!
//! One [`Slot`] for each rule on each point, in the order of the plan; after them the orphans: rows whose point or
//! rule the plan no longer has.

use super::lifecycle::Standing;
use crate::model::{
    Condition, DeviceId, Fact, Flaw, Hazard, LINK_POINT, LinkId, Phase, Plan, PointId, Quality, Reading,
    Rule, RuleId, Span, Timestamp, Value,
};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Times of readings remembered for each fire rule, to know a repeated report. A broker repeats what was in flight: 20
/// messages by default.
const MET_REMEMBERED_MAX: usize = 32;

/// Everything the engine remembers.
#[derive(Debug, Clone)]
pub(super) struct Board {
    pub(super) plan: Arc<Plan>,
    pub(super) index: HashMap<PointId, usize>,
    pub(super) points: Vec<WatchedPoint>,
    pub(super) devices: Vec<WatchedDevice>,
    pub(super) slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
pub(super) struct WatchedPoint {
    pub(super) id: PointId,
    pub(super) device: usize,
    pub(super) slots: Range<usize>,
    /// What others say of the device: no sign of its life.
    pub(super) hearsay: bool,
    pub(super) seen: Option<Seen>,
}

#[derive(Debug, Clone)]
pub(super) struct WatchedDevice {
    pub(super) id: DeviceId,
    pub(super) link: LinkId,
    pub(super) silent_after: Option<Span>,
    /// The slots of its silence rules.
    pub(super) silence: Vec<usize>,
    pub(super) heard: Option<Timestamp>,
}

/// One rule on one point.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) point: PointId,
    pub(super) rule_id: RuleId,
    /// `None`: an orphan, the plan no longer has it.
    pub(super) watch: Option<Watch>,
    pub(super) phase: Phase,
    pub(super) hazard: Option<Box<Hazard>>,
    /// The newest value that met the rule while its on-delay runs: the evidence of the hazard to come.
    pub(super) pending: Option<Box<Sample>>,
    /// Only for fire rules: the devices' times of the newest readings that met it. Not kept over a restart: then an
    /// old report may be told twice, never too little.
    pub(super) met: Vec<Timestamp>,
    /// Only for rules of silence.
    pub(super) silence: Option<Silence>,
    /// Changed in this call; already in the engine's list.
    pub(super) touched: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Watch {
    pub(super) rule: Arc<Rule>,
    pub(super) point: usize,
    pub(super) device: usize,
}

/// How a rule of silence stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    pub(super) after: Span,
    /// Silence before this moment does not count: the gateway or the link was deaf itself.
    pub(super) from: Timestamp,
    /// A deadline for it is in the queue (perhaps an old one, which will then be moved).
    pub(super) queued: bool,
    /// The budget was used up and nothing has been heard since.
    pub(super) silent: bool,
}

/// The part of a reading that becomes evidence.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) value: Value,
    pub(super) flaw: Option<Flaw>,
    pub(super) sampled_at: Option<Timestamp>,
    pub(super) late: bool,
}

/// The newest reading of a point.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) sample: Sample,
    pub(super) quality: Quality,
    pub(super) received_at: Timestamp,
}

impl Sample {
    pub(super) fn of(reading: &Reading) -> Self {
        Self {
            value: reading.value.clone(),
            flaw: reading.flaw,
            sampled_at: reading.sampled_at,
            late: reading.late,
        }
    }
}

impl Seen {
    pub(super) fn of(reading: &Reading) -> Self {
        Self { sample: Sample::of(reading), quality: reading.quality, received_at: reading.received_at }
    }

    fn time(&self) -> Timestamp {
        self.sample.sampled_at.unwrap_or(self.received_at)
    }

    /// Whether the reading says exactly what is known already.
    pub(super) fn says_the_same(&self, reading: &Reading) -> bool {
        self.sample.value == reading.value
            && self.quality == reading.quality
            && self.sample.flaw == reading.flaw
    }
}

impl Slot {
    pub(super) fn standing(&self) -> Standing {
        let hazard = self.hazard.as_deref();
        Standing {
            acknowledged: hazard.is_some_and(|hazard| hazard.acknowledged.is_some()),
            silenced: hazard.is_some_and(|hazard| hazard.silenced.is_some()),
            latching: hazard.is_none_or(|hazard| hazard.latching),
        }
    }

    pub(super) fn fact(&self) -> Fact {
        Fact {
            point: self.point.clone(),
            rule: self.rule_id.clone(),
            phase: self.phase,
            hazard: self.hazard.as_deref().cloned(),
        }
    }

    pub(super) fn remember_met(&mut self, time: Timestamp) {
        if self.met.contains(&time) {
            return;
        }
        if self.met.len() >= MET_REMEMBERED_MAX {
            self.met.remove(0);
        }
        self.met.push(time);
    }

    /// Puts a remembered row here. What the row cannot mean is mended towards the safe side.
    fn take(&mut self, row: Row) {
        let open = row.hazard.filter(|hazard| hazard.closed.is_none());
        let was = row.phase;
        self.phase = match (was, &open) {
            (Phase::Normal | Phase::Arming { .. }, None) => was,
            (Phase::Active | Phase::Clearing { .. } | Phase::Returned | Phase::Rearming { .. }, None) => {
                Phase::Normal
            }
            (Phase::Normal | Phase::Arming { .. }, Some(hazard)) if hazard.returned_at.is_some() => {
                Phase::Returned
            }
            (Phase::Normal | Phase::Arming { .. }, Some(_)) => Phase::Active,
            (Phase::Active | Phase::Clearing { .. } | Phase::Returned | Phase::Rearming { .. }, Some(_)) => {
                was
            }
        };
        self.hazard = open;
        self.pending = row.pending;
        self.met = row.met;
        // An on-delay that began under another limit proves nothing about the new one: it begins again with the
        // next reading. An orphan has no readings that could end it.
        let same_limit = match (&row.rule, &self.watch) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(old), Some(watch)) => {
                old.condition == watch.rule.condition && old.on_delay == watch.rule.on_delay
            }
        };
        if !same_limit {
            self.phase = match self.phase {
                Phase::Arming { .. } => Phase::Normal,
                Phase::Rearming { .. } => Phase::Returned,
                Phase::Normal | Phase::Active | Phase::Clearing { .. } | Phase::Returned => self.phase,
            };
            self.pending = None;
        }
        if let Some(silence) = &mut self.silence {
            silence.silent =
                matches!(self.phase, Phase::Arming { .. } | Phase::Active | Phase::Rearming { .. });
            if let Some(old) = row.silence.filter(|old| old.after == silence.after) {
                silence.from = old.from;
            }
        }
        self.touched |= row.touched || self.phase != was;
    }
}

/// A row on its way from the journal or from the previous plan to its slot.
pub(super) struct Row {
    phase: Phase,
    hazard: Option<Box<Hazard>>,
    pending: Option<Box<Sample>>,
    met: Vec<Timestamp>,
    silence: Option<Silence>,
    rule: Option<Arc<Rule>>,
    touched: bool,
}

impl Board {
    /// Lays out a plan; nothing has happened yet. Silence counts from `now`.
    pub(super) fn new(plan: Arc<Plan>, now: Timestamp) -> Self {
        // Made in their size at once: they never grow but for orphans, and are most of what the engine takes in memory.
        let points = || plan.devices().flat_map(|(_, _, device)| &device.points);
        let mut board = Self {
            plan: plan.clone(),
            index: HashMap::with_capacity(points().count()),
            points: Vec::with_capacity(points().count()),
            devices: Vec::with_capacity(plan.devices().count()),
            slots: Vec::with_capacity(points().map(|point| point.rules.len()).sum()),
        };
        for (_, _, device) in plan.devices() {
            // Device ids are unique (config checks it); if not, the one that the plan's index finds counts.
            if !plan.device(device.id.as_str()).is_some_and(|(_, _, known)| std::ptr::eq(known, device)) {
                continue;
            }
            let number = board.devices.len();
            let mut silence = Vec::new();
            for point in &device.points {
                let first = board.slots.len();
                for rule in &point.rules {
                    if let Condition::Silent { .. } = rule.condition {
                        silence.push(board.slots.len());
                    }
                    board.slots.push(Slot::new(
                        point.id.clone(),
                        Watch { rule: rule.clone(), point: board.points.len(), device: number },
                        now,
                    ));
                }
                board.index.insert(point.id.clone(), board.points.len());
                let slots = first..board.slots.len();
                let hearsay = point.id.name() == LINK_POINT;
                board.points.push(WatchedPoint {
                    id: point.id.clone(),
                    device: number,
                    slots,
                    hearsay,
                    seen: None,
                });
            }
            board.devices.push(WatchedDevice {
                id: device.id.clone(),
                link: device.link.clone(),
                silent_after: device.silent_after,
                silence,
                heard: None,
            });
        }
        board
    }

    /// Takes the rows of the journal back.
    pub(super) fn recall(&mut self, facts: Vec<Fact>, last: &[Reading], now: Timestamp) {
        for reading in last {
            let Some(&number) = self.index.get(&reading.point) else { continue };
            let point = &mut self.points[number];
            let newer = point.seen.as_ref().is_none_or(|seen| reading.time() >= seen.time());
            if newer {
                point.seen = Some(Seen::of(reading));
            }
            if reading.flaw != Some(Flaw::NoAnswer) && !point.hearsay {
                let device = &mut self.devices[point.device];
                device.heard = device.heard.max(Some(reading.received_at.min(now)));
            }
        }
        for fact in facts {
            let row = Row {
                phase: fact.phase,
                hazard: fact.hazard.map(Box::new),
                pending: None,
                met: Vec::new(),
                silence: None,
                rule: None,
                touched: false,
            };
            self.place(fact.point, fact.rule, row);
        }
        self.slots.shrink_to_fit(); // The first orphan has doubled it.
    }

    /// Takes over what the board of the previous plan knew. A device that is now reached by another link was not heard
    /// there yet: its silence counts anew.
    pub(super) fn inherit(&mut self, old: Self) {
        let Self { devices, points, slots, .. } = old;
        let number = |(number, device): (usize, &WatchedDevice)| (device.id.clone(), number);
        let numbers: HashMap<DeviceId, usize> = self.devices.iter().enumerate().map(number).collect();
        let mut same_link = vec![false; devices.len()];
        for (device, same_link) in devices.into_iter().zip(&mut same_link) {
            if let Some(&number) = numbers.get(&device.id) {
                let here = &mut self.devices[number];
                here.heard = device.heard;
                *same_link = here.link == device.link;
            }
        }
        for point in points {
            if let Some(&number) = self.index.get(&point.id) {
                self.points[number].seen = point.seen;
            }
        }
        for slot in slots {
            let stays = slot.watch.as_ref().is_some_and(|watch| same_link[watch.device]);
            let row = Row {
                phase: slot.phase,
                hazard: slot.hazard,
                pending: slot.pending,
                met: slot.met,
                silence: slot.silence.filter(|_| stays),
                rule: slot.watch.map(|watch| watch.rule),
                touched: slot.touched,
            };
            self.place(slot.point, slot.rule_id, row);
        }
        self.slots.shrink_to_fit(); // The first orphan has doubled it.
    }

    fn place(&mut self, point: PointId, rule: RuleId, row: Row) {
        let planned = self.index.get(&point).and_then(|&number| {
            self.points[number].slots.clone().find(|&slot| self.slots[slot].rule_id == rule)
        });
        if let Some(slot) = planned {
            return self.slots[slot].take(row);
        }
        if row.phase == Phase::Normal && row.hazard.is_none() && !row.touched {
            return; // Nothing to remember, and nobody waits to be told.
        }
        let mut orphan = Slot {
            point,
            rule_id: rule,
            watch: None,
            phase: Phase::Normal,
            hazard: None,
            pending: None,
            met: Vec::new(),
            silence: None,
            touched: false,
        };
        orphan.take(row);
        self.slots.push(orphan);
    }
}

impl Slot {
    fn new(point: PointId, watch: Watch, now: Timestamp) -> Self {
        let silence = match watch.rule.condition {
            Condition::Silent { after } => Some(Silence { after, from: now, queued: false, silent: false }),
            Condition::AtLeast { .. }
            | Condition::Below { .. }
            | Condition::OneOf(_)
            | Condition::Is(_)
            | Condition::Unusable => None,
        };
        Self {
            point,
            rule_id: watch.rule.id.clone(),
            watch: Some(watch),
            phase: Phase::Normal,
            hazard: None,
            pending: None,
            met: Vec::new(),
            silence,
            touched: false,
        }
    }
}
