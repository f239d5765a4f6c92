//! The lifecycle table against an oracle of invariants: every phase × every signal × every standing, none left out.

use super::lifecycle::{Sight, Signal, Standing, Step, step};
use crate::model::{Change, Phase, Refusal, Timestamp};
use std::collections::HashSet;

const OLD_DUE: Timestamp = Timestamp::from_secs(60);
const NEW_DUE: Timestamp = Timestamp::from_secs(90);

const PHASES: [Phase; 6] = [
    Phase::Normal,
    Phase::Arming { due: OLD_DUE },
    Phase::Active,
    Phase::Clearing { due: OLD_DUE },
    Phase::Returned,
    Phase::Rearming { due: OLD_DUE },
];

const SIGNALS: [Signal; 13] = [
    Signal::Met { due: None },
    Signal::Met { due: Some(NEW_DUE) },
    Signal::NotMet { due: None },
    Signal::NotMet { due: Some(NEW_DUE) },
    Signal::Unknown,
    Signal::Elapsed,
    Signal::Acknowledge,
    Signal::Silence,
    Signal::Reset(Sight::Known),
    Signal::Reset(Sight::Blind { note: false }),
    Signal::Reset(Sight::Blind { note: true }),
    Signal::Reset(Sight::Gone),
    Signal::Settle,
];

/// Every cell of the table.
fn cells() -> Vec<(Phase, Signal, Standing, Step)> {
    let mut cells = Vec::new();
    for phase in PHASES {
        for signal in SIGNALS {
            for bits in 0..8 {
                let hazard = Standing {
                    acknowledged: bits & 1 != 0,
                    silenced: bits & 2 != 0,
                    latching: bits & 4 != 0,
                };
                cells.push((phase, signal, hazard, step(phase, signal, hazard)));
            }
        }
    }
    assert_eq!(cells.len(), 6 * 13 * 8);
    cells
}

fn stands(phase: Phase) -> bool {
    !matches!(phase, Phase::Normal | Phase::Arming { .. })
}

fn is_command(signal: Signal) -> bool {
    matches!(signal, Signal::Acknowledge | Signal::Silence | Signal::Reset(_))
}

fn after(phase: Phase, step: Step) -> Phase {
    match step {
        Step::Stay | Step::Refuse(_) => phase,
        Step::To(next) | Step::Log(next, _) => next,
    }
}

#[test]
fn a_hazard_begins_only_by_a_raise_and_ends_only_by_a_reset_or_by_itself() {
    for (phase, signal, hazard, step) in cells() {
        let (before, now) = (stands(phase), stands(after(phase, step)));
        let begins = matches!(step, Step::Log(_, Change::Raised));
        let ends = matches!(step, Step::Log(_, Change::Reset | Change::Ended));
        assert_eq!(!before && now, begins, "{phase:?} {signal:?} {hazard:?} → {step:?}");
        assert_eq!(before && !now, ends, "{phase:?} {signal:?} {hazard:?} → {step:?}");
    }
}

#[test]
fn what_says_nothing_changes_nothing() {
    for (phase, signal, hazard, step) in cells() {
        if signal == Signal::Unknown {
            assert_eq!(step, Step::Stay, "{phase:?} {hazard:?}");
        }
    }
}

#[test]
fn only_a_met_condition_raises_and_only_an_unmet_one_returns() {
    for (phase, signal, hazard, step) in cells() {
        let cell = format!("{phase:?} {signal:?} {hazard:?} → {step:?}");
        match step {
            Step::Log(next, Change::Raised | Change::RaisedAgain) => {
                assert_eq!(next, Phase::Active, "{cell}");
                let waited = signal == Signal::Elapsed
                    && matches!(phase, Phase::Arming { .. } | Phase::Rearming { .. });
                assert!(waited || signal == Signal::Met { due: None }, "{cell}");
            }
            Step::Log(next, Change::Returned) => {
                assert_eq!(next, Phase::Returned, "{cell}");
                let waited = signal == Signal::Elapsed && matches!(phase, Phase::Clearing { .. });
                assert!(waited || signal == Signal::NotMet { due: None }, "{cell}");
            }
            Step::Log(..) | Step::Stay | Step::To(_) | Step::Refuse(_) => {}
        }
        if matches!(step, Step::Log(_, Change::RaisedAgain)) {
            assert!(matches!(phase, Phase::Returned | Phase::Rearming { .. }), "{cell}");
        }
    }
}

