//! READINGS → TRANSITIONS, second half: the life of a hazard, the WHOLE table in one `match` without a wildcard arm.

use crate::model::{Change, Phase, Refusal, Timestamp};

/// All that can happen to one rule on one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Signal {
    /// The condition is met; `due`: when the on-delay would end if it began now, `None` without one.
    Met {
        /// End of the on-delay.
        due: Option<Timestamp>,
    },
    /// The condition is not met; `due`: when the off-delay would end if it began now, `None` without one.
    NotMet {
        /// End of the off-delay.
        due: Option<Timestamp>,
    },
    /// A reading came that says nothing: bad or missing.
    Unknown,
    /// The phase's own deadline passed.
    Elapsed,
    /// A person has seen it.
    Acknowledge,
    /// A person wants the sound off.
    Silence,
    /// A person wants it closed.
    Reset(Sight),
    /// Asked after every change: is this hazard at its end by itself?
    Settle,
}

/// What is known of the condition right now, when a person asks for a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sight {
    /// Fresh, usable readings: the phase tells the truth.
    Known,
    /// The device is silent or its last reading unusable: nobody can know without going there.
    Blind {
        /// The operator wrote who looked.
        note: bool,
    },
    /// The plan no longer has the point or the rule: nothing will ever say that it is over.
    Gone,
}

/// What the table needs to know of the hazard that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Standing {
    /// A person has seen it.
    pub(super) acknowledged: bool,
    /// Its sound is off.
    pub(super) silenced: bool,
    /// Only a person's reset closes it.
    pub(super) latching: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Another phase; nothing for the duty log.
    To(Phase),
    /// A line in the duty log, and the phase after it.
    Log(Phase, Change),
    /// The person is told why not.
    Refuse(Refusal),
}

/// The table. Every phase meets every signal here.
pub(super) fn step(phase: Phase, signal: Signal, hazard: Standing) -> Step {
    use Phase::{Active, Arming, Clearing, Normal, Rearming, Returned};
    use Signal::{Acknowledge, Elapsed, Met, NotMet, Reset, Settle, Silence, Unknown};
    match (phase, signal) {
        // No hazard yet.
        (Normal, Met { due: Some(due) }) => Step::To(Arming { due }),
        (Normal | Arming { .. }, Met { due: None }) => Step::Log(Active, Change::Raised),
        (Arming { .. }, Elapsed) => Step::Log(Active, Change::Raised),
        (Arming { .. }, NotMet { .. }) => Step::To(Normal),
        (Arming { .. }, Met { due: Some(_) } | Unknown | Settle) => Step::Stay,
        (Normal, NotMet { .. } | Unknown | Elapsed | Settle) => Step::Stay,
        (Normal | Arming { .. }, Acknowledge | Silence | Reset(_)) => Step::Refuse(Refusal::NoSuchHazard),

        // Raised, and the condition is met or only just over.
        (Active, NotMet { due: Some(due) }) => Step::To(Clearing { due }),
        (Active | Clearing { .. }, NotMet { due: None }) => Step::Log(Returned, Change::Returned),
        (Clearing { .. }, Elapsed) => Step::Log(Returned, Change::Returned),
        (Clearing { .. }, Met { .. }) => Step::To(Active),
        (Clearing { .. }, NotMet { due: Some(_) } | Unknown | Settle) => Step::Stay,
        (Active, Met { .. } | Unknown | Elapsed | Settle) => Step::Stay,
        (Active | Clearing { .. }, Reset(sight)) => reset_unreturned(hazard, sight),

        // The condition is over; the hazard stands for a person.
        (Returned, Met { due: Some(due) }) => Step::To(Rearming { due }),
        (Returned | Rearming { .. }, Met { due: None }) => Step::Log(Active, Change::RaisedAgain),
        (Rearming { .. }, Elapsed) => Step::Log(Active, Change::RaisedAgain),
        (Rearming { .. }, NotMet { .. }) => Step::To(Returned),
        (Rearming { .. }, Met { due: Some(_) } | Unknown | Settle) => Step::Stay,
        (Returned, NotMet { .. } | Unknown | Elapsed) => Step::Stay,
        (Returned, Settle) if hazard.acknowledged && !hazard.latching => Step::Log(Normal, Change::Ended),
        (Returned, Settle) => Step::Stay,
        (Returned | Rearming { .. }, Reset(_)) if !hazard.acknowledged => {
            Step::Refuse(Refusal::NotAcknowledged)
        }
        (Returned, Reset(_)) | (Rearming { .. }, Reset(Sight::Gone)) => Step::Log(Normal, Change::Reset),
        // The on-delay that runs already goes on: the reset hides nothing.
        (Rearming { due }, Reset(Sight::Known | Sight::Blind { .. })) => {
            Step::Log(Arming { due }, Change::Reset)
        }

        // Seen, and sound off: allowed once while it stands; neither moves the phase.
        (Active | Clearing { .. } | Returned | Rearming { .. }, Acknowledge) => match hazard.acknowledged {
            true => Step::Refuse(Refusal::AlreadyAcknowledged),
            false => Step::Log(phase, Change::Acknowledged),
        },
        (Active | Clearing { .. } | Returned | Rearming { .. }, Silence) => match hazard.silenced {
            true => Step::Refuse(Refusal::AlreadySilenced),
            false => Step::Log(phase, Change::Silenced),
        },
    }
}

/// A reset while the condition has not returned: only blind, and then only on a person's word.
fn reset_unreturned(hazard: Standing, sight: Sight) -> Step {
    if !hazard.acknowledged {
        return Step::Refuse(Refusal::NotAcknowledged);
    }
    match sight {
        Sight::Known => Step::Refuse(Refusal::StillActive),
        Sight::Blind { note: false } => Step::Refuse(Refusal::NoteRequired),
        Sight::Blind { note: true } | Sight::Gone => Step::Log(Phase::Normal, Change::Reset),
    }
}
