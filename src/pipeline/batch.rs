//! THE LOOP, step 2: what is gathered until one transaction writes it.

use crate::commands::{Done, Refused};
use crate::journal::{Entry, Note, Restamp, Stray, StrayKind, Write};
use crate::model::{
    Change, Delivery, Fact, Outcome, PointId, Reading, RuleId, SourceIndex, Span, Timestamp, Transition,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where the answer to an operator's command goes.
pub(super) type Reply = oneshot::Sender<Result<Done, Refused>>;

/// Different strays in one entry. A flood of foreign messages must not make an entry of megabytes: 256 × 4 KiB is 1 MiB.
const STRAYS_MAX: usize = 256;

/// A message whose sender waits for us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) source: SourceIndex,
    pub(super) delivery: Delivery,
    pub(super) since: Timestamp,
}

/// What has happened since the last commit began.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) readings: Vec<Reading>,
    pub(super) transitions: Vec<Transition>,
    pub(super) notes: Vec<Note>,
    strays: Vec<Stray>,
    stray_slots: HashMap<(StrayKind, Arc<str>), usize>,
    facts: Vec<Fact>,
    fact_slots: HashMap<(PointId, RuleId), usize>,
    pub(super) receipts: Vec<u64>,
    /// The clock was set: the entries before this one are dated anew.
    pub(super) restamp: Option<Restamp>,
    pub(super) deliveries: Vec<Held>,
    /// How many of them are of each source.
    held: HashMap<SourceIndex, usize>,
    pub(super) replies: Vec<Reply>,
    /// Something in it must not wait for the commit window.
    pub(super) urgent: bool,
    /// When the first thing came in.
    pub(super) opened_at: Option<Timestamp>,
    /// When the oldest frame that raised a hazard was received.
    pub(super) hazard_from: Option<Timestamp>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty()
            && self.transitions.is_empty()
            && self.notes.is_empty()
            && self.strays.is_empty()
            && self.facts.is_empty()
            && self.deliveries.is_empty()
            && self.replies.is_empty()
    }

    /// Keeps the delivery until the commit.
    pub(super) fn hold(&mut self, source: SourceIndex, delivery: Delivery, since: Timestamp) {
        self.deliveries.push(Held { source, delivery, since });
        *self.held.entry(source).or_default() += 1;
    }

    /// These sources have ended: nobody waits for what they held.
    pub(super) fn let_go(&mut self, gone: &[SourceIndex]) {
        self.deliveries.retain(|held| !gone.contains(&held.source));
        self.held.retain(|source, _| !gone.contains(source));
    }

    /// How many messages of each source wait for the commit.
    pub(super) fn held(&self) -> impl Iterator<Item = (SourceIndex, usize)> {
        self.held.iter().map(|(source, count)| (*source, *count))
    }

    /// How many different strays it holds.
    pub(super) fn strays(&self) -> usize {
        self.strays.len()
    }

    /// Takes over what the engine said about one thing that was received at `received_at`.
    pub(super) fn take(&mut self, outcome: &mut Outcome, received_at: Option<Timestamp>) {
        if !outcome.transitions.is_empty() {
            // A line of the duty log is what people wait for: it goes out at once.
            self.urgent = true;
            let raised = outcome
                .transitions
                .iter()
                .any(|moved| matches!(moved.change, Change::Raised | Change::RaisedAgain));
            if raised && let Some(received_at) = received_at {
                self.hazard_from =
                    Some(self.hazard_from.map_or(received_at, |oldest| oldest.min(received_at)));
            }
            self.transitions.append(&mut outcome.transitions);
        }
        for fact in outcome.facts.drain(..) {
            let key = (fact.point.clone(), fact.rule.clone());
            match self.fact_slots.get(&key).and_then(|&slot| self.facts.get_mut(slot)) {
                Some(slot) => *slot = fact,
                None => {
                    self.fact_slots.insert(key, self.facts.len());
                    self.facts.push(fact);
                }
            }
        }
    }

    /// Takes what could not be read; the same key again only counts, with its newest sample. False: no room.
    pub(super) fn take_stray(&mut self, stray: Stray) -> bool {
        let key = (stray.kind, stray.key.clone());
        if let Some(known) = self.stray_slots.get(&key).and_then(|&slot| self.strays.get_mut(slot)) {
            *known = Stray { first_at: known.first_at, count: known.count + 1, ..stray };
            return true;
        }
        if self.strays.len() >= STRAYS_MAX {
            return false;
        }
        self.stray_slots.insert(key, self.strays.len());
        self.strays.push(stray);
        true
    }

    /// Moves what it waits for with the clock. What was read keeps its time.
    pub(super) fn shift(&mut self, by: Span) {
        self.opened_at = self.opened_at.map(|at| at + by);
        self.hazard_from = self.hazard_from.map(|at| at + by);
        self.deliveries.iter_mut().for_each(|held| held.since = held.since + by);
    }

    /// Closes the batch: what the journal writes, and what waits for it.
    pub(super) fn seal(mut self, no: u64, at: Timestamp) -> Sealed {
        // The entry stays in the journal's ring for a while: not with up to twice the room that it needs.
        if self.readings.capacity() > self.readings.len() + self.readings.len() / 4 {
            self.readings.shrink_to_fit();
        }
        let entry = Arc::new(Entry {
            no,
            at,
            recorded: true,
            readings: self.readings,
            transitions: self.transitions,
            notes: self.notes,
        });
        Sealed {
            write: Write {
                entry,
                facts: self.facts,
                receipts: self.receipts,
                strays: self.strays,
                restamp: self.restamp,
            },
            deliveries: self.deliveries,
            replies: self.replies,
            hazard_from: self.hazard_from,
            shown_unrecorded: false,
        }
    }
}

/// A closed batch on its way into the journal.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) write: Write,
    pub(super) deliveries: Vec<Held>,
    pub(super) replies: Vec<Reply>,
    pub(super) hazard_from: Option<Timestamp>,
    /// Its hazards were already shown, marked 未记录, because the journal kept everybody waiting.
    pub(super) shown_unrecorded: bool,
}

impl Sealed {
    /// As [`Batch::shift`].
    pub(super) fn shift(&mut self, by: Span) {
        self.hazard_from = self.hazard_from.map(|at| at + by);
        self.deliveries.iter_mut().for_each(|held| held.since = held.since + by);
    }
}
