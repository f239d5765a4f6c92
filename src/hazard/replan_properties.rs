//! What holds when the plan is changed while the gateway runs, checked on generated logs.

use super::Engine;
use super::generated::*;
use super::properties::{run, without_sample};
use crate::model::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The engine after the first `cut` events, and the time of the last of them.
fn played(kinds: Kinds, log: &[(Timestamp, Event)], cut: usize) -> (Engine, Timestamp) {
    let at = cut.checked_sub(1).map_or(START, |index| log[index].0);
    (run(fresh(kinds), &log[..cut]).2, at)
}

/// The newest reading of each point, as a restart would be given it.
fn newest(engine: &Engine) -> Vec<Reading> {
    let reading = |point: &super::board::WatchedPoint| {
        let seen = point.seen.as_ref()?;
        Some(Reading {
            point: point.id.clone(),
            value: seen.sample.value.clone(),
            quality: seen.quality,
            flaw: seen.sample.flaw,
            sampled_at: seen.sample.sampled_at,
            received_at: seen.received_at,
            late: seen.sample.late,
        })
    };
    engine.board.points.iter().filter_map(reading).collect()
}

fn open(engine: &Engine) -> BTreeMap<HazardId, Hazard> {
    let hazards = engine.facts().into_iter().filter_map(|fact| fact.hazard);
    hazards.map(|hazard| (hazard.id.clone(), hazard)).collect()
}

fn rule_of(plan: &Plan, fact: &Fact) -> Option<Arc<Rule>> {
    plan.point(&fact.point)?.3.rules.iter().find(|rule| rule.id == fact.rule).cloned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_plan_again_at_any_moment_changes_nothing(acts in acts(ALL), cut in 0..60usize) {
        let log = log(ALL, &acts);
        let cut = cut.min(log.len());
        let (engine, at) = played(ALL, &log, cut);
        let mut out = Outcome::default();
        let mut again = engine.clone();
        // Another plan with the same words, as a file that was saved again makes it.
        let same = Arc::new(Plan::new(engine.plan().sites.clone()));
        again.handle(at, NO, &Event::Plan(same), &mut out);
        prop_assert_eq!(&out.transitions, &Vec::new());
        prop_assert_eq!(&out.facts, &Vec::new());
        prop_assert_eq!(again.facts(), engine.facts());
        let (plain, replanned) = (run(engine, &log[cut..]), run(again, &log[cut..]));
        prop_assert_eq!(plain.0, replanned.0);
        prop_assert_eq!(plain.1, replanned.1);
        prop_assert_eq!(plain.2.facts(), replanned.2.facts());
    }

    #[test]
    fn no_plan_closes_changes_or_hides_a_hazard(acts in acts(ALL), cut in 0..60usize, limit in 20.0..90.0, pressure: bool, nothing: bool) {
        let log = log(ALL, &acts);
        let (mut engine, at) = played(ALL, &log, cut.min(log.len()));
        let before = open(&engine);
        let new = if nothing { Arc::new(Plan::default()) } else { plan(true, limit, pressure) };
        let mut out = Outcome::default();
        engine.handle(at, NO, &Event::Plan(new), &mut out);
        prop_assert_eq!(&out.transitions, &Vec::new());
        prop_assert_eq!(&open(&engine), &before);
        // What the plan no longer has is closed by a person, and by nobody else.
        for hazard in before.values() {
            let planned = engine.plan().point(&hazard.point).is_some_and(|(.., point)| point.rules.iter().any(|rule| rule.id == hazard.rule));
            if planned {
                continue;
            }
            for kind in [CommandKind::Acknowledge, CommandKind::Reset] {
                let command = Command { hazard: hazard.id.clone(), kind, by: "zhang".into(), note: "".into() };
                engine.handle(at, NO, &Event::Command(command), &mut out);
            }
            prop_assert!(!open(&engine).contains_key(&hazard.id), "{:?} cannot be closed", hazard);
        }
    }

    #[test]
    fn a_replan_is_a_restart_with_the_new_plan_over_the_same_facts(acts in acts(Kinds { silence: false, ..ALL }), cut in 0..60usize, limit in 40.0..60.0, pressure: bool) {
        let kinds = Kinds { silence: false, ..ALL };
        let log = log(kinds, &acts);
        let cut = cut.min(log.len());
        let (mut engine, at) = played(kinds, &log, cut);
        engine.board.slots.iter_mut().for_each(|slot| slot.met.clear()); // Not kept over a restart.
        let new = plan(false, limit, pressure);
        // A restart does not know under which limit an on-delay began; a replan begins it anew.
        let old = engine.plan().clone();
        let counted_otherwise = engine.facts().iter().any(|fact| {
            matches!(fact.phase, Phase::Arming { .. } | Phase::Rearming { .. }) && rule_of(&old, fact) != rule_of(&new, fact)
        });
        prop_assume!(!counted_otherwise);
        let restarted = Engine::restore(new.clone(), engine.facts(), &newest(&engine), at);
        let mut replanned = engine;
        replanned.handle(at, NO, &Event::Plan(new), &mut Outcome::default());
        prop_assert_eq!(replanned.facts(), restarted.facts());
        let (through, again) = (run(replanned, &log[cut..]), run(restarted, &log[cut..]));
        let plain = |transitions: Vec<Transition>| -> Vec<_> {
            let plain = |t: Transition| (without_sample(t.hazard), t.change, t.phase, t.at, t.cause);
            transitions.into_iter().map(plain).collect()
        };
        prop_assert_eq!(plain(through.0), plain(again.0));
        prop_assert_eq!(through.1, again.1);
    }
}

