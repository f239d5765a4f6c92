//! Generated logs for the properties: a small plan with every kind of rule, and everything that can happen to it.

use super::Engine;
use crate::model::*;
use proptest::prelude::*;
use std::sync::Arc;

pub(super) const START: Timestamp = Timestamp::from_secs(1_768_435_200);
/// One number for all entries, so that ids do not depend on how many ticks there were.
pub(super) const NO: u64 = 7;

pub(super) fn number(value: f64) -> Number {
    Number::new(value).unwrap()
}

pub(super) fn rule(
    id: &str,
    signal: SignalClass,
    condition: Condition,
    on: i64,
    off: i64,
    latching: bool,
) -> Arc<Rule> {
    Arc::new(Rule {
        id: RuleId::parse(id).unwrap(),
        condition,
        signal,
        priority: Priority::Red,
        on_delay: Span::from_secs(on),
        off_delay: Span::from_secs(off),
        latching,
        title: Text::new(id, id),
        basis: "test".into(),
    })
}

pub(super) fn device(
    id: &str,
    link: &str,
    silent: Option<i64>,
    points: Vec<(&str, Quantity, Vec<Arc<Rule>>)>,
) -> Device {
    let id = DeviceId::parse(id).unwrap();
    let point = |(name, quantity, rules)| Point {
        id: PointId::new(&id, name).unwrap(),
        class: ClassId::parse("test").unwrap(),
        name: Text::new(name, name),
        quantity,
        range: None,
        states: Vec::new(),
        decimals: 0,
        rules,
    };
    Device {
        name: "".into(),
        place: "".into(),
        profile: ProfileId::parse("test/test").unwrap(),
        model: Text::new("", ""),
        link: LinkId::parse(link).unwrap(),
        silent_after: silent.map(Span::from_secs),
        commands: Vec::new(),
        points: points.into_iter().map(point).collect(),
        id: id.clone(),
    }
}

/// Fire and supervisory limits on one point, states, flags, bad sensors, silence; `limit` tells two plans apart.
pub(super) fn plan(silence: bool, limit: f64, with_pressure: bool) -> Arc<Plan> {
    use SignalClass::{Fault, Fire, Offline, Supervisory};
    let hot = Condition::AtLeast { limit: number(limit), deadband: number(5.0) };
    let burning = Condition::AtLeast { limit: number(70.0), deadband: Number::ZERO };
    let mut a = vec![
        (
            "smoke",
            Quantity::State,
            vec![rule("fire", Fire, Condition::OneOf(vec!["alarm".into()]), 0, 0, false)],
        ),
        (
            "temp",
            Quantity::Temperature,
            vec![
                rule("burning", Fire, burning, 3, 2, false),
                rule("hot", Supervisory, hot, 10, 5, false),
                rule("broken", Fault, Condition::Unusable, 4, 4, false),
            ],
        ),
    ];
    let silent = Condition::Silent { after: Span::from_secs(20) };
    if silence {
        a.push(("link", Quantity::Flag, vec![rule("offline", Offline, silent, 0, 3, false)]));
    }
    let low = Condition::Below { limit: number(50.0), deadband: number(5.0) };
    let mut b =
        vec![("tamper", Quantity::Flag, vec![rule("tamper", Fault, Condition::Is(true), 0, 0, false)])];
    if with_pressure {
        b.push(("pressure", Quantity::Pressure, vec![rule("low", Supervisory, low, 0, 6, true)]));
    }
    let devices = vec![device("a", "broker", silence.then_some(20), a), device("b", "bus", None, b)];
    let zone = Zone { id: ZoneId::parse("z").unwrap(), name: "".into(), devices };
    Arc::new(Plan::new(vec![Site {
        id: SiteId::parse("s").unwrap(),
        name: "".into(),
        address: "".into(),
        contacts: Vec::new(),
        zones: vec![zone],
    }]))
}

/// One thing that happens, before it is known which hazards stand.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Reading { point: usize, value: usize, flaw: usize, late: bool, age: Option<i64> },
    Command { which: usize, kind: usize, note: bool },
    Link { link: usize, up: bool },
    Clock { by: i64 },
    Plan(usize),
    Tick,
}

/// How a log is generated: which acts may occur.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kinds {
    pub(super) silence: bool,
    pub(super) clock: bool,
    pub(super) plans: bool,
}

pub(super) const ALL: Kinds = Kinds { silence: true, clock: true, plans: true };