#[test]
fn a_met_condition_without_a_delay_is_always_active_afterwards() {
    for (phase, signal, hazard, step) in cells() {
        if signal == (Signal::Met { due: None }) {
            assert_eq!(after(phase, step), Phase::Active, "{phase:?} {hazard:?}");
        }
        if signal == (Signal::NotMet { due: None }) {
            let next = after(phase, step);
            assert!(matches!(next, Phase::Normal | Phase::Returned), "{phase:?} {hazard:?} → {next:?}");
        }
    }
}

#[test]
fn a_delay_once_begun_is_neither_moved_nor_cut_short() {
    for (phase, signal, hazard, step) in cells() {
        let cell = format!("{phase:?} {signal:?} {hazard:?} → {step:?}");
        let next = after(phase, step);
        if let Some(due) = next.due() {
            let begun = if phase.due().is_some() { OLD_DUE } else { NEW_DUE };
            assert_eq!(due, begun, "{cell}");
        }
        let runs_on =
            matches!(signal, Signal::Unknown | Signal::Acknowledge | Signal::Silence | Signal::Settle)
                || matches!(
                    (phase, signal),
                    (Phase::Arming { .. } | Phase::Rearming { .. }, Signal::Met { due: Some(_) })
                )
                || matches!((phase, signal), (Phase::Clearing { .. }, Signal::NotMet { due: Some(_) }));
        if runs_on && phase.due().is_some() {
            assert_eq!(next, phase, "{cell}");
        }
        if signal == Signal::Elapsed && phase.due().is_none() {
            assert_eq!(step, Step::Stay, "{cell}");
        }
    }
}

#[test]
fn seen_and_sound_off_never_move_the_phase_and_are_signed_once() {
    for (phase, signal, hazard, step) in cells() {
        let (change, already, refusal) = match signal {
            Signal::Acknowledge => (Change::Acknowledged, hazard.acknowledged, Refusal::AlreadyAcknowledged),
            Signal::Silence => (Change::Silenced, hazard.silenced, Refusal::AlreadySilenced),
            _ => continue,
        };
        let wanted = match (stands(phase), already) {
            (false, _) => Step::Refuse(Refusal::NoSuchHazard),
            (true, true) => Step::Refuse(refusal),
            (true, false) => Step::Log(phase, change),
        };
        assert_eq!(step, wanted, "{phase:?} {signal:?} {hazard:?}");
    }
}

#[test]
fn a_reset_needs_a_seen_hazard_and_an_ended_condition_or_a_persons_word() {
    for (phase, signal, hazard, step) in cells() {
        let Signal::Reset(sight) = signal else { continue };
        let returned = matches!(phase, Phase::Returned | Phase::Rearming { .. });
        let vouched = matches!(sight, Sight::Gone | Sight::Blind { note: true });
        let wanted = if !stands(phase) {
            Err(Refusal::NoSuchHazard)
        } else if !hazard.acknowledged {
            Err(Refusal::NotAcknowledged)
        } else if returned || vouched {
            Ok(())
        } else if sight == Sight::Known {
            Err(Refusal::StillActive)
        } else {
            Err(Refusal::NoteRequired)
        };
        let got = match step {
            Step::Log(_, Change::Reset) => Ok(()),
            Step::Refuse(refusal) => Err(refusal),
            other => panic!("{phase:?} {signal:?} {hazard:?} → {other:?}"),
        };
        assert_eq!(got, wanted, "{phase:?} {signal:?} {hazard:?}");
    }
}

#[test]
fn only_a_returned_seen_hazard_that_does_not_latch_ends_by_itself() {
    for (phase, signal, hazard, step) in cells() {
        let over = phase == Phase::Returned && hazard.acknowledged && !hazard.latching;
        let wanted = signal == Signal::Settle && over;
        assert_eq!(
            step == Step::Log(Phase::Normal, Change::Ended),
            wanted,
            "{phase:?} {signal:?} {hazard:?}"
        );
        if signal == Signal::Settle && !over {
            assert_eq!(step, Step::Stay, "{phase:?} {hazard:?}");
        }
    }
}

#[test]
fn only_commands_are_refused_and_every_change_and_refusal_is_in_the_table() {
    let (mut changes, mut refusals) = (HashSet::new(), HashSet::new());
    for (phase, signal, hazard, step) in cells() {
        match step {
            Step::Refuse(refusal) => {
                assert!(is_command(signal), "{phase:?} {signal:?} {hazard:?}");
                refusals.insert(refusal);
            }
            Step::Log(_, change) => {
                changes.insert(change);
            }
            Step::To(next) => assert_ne!(next, phase, "{signal:?}: a step that goes nowhere"),
            Step::Stay => {}
        }
    }
    assert_eq!(changes.len(), Change::ALL.len());
    assert_eq!(refusals.len(), 6);
}
