//! What holds for every log of events, checked on generated ones.

use super::generated::*;
use super::{BY_ITSELF, Engine};
use crate::model::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The answers to a whole log, and the engine after it.
pub(super) fn run(
    mut engine: Engine,
    log: &[(Timestamp, Event)],
) -> (Vec<Transition>, Vec<Option<Refusal>>, Engine) {
    let (mut transitions, mut refusals) = (Vec::new(), Vec::new());
    for (at, event) in log {
        let mut out = Outcome::default();
        engine.handle(*at, NO, event, &mut out);
        transitions.append(&mut out.transitions);
        refusals.push(out.refusal);
    }
    (transitions, refusals, engine)
}

/// The places in the log of the readings that the engine took as the newest of their point.
fn taken_as_news(mut engine: Engine, log: &[(Timestamp, Event)]) -> HashSet<usize> {
    let mut news = HashSet::new();
    for (index, (at, event)) in log.iter().enumerate() {
        engine.handle(*at, NO, event, &mut Outcome::default());
        let Event::Reading(reading) = event else { continue };
        let seen = engine.board.index.get(&reading.point).and_then(|&n| engine.board.points[n].seen.as_ref());
        let same = |seen: &super::board::Seen| {
            seen.received_at == reading.received_at
                && seen.sample.sampled_at == reading.sampled_at
                && seen.says_the_same(reading)
        };
        if seen.is_some_and(same) {
            news.insert(index);
        }
    }
    news
}