pub(super) fn act(kinds: Kinds) -> impl Strategy<Value = (i64, Act)> {
    let reading = (0..5usize, 0..4usize, 0..12usize, prop::bool::weighted(0.1), prop::option::of(0..8i64));
    let reading = reading
        .prop_map(|(point, value, flaw, late, age)| Act::Reading { point, value, flaw, late, age })
        .boxed();
    let command = (0..6usize, 0..3usize, any::<bool>());
    let command = command.prop_map(|(which, kind, note)| Act::Command { which, kind, note }).boxed();
    let mut acts = vec![(12, reading), (8, command), (1, Just(Act::Tick).boxed())];
    if kinds.silence {
        acts.push((1, (0..2usize, any::<bool>()).prop_map(|(link, up)| Act::Link { link, up }).boxed()));
    }
    if kinds.clock {
        acts.push((1, (-100_000..100_000i64).prop_map(|by| Act::Clock { by }).boxed()));
    }
    if kinds.plans {
        acts.push((1, (0..3usize).prop_map(Act::Plan).boxed()));
    }
    (0..9i64, prop::strategy::Union::new_weighted(acts))
}

pub(super) fn acts(kinds: Kinds) -> impl Strategy<Value = Vec<(i64, Act)>> {
    prop::collection::vec(act(kinds), 1..60)
}

pub(super) const POINTS: [&str; 5] = ["a/smoke", "a/temp", "b/tamper", "b/pressure", "c/unknown"];

pub(super) fn reading(at: Timestamp, act: &Act) -> Option<Reading> {
    let &Act::Reading { point, value, flaw, late, age } = act else { return None };
    let values = match point {
        0 => ["normal", "alarm", "normal", "alarm"].map(|code| Value::Code(code.into())),
        2 => [true, false, true, false].map(Value::Flag),
        _ => [20.0, 48.0, 52.0, 90.0].map(|value| Value::Number(number(value))),
    };
    // Most readings are good.
    let (quality, flaw) = match Flaw::ALL.get(flaw) {
        Some(Flaw::ClockSuspect) => (Quality::Uncertain, Some(Flaw::ClockSuspect)),
        Some(&flaw) => (Quality::Bad, Some(flaw)),
        None => (Quality::Good, None),
    };
    Some(Reading {
        point: PointId::parse(POINTS[point]).unwrap(),
        value: values[value].clone(),
        quality,
        flaw,
        sampled_at: age.map(|age| at - Span::from_secs(age)),
        received_at: at,
        late,
    })
}

/// Makes a log: plays it once, so that commands name hazards that stand.
pub(super) fn log(kinds: Kinds, acts: &[(i64, Act)]) -> Vec<(Timestamp, Event)> {
    let mut engine = Engine::restore(plan(kinds.silence, 50.0, true), Vec::new(), &[], START);
    let (mut at, mut log, mut out) = (START, Vec::new(), Outcome::default());
    for (wait, act) in acts {
        at = at + Span::from_secs(*wait);
        let event = match act {
            Act::Reading { .. } => Event::Reading(reading(at, act).unwrap()),
            Act::Command { which, kind, note } => {
                let open: Vec<_> = engine.facts().into_iter().filter_map(|fact| fact.hazard).collect();
                let id = open.get(which % open.len().max(1)).map(|hazard| hazard.id.clone());
                Event::Command(Command {
                    hazard: id.unwrap_or_else(|| HazardId::from_text("none")),
                    kind: CommandKind::ALL[*kind],
                    by: "zhang".into(),
                    note: if *note { "到场核实" } else { "" }.into(),
                })
            }
            Act::Link { link, up } => {
                Event::Link { link: LinkId::parse(["broker", "bus"][*link]).unwrap(), up: *up }
            }
            Act::Clock { by } => {
                at = at + Span::from_secs(*by);
                Event::ClockStepped { by: Span::from_secs(*by) }
            }
            Act::Plan(which) => Event::Plan(plan(kinds.silence, [50.0, 50.0, 60.0][*which], *which == 0)),
            Act::Tick => Event::Tick,
        };
        engine.handle(at, NO, &event, &mut out);
        log.push((at, event));
    }
    log
}

pub(super) fn fresh(kinds: Kinds) -> Engine {
    Engine::restore(plan(kinds.silence, 50.0, true), Vec::new(), &[], START)
}
