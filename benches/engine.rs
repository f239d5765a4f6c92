//! READINGS → TRANSITIONS: events a second with 10 000 points, quiet and raising.
//!
//! `cargo bench --bench engine`. 2000 smoke detectors with the rules of the built-in vocabulary; five points of each
//! speak.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop loudly")]

use divan::Bencher;
use divan::counter::ItemsCount;
use fengsui::config::Config;
use fengsui::hazard::Engine;
use fengsui::model::{
    DeviceId, Event, Number, Outcome, Plan, PointId, Quality, Reading, Span, Timestamp, Value,
};
use std::collections::HashMap;
use std::sync::Arc;

const DEVICES: usize = 2000;
const AT: Timestamp = Timestamp::from_secs(1_800_000_000);

fn main() {
    divan::main();
}

fn plan() -> Arc<Plan> {
    let gateway =
        "plan = \"plan.toml\"\n[journal]\ndir = \"x\"\n[[mqtt]]\nname = \"l\"\nurl = \"mqtt://127.0.0.1\"\n";
    let mut plan = String::from(
        "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n[[site.contact]]\nrole = \"r\"\nname = \"n\"\nphone = \"1\"\n\
         [[site.zone]]\nid = \"z\"\nname = \"z\"\n",
    );
    for n in 0..DEVICES {
        plan.push_str(&format!(
            "[[site.zone.device]]\nid = \"d{n}\"\nname = \"d{n}\"\nplace = \"z\"\nprofile = \"fengsui/smoke-json\"\n\
             link = \"l\"\naddress = \"d{n}\"\n"
        ));
    }
    let read = Config::from_texts(&[("gateway.toml", gateway), ("plan.toml", &plan)], &|_| None);
    read.unwrap_or_else(|report| panic!("{:?}", report.problems)).0.plan
}

/// One reading of each of the 10 000 points: at rest, or all detectors in alarm.
fn events(smoke: &str) -> Vec<Event> {
    let number = |value| Value::Number(Number::new(value).unwrap());
    let points = [
        ("smoke", Value::Code(smoke.into())),
        ("temperature", number(23.4)),
        ("battery", number(98.0)),
        ("rssi", number(-71.0)),
        ("contamination", number(3.0)),
    ];
    let mut events = Vec::new();
    for n in 0..DEVICES {
        let device = DeviceId::parse(&format!("d{n}")).unwrap();
        for (point, value) in &points {
            events.push(Event::Reading(Reading {
                point: PointId::new(&device, point).unwrap(),
                value: value.clone(),
                quality: Quality::Good,
                flaw: None,
                sampled_at: None,
                received_at: AT,
                late: false,
            }));
        }
    }
    assert_eq!(events.len(), 10_000);
    events
}

fn tell(engine: &mut Engine, at: Timestamp, events: &[Event], out: &mut Outcome) -> usize {
    let mut transitions = 0;
    for (no, event) in (1..).zip(events) {
        out.transitions.clear();
        out.facts.clear();
        engine.handle(at, no, event, out);
        transitions += out.transitions.len();
    }
    transitions
}

/// Everything is as it was.
#[divan::bench(sample_count = 50)]
fn quiet(bencher: Bencher) {
    let events = events("normal");
    let mut engine = Engine::restore(plan(), Vec::new(), &[], AT);
    let (mut at, mut out) = (AT, Outcome::default());
    tell(&mut engine, at, &events, &mut out);
    bencher.counter(ItemsCount::new(events.len())).bench_local(|| {
        at = at + Span::from_secs(1);
        assert_eq!(tell(&mut engine, at, &events, &mut out), 0);
    });
}

/// Each of the 2000 detectors raises its fire hazard; the other 8000 readings are at rest.
#[divan::bench(sample_count = 20)]
fn raising(bencher: Bencher) {
    let events = events("alarm");
    let rest = Engine::restore(plan(), Vec::new(), &[], AT);
    bencher
        .counter(ItemsCount::new(events.len()))
        .with_inputs(|| (rest.clone(), Outcome::default()))
        .bench_local_values(|(mut engine, mut out)| {
            assert!(tell(&mut engine, AT, &events, &mut out) >= DEVICES);
            engine
        });
}

/// The limit: finding the point and storing its newest value.
#[divan::bench(sample_count = 50)]
fn bare_hash_map(bencher: Bencher) {
    let events = events("normal");
    let mut last: HashMap<PointId, Value> = HashMap::new();
    bencher.counter(ItemsCount::new(events.len())).bench_local(|| {
        for event in &events {
            let Event::Reading(reading) = event else { continue };
            match last.get_mut(&reading.point) {
                Some(value) => *value = reading.value.clone(),
                None => _ = last.insert(reading.point.clone(), reading.value.clone()),
            }
        }
    });
}