/// Forgets which of several values raised a delayed hazard: a restart during the delay knows only the newest.
pub(super) fn without_sample(mut hazard: Hazard) -> Hazard {
    if hazard.evidence.on_delay > Span::ZERO {
        hazard.evidence.value = Value::Absent;
        hazard.evidence.flaw = None;
        hazard.sampled_at = None;
        hazard.late = false;
    }
    hazard
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_log_gives_the_same_answers(acts in acts(ALL)) {
        let log = log(ALL, &acts);
        let (first, second) = (run(fresh(ALL), &log), run(fresh(ALL), &log));
        prop_assert_eq!((first.0, first.1, first.2.facts()), (second.0, second.1, second.2.facts()));
    }

    #[test]
    fn extra_ticks_change_nothing(acts in acts(ALL)) {
        let log = log(ALL, &acts);
        let mut ticking = Vec::new();
        let mut before = START;
        for (at, event) in &log {
            let clock_stepped = matches!(event, Event::ClockStepped { .. });
            while !clock_stepped && before < *at {
                ticking.push((before, Event::Tick));
                before = before + Span::from_millis(700);
            }
            ticking.push((*at, event.clone()));
            ticking.push((*at, Event::Tick));
            before = *at;
        }
        let (plain, ticked) = (run(fresh(ALL), &log), run(fresh(ALL), &ticking));
        prop_assert_eq!(plain.0, ticked.0);
        prop_assert_eq!(plain.2.facts(), ticked.2.facts());
    }

    #[test]
    fn a_restart_at_any_moment_changes_nothing_but_the_silence_budget(acts in acts(Kinds { silence: false, ..ALL })) {
        let kinds = Kinds { silence: false, ..ALL };
        let log = log(kinds, &acts);
        let told = taken_as_news(fresh(kinds), &log);
        for cut in 0..log.len() {
            let (_, _, mut engine) = run(fresh(kinds), &log[..cut]);
            let mut last: HashMap<PointId, Reading> = HashMap::new();
            let mut in_force = plan(kinds.silence, 50.0, true);
            for (index, (_, event)) in log[..cut].iter().enumerate() {
                if let Event::ClockStepped { by } = event {
                    last.values_mut().for_each(|reading| reading.received_at = reading.received_at + *by);
                }
                if let Event::Plan(plan) = event {
                    in_force = plan.clone();
                    last.retain(|point, _| plan.point(point).is_some()); // The engine forgets what is not planned.
                }
                let Event::Reading(reading) = event else { continue };
                if in_force.point(&reading.point).is_some() && told.contains(&index) {
                    last.insert(reading.point.clone(), reading.clone());
                }
            }
            engine.board.slots.iter_mut().for_each(|slot| slot.met.clear()); // Not kept over a restart.
            let last: Vec<_> = last.into_values().collect();
            let at = cut.checked_sub(1).map_or(START, |index| log[index].0);
            let restored = Engine::restore(engine.plan().clone(), engine.facts(), &last, at);
            let (through, again) = (run(engine, &log[cut..]), run(restored, &log[cut..]));
            let plain = |transitions: Vec<Transition>| -> Vec<_> {
                let plain = |t: Transition| (without_sample(t.hazard), t.change, t.phase, t.at, t.cause);
                transitions.into_iter().map(plain).collect()
            };
            prop_assert_eq!(plain(through.0), plain(again.0), "cut at {}", cut);
            prop_assert_eq!(through.1, again.1, "cut at {}", cut);
            let rows = |engine: &Engine| -> BTreeMap<_, _> {
                let facts = engine.facts().into_iter();
                facts.map(|f| ((f.point, f.rule), (f.phase.name(), f.hazard.map(without_sample)))).collect()
            };
            prop_assert_eq!(rows(&through.2), rows(&again.2), "cut at {}", cut);
        }
    }

    #[test]
    fn a_hazard_closes_only_seen_and_over_or_on_a_persons_word(acts in acts(ALL)) {
        let log = log(ALL, &acts);
        let mut engine = fresh(ALL);
        for (at, event) in &log {
            let mut out = Outcome::default();
            engine.handle(*at, NO, event, &mut out);
            for t in &out.transitions {
                prop_assert_eq!(t.hazard.closed.is_some(), matches!(t.change, Change::Reset | Change::Ended));
                let Some(closed) = &t.hazard.closed else { continue };
                prop_assert!(t.hazard.acknowledged.is_some());
                if t.hazard.latching || t.hazard.signal == SignalClass::Fire {
                    prop_assert!(t.change == Change::Reset && matches!(t.cause, Cause::Operator(_)));
                }
                if t.change == Change::Ended {
                    prop_assert!(t.hazard.returned_at.is_some() && &*closed.by == BY_ITSELF);
                } else {
                    let planned = engine.plan().point(&t.hazard.point).is_some_and(|(.., point)| {
                        point.rules.iter().any(|rule| rule.id == t.hazard.rule)
                    });
                    prop_assert!(t.hazard.returned_at.is_some() || !closed.note.is_empty() || !planned);
                }
            }
        }
    }

    #[test]
    fn nothing_is_dated_before_its_cause_or_its_delay(acts in acts(Kinds { clock: false, plans: false, ..ALL })) {
        let kinds = Kinds { clock: false, plans: false, ..ALL };
        let log = log(kinds, &acts);
        let mut engine = fresh(kinds);
        let (mut before, mut newest) = (START, START);
        for (at, event) in &log {
            let mut out = Outcome::default();
            engine.handle(*at, NO, event, &mut out);
            for t in &out.transitions {
                prop_assert!(before <= t.at && t.at <= *at, "{:?} in {:?}..{:?}", t, before, at);
                prop_assert!(newest <= t.at, "the duty log runs backwards");
                newest = t.at;
                prop_assert!(t.hazard.raised_at <= t.hazard.last_raised_at && t.hazard.last_raised_at <= t.at);
                if t.cause == Cause::Deadline && t.change == Change::Raised {
                    let begun = t.at - t.hazard.evidence.on_delay;
                    let began = log.iter().any(|(at, event)| {
                        matches!(event, Event::Reading(r) if r.point == t.hazard.point) && *at == begun
                    });
                    prop_assert!(began, "no reading of {} at {begun}", t.hazard.point);
                    // In between nothing said that it was over.
                    let over = log.iter().filter(|(at, _)| begun < *at && *at < t.at).any(|(_, event)| {
                        let Event::Reading(r) = event else { return false };
                        let live = r.quality != Quality::Bad && !r.late && r.sampled_at.is_none();
                        let low = r.value == Value::Number(number(20.0));
                        let limit = t.hazard.evidence.condition.limit().is_some();
                        r.point == t.hazard.point && live && low && limit
                    });
                    prop_assert!(!over, "raised although it was over in between: {:?}", t);
                }
                if let Cause::Silence { last_heard } = t.cause && t.change == Change::Raised {
                    let since = last_heard.unwrap_or(START);
                    prop_assert!(t.at.since(since) >= Span::from_secs(20));
                }
            }
            before = *at;
        }
    }

    #[test]
    fn duplicates_and_overtaken_readings_add_nothing(acts in acts(Kinds { silence: false, clock: false, plans: false })) {
        let kinds = Kinds { silence: false, clock: false, plans: false };
        let mut log = log(kinds, &acts);
        // Every reading carries its own time, and no two readings of a point the same one.
        for (index, (at, event)) in log.iter_mut().enumerate() {
            *at = *at + Span::from_millis(i64::try_from(index).unwrap());
            if let Event::Reading(reading) = event {
                (reading.sampled_at, reading.received_at, reading.late) = (Some(*at), *at, false);
            }
        }
        let mut repeated = Vec::new();
        for (index, (at, event)) in log.iter().enumerate() {
            repeated.push((*at, event.clone()));
            // A broker that redelivers its whole window, oldest first.
            for (_, again) in &log[index.saturating_sub(20)..=index] {
                if let Event::Reading(reading) = again {
                    repeated.push((*at, Event::Reading(Reading { received_at: *at, ..reading.clone() })));
                }
            }
        }
        let (once, often) = (run(fresh(kinds), &log), run(fresh(kinds), &repeated));
        prop_assert_eq!(once.0, often.0);
        prop_assert_eq!(once.2.facts(), often.2.facts());
    }

    #[test]
    fn what_is_bad_late_or_silent_never_clears_and_bad_never_raises_a_process_hazard(acts in acts(ALL)) {
        let log = log(ALL, &acts);
        let mut engine = fresh(ALL);
        for (at, event) in &log {
            let mut out = Outcome::default();
            engine.handle(*at, NO, event, &mut out);
            for t in &out.transitions {
                let silence_rule = matches!(t.hazard.evidence.condition, Condition::Silent { .. });
                if matches!(t.cause, Cause::Silence { .. }) {
                    prop_assert!(silence_rule, "silence touched {:?}", t);
                }
                let (Cause::Reading { flaw, .. }, Event::Reading(reading)) = (&t.cause, event) else { continue };
                prop_assert!(!silence_rule);
                let ends = matches!(t.change, Change::Returned | Change::Ended);
                let bad = reading.quality == Quality::Bad;
                prop_assert!(!(ends && (bad || reading.late)), "{:?}", t);
                if reading.late {
                    // Another than a fire only by a device that speaks on, with a slow clock.
                    prop_assert!(t.hazard.signal == SignalClass::Fire || reading.sampled_at.is_some(), "{:?}", t);
                }
                let off_scale_fire = t.hazard.signal == SignalClass::Fire && *flaw == Some(Flaw::OffScaleHigh);
                if bad && t.hazard.evidence.condition != Condition::Unusable {
                    prop_assert!(off_scale_fire, "{:?}", t);
                }
                prop_assert_ne!(*flaw, Some(Flaw::NotFitted));
            }
        }
    }

    #[test]
    fn the_rows_handed_out_are_the_rows_and_no_deadline_is_left_behind(acts in acts(ALL)) {
        let log = log(ALL, &acts);
        let mut engine = fresh(ALL);
        let mut mirror: BTreeMap<(PointId, RuleId), Fact> = BTreeMap::new();
        for (at, event) in &log {
            let mut out = Outcome::default();
            engine.handle(*at, NO, event, &mut out);
            let mut keys: Vec<_> = out.facts.iter().map(|fact| (&fact.point, &fact.rule)).collect();
            keys.sort();
            prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "a row was handed out twice");
            for fact in out.facts {
                let key = (fact.point.clone(), fact.rule.clone());
                match fact.phase == Phase::Normal && fact.hazard.is_none() {
                    true => mirror.remove(&key),
                    false => mirror.insert(key, fact),
                };
            }
            let facts = engine.facts();
            prop_assert!(facts.len() <= 7, "more rows than rules on points");
            let rows: BTreeMap<_, _> = facts.into_iter().map(|f| ((f.point.clone(), f.rule.clone()), f)).collect();
            for fact in rows.values() {
                let stands = !matches!(fact.phase, Phase::Normal | Phase::Arming { .. });
                prop_assert_eq!(fact.hazard.is_some(), stands);
                let met = matches!(fact.phase, Phase::Active | Phase::Clearing { .. });
                prop_assert!(fact.hazard.as_ref().is_none_or(|h| h.closed.is_none() && h.returned_at.is_none() == met));
            }
            prop_assert_eq!(&rows, &mirror);
            prop_assert!(engine.next_deadline().is_none_or(|due| due > *at), "a passed deadline is asked for again");
        }
    }

    #[test]
    fn a_clock_step_and_its_inverse_change_nothing(acts in acts(ALL), cut in 0..60usize, by in -1_000_000..1_000_000_000i64) {
        let log = log(ALL, &acts);
        let cut = cut.min(log.len());
        let (_, _, engine) = run(fresh(ALL), &log[..cut]);
        let at = cut.checked_sub(1).map_or(START, |index| log[index].0);
        let (there, back) = (Span::from_millis(by), Span::from_millis(-by));
        let steps = [(at + there, Event::ClockStepped { by: there }), (at, Event::ClockStepped { by: back })];
        let (silent, _, stepped) = run(engine.clone(), &steps);
        prop_assert_eq!(silent, Vec::new(), "a clock step is no reason for a hazard");
        let (plain, stepped) = (run(engine, &log[cut..]), run(stepped, &log[cut..]));
        prop_assert_eq!(plain.0, stepped.0);
        prop_assert_eq!(plain.1, stepped.1);
        prop_assert_eq!(plain.2.facts(), stepped.2.facts());
    }

    #[test]
    fn whatever_the_journal_holds_the_engine_starts(phase in 0..6usize, with_hazard: bool, planned: bool) {
        let kinds = ALL;
        let (mut out, mut engine) = (Outcome::default(), fresh(kinds));
        let alarm = Act::Reading { point: 0, value: 1, flaw: 11, late: false, age: None };
        engine.handle(START, NO, &Event::Reading(reading(START, &alarm).unwrap()), &mut out);
        let due = START + Span::from_secs(5);
        let phases = [
            Phase::Normal, Phase::Arming { due }, Phase::Active,
            Phase::Clearing { due }, Phase::Returned, Phase::Rearming { due },
        ];
        let mut fact = engine.facts().remove(0);
        fact.phase = phases[phase];
        fact.hazard = fact.hazard.filter(|_| with_hazard);
        if !planned {
            fact.point = PointId::parse("gone/smoke").unwrap();
        }
        let mut restored = Engine::restore(plan(true, 50.0, true), vec![fact.clone()], &[], START);
        out.clear();
        restored.handle(due, NO, &Event::Tick, &mut out);
        let open = restored.facts().iter().filter(|fact| fact.hazard.is_some()).count();
        // An open hazard is never lost, whatever its row says; an arming rule that is still planned goes on.
        let armed = planned && !with_hazard && phases[phase] == Phase::Arming { due };
        prop_assert_eq!(open, usize::from(with_hazard || armed));
        if !planned && !with_hazard && phase == 1 {
            prop_assert!(out.facts.iter().any(|row| row.point == fact.point && row.phase == Phase::Normal));
        }
    }
}