fn smoke(at: Timestamp, code: &str) -> Event {
    Event::Reading(Reading {
        point: PointId::parse("a/smoke").unwrap(),
        value: Value::Code(code.into()),
        quality: Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: at,
        late: false,
    })
}

#[test]
fn a_fire_stands_through_the_removal_and_the_return_of_its_device() {
    let (mut engine, mut out) = (fresh(ALL), Outcome::default());
    engine.handle(START, NO, &smoke(START, "alarm"), &mut out);
    let raised = open(&engine);
    assert_eq!(raised.len(), 1);
    engine.handle(START, NO, &Event::Plan(Arc::new(Plan::default())), &mut out);
    assert_eq!(open(&engine), raised);
    engine.handle(START, NO, &Event::Plan(plan(true, 50.0, true)), &mut out);
    out.clear();
    let later = START + Span::from_secs(5);
    engine.handle(later, NO, &smoke(later, "normal"), &mut out);
    let told: Vec<Change> = out.transitions.iter().map(|told| told.change).collect();
    assert_eq!(told, [Change::Returned], "the old hazard is the one that goes on");
    assert!(raised.contains_key(&out.transitions[0].hazard.id));
}

#[test]
fn a_changed_limit_counts_from_the_next_reading() {
    let hot = |at: Timestamp, value: f64| {
        let Event::Reading(reading) = smoke(at, "x") else { unreachable!("it is a reading") };
        let point = PointId::parse("a/temp").unwrap();
        Event::Reading(Reading { point, value: Value::Number(number(value)), ..reading })
    };
    let (mut engine, mut out) = (fresh(ALL), Outcome::default());
    let at = |secs: i64| START + Span::from_secs(secs);
    engine.handle(at(0), NO, &hot(at(0), 52.0), &mut out);
    engine.handle(at(11), NO, &Event::Tick, &mut out);
    assert_eq!(open(&engine).len(), 1, "supervisory from 50 on, after ten seconds");
    // 52 is far below the new limit, and the hazard stands until a reading says so.
    engine.handle(at(12), NO, &Event::Plan(plan(true, 65.0, true)), &mut out);
    engine.handle(at(15), NO, &Event::Tick, &mut out);
    assert!(open(&engine).values().all(|hazard| hazard.returned_at.is_none()));
    engine.handle(at(16), NO, &hot(at(16), 52.0), &mut out);
    engine.handle(at(19), NO, &hot(at(19), 52.0), &mut out);
    engine.handle(at(22), NO, &hot(at(22), 52.0), &mut out);
    assert!(open(&engine).values().all(|hazard| hazard.returned_at == Some(at(21))));
}

#[test]
fn a_device_that_moved_to_another_link_has_its_whole_time_to_be_heard_there() {
    let (mut engine, mut out) = (fresh(ALL), Outcome::default());
    let mut sites = engine.plan().sites.clone();
    sites[0].zones[0].devices[0].link = LinkId::parse("bus").unwrap();
    let moved_at = START + Span::from_secs(19);
    engine.handle(moved_at, NO, &Event::Plan(Arc::new(Plan::new(sites))), &mut out);
    assert_eq!(engine.next_deadline(), Some(moved_at + Span::from_secs(20)));
}