/// Guards the properties against logs in which nothing happens.
#[test]
fn the_generated_logs_reach_every_change_refusal_and_phase() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut changes, mut refusals, mut phases) = (HashSet::new(), HashSet::new(), HashSet::new());
    for _ in 0..400 {
        let acts = acts(ALL).new_tree(&mut runner).unwrap().current();
        let mut engine = fresh(ALL);
        for (at, event) in log(ALL, &acts) {
            let mut out = Outcome::default();
            engine.handle(at, NO, &event, &mut out);
            changes.extend(out.transitions.iter().map(|t| t.change));
            refusals.extend(out.refusal);
            phases.extend(engine.facts().iter().map(|fact| fact.phase.name()));
        }
    }
    assert_eq!(changes.len(), Change::ALL.len(), "{changes:?}");
    assert_eq!(refusals.len(), 6, "{refusals:?}");
    assert_eq!(phases.len(), 5, "{phases:?}");
}

fn smoke(at: Timestamp, value: usize) -> Event {
    let act = Act::Reading { point: 0, value, flaw: Flaw::ALL.len(), late: false, age: None };
    Event::Reading(reading(at, &act).unwrap())
}

#[test]
fn a_hazard_that_comes_back_keeps_its_first_time_and_shows_its_last() {
    let (mut engine, mut out) = (fresh(ALL), Outcome::default());
    let times = [0, 5, 9].map(|seconds| START + Span::from_secs(seconds));
    for (at, value) in times.into_iter().zip([1, 0, 1]) {
        engine.handle(at, NO, &smoke(at, value), &mut out);
    }
    let hazard = engine.facts().remove(0).hazard.unwrap();
    assert_eq!((hazard.raised_at, hazard.last_raised_at, hazard.occurrences), (times[0], times[2], 2));
    assert_eq!(out.transitions.len(), 3, "what came of three calls is appended, not overwritten");
}

#[test]
fn time_never_runs_backwards_without_a_clock_step() {
    let (mut engine, mut out) = (fresh(ALL), Outcome::default());
    engine.handle(START + Span::from_secs(9), NO, &Event::Tick, &mut out);
    engine.handle(START, NO, &smoke(START, 1), &mut out);
    assert_eq!(out.transitions[0].at, START + Span::from_secs(9));
}

#[test]
fn of_several_remembered_readings_the_newest_counts() {
    let alarm = |seconds: i64, value: usize| {
        let Event::Reading(reading) = smoke(START + Span::from_secs(seconds), value) else { unreachable!() };
        reading
    };
    let last = [alarm(1, 0), alarm(3, 1), alarm(2, 0)];
    let at = START + Span::from_secs(10);
    let mut engine = Engine::restore(plan(false, 50.0, true), Vec::new(), &last, at);
    // A kept message that says what the newest said is no news.
    let mut out = Outcome::default();
    let retained = Reading { late: true, received_at: at, ..alarm(10, 1) };
    engine.handle(at, NO, &Event::Reading(retained), &mut out);
    assert_eq!(out.transitions, Vec::new());
}

#[test]
fn what_a_broker_kept_is_no_sign_of_life() {
    let mut engine = fresh(ALL);
    let mut out = Outcome::default();
    engine.handle(START, NO, &smoke(START, 0), &mut out);
    // Whether it is news or not.
    for (seconds, value) in [(5, 0), (6, 1)] {
        let at = START + Span::from_secs(seconds);
        let Event::Reading(reading) = smoke(at, value) else { unreachable!() };
        let kept = Reading { late: true, sampled_at: None, ..reading };
        assert_eq!(engine.knows(&kept), value == 0);
        engine.handle(at, NO, &Event::Reading(kept), &mut out);
    }
    assert_eq!(engine.board.devices[0].heard, Some(START));
    assert_eq!(out.transitions.len(), 1, "the fire in it is raised all the same: {:?}", out.transitions);
}
