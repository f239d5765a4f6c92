//! Tests of the sinks: against real stores, against a server that answers by a script, and into folders.

mod bad_network;
mod folder;
mod influx;
mod outage;
mod version_1;
mod whole;

use fengsui::clock::Clock;
use fengsui::journal::{Entry, Journal, Limits, Note, Write};
use fengsui::metrics::Metrics;
use fengsui::model::{
    Cause, Change, ClassId, Condition, Device, DeviceId, Evidence, Hazard, HazardId, LinkId, Number, Phase,
    Plan, Point, PointId, Priority, ProfileId, Quality, Quantity, Reading, RuleId, SignalClass, Site, SiteId,
    Span, Text, Timestamp, Transition, Value, Zone, ZoneId,
};
use fengsui::sinks::influx::{Influx, InfluxSettings, REFUSED_KIND, Way};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The cursor of the store that the tests call `store`.
const CURSOR: &str = "influx:store";

/// 2026-01-15T02:30:05Z.
const START: Timestamp = Timestamp::from_secs(1_768_444_205);

fn plan() -> Plan {
    let device = DeviceId::parse("rc-01").unwrap();
    let point = |name: &str, class: &str, quantity, states: &[&str]| Point {
        id: PointId::new(&device, name).unwrap(),
        class: ClassId::parse(class).unwrap(),
        name: Text::new(name, name),
        quantity,
        range: None,
        states: states.iter().map(|state| (Arc::from(*state), Text::new(state, state))).collect(),
        decimals: 0,
        rules: Vec::new(),
    };
    let points = vec![
        point("leak", "residual_current", Quantity::ResidualCurrent, &[]),
        point("tamper", "tamper", Quantity::Flag, &[]),
        point("pump", "pump_state", Quantity::State, &["stopped", "running", "fault"]),
    ];
    let device = Device {
        id: device,
        name: "一层配电箱".into(),
        place: "一层东侧".into(),
        profile: ProfileId::parse("acrel/arcm300").unwrap(),
        model: Text::new("探测器", "detector"),
        link: LinkId::parse("bus").unwrap(),
        silent_after: None,
        commands: Vec::new(),
        points,
    };
    let zone = Zone { id: ZoneId::parse("f1").unwrap(), name: "一层".into(), devices: vec![device] };
    Plan::new(vec![Site {
        id: SiteId::parse("sunshine").unwrap(),
        name: "阳光养老院".into(),
        address: "".into(),
        contacts: Vec::new(),
        zones: vec![zone],
    }])
}

fn reading(point: &str, value: Value, at: Timestamp) -> Reading {
    Reading {
        point: PointId::parse(point).unwrap(),
        value,
        quality: Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: at,
        late: false,
    }
}

fn number(value: f64) -> Value {
    Value::Number(Number::new(value).unwrap())
}

/// A journal and a sink that reads it.
struct House {
    dir: tempfile::TempDir,
    journal: Journal,
    metrics: Metrics,
    clock: Clock,
    /// When entries are written.
    entry_at: Timestamp,
    head: u64,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let (journal, _) = Journal::open(dir.path(), Limits::default(), metrics.clone()).unwrap();
        Self { dir, journal, metrics, clock: Clock::simulated(START), entry_at: START, head: 0 }
    }

    async fn append(&mut self, readings: Vec<Reading>, transitions: Vec<Transition>) {
        self.append_all(readings, transitions, Vec::new()).await;
    }

    async fn append_all(&mut self, readings: Vec<Reading>, transitions: Vec<Transition>, notes: Vec<Note>) {
        self.head += 1;
        let (no, at) = (self.head, self.entry_at);
        let entry = Entry { no, at, recorded: true, readings, transitions, notes };
        self.journal.append(Write::of(entry)).await.unwrap();
    }

    /// One entry with that many readings, one a second from `first` on, whose value is their own number.
    async fn append_numbers(&mut self, first: i64, count: i64) {
        self.append_numbers_at(first, count, START + Span::from_secs(first)).await;
    }

    /// The same from another time on.
    async fn append_numbers_at(&mut self, first: i64, count: i64, from: Timestamp) {
        let at = |n: i64| from + Span::from_secs(n - first);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let readings =
            (first..first + count).map(|n| reading("rc-01/leak", number(n as f64), at(n))).collect();
        self.append(readings, Vec::new()).await;
    }

    fn sink(&self, url: &str) -> Influx {
        self.sink_with(url, |_| {})
    }

    fn sink_with(&self, url: &str, change: impl FnOnce(&mut InfluxSettings)) -> Influx {
        let (org, bucket) = ("烽燧".to_owned(), "site a".to_owned());
        let mut settings =
            InfluxSettings::new("store", url, Way::V2 { org, bucket, token: Some("secret".to_owned()) });
        (settings.batch_lines_max, settings.timeout) = (100, Duration::from_secs(5));
        change(&mut settings);
        let (_, plan) = watch::channel(Arc::new(plan()));
        Influx::new(settings, self.journal.clone(), plan, self.clock.clone(), self.metrics.clone()).unwrap()
    }

    fn lag(&self) -> i64 {
        self.metrics.sink_lag.get_or_create(&fengsui::metrics::Sink::named("store")).get()
    }

    async fn cursor(&self) -> u64 {
        self.journal.cursor(CURSOR).await.unwrap()
    }

    async fn refused(&self) -> Vec<serde_json::Value> {
        let documents = self.journal.documents(REFUSED_KIND).await.unwrap();
        documents.iter().map(|(_, json)| serde_json::from_str(json).unwrap()).collect()
    }
}

fn transition(closed: bool) -> Transition {
    let (point, rule) = (PointId::parse("rc-01/leak").unwrap(), RuleId::parse("leak-high").unwrap());
    let at = if closed { START + Span::from_secs(9) } else { START };
    let signature = fengsui::model::Signature { by: "zhang".into(), at, note: "".into() };
    let evidence = Evidence {
        value: number(342.0),
        flaw: None,
        unit: "mA".into(),
        point_name: Text::new("剩余电流", "residual current"),
        state_name: None,
        condition: Condition::AtLeast { limit: Number::new(300.0).unwrap(), deadband: Number::ZERO },
        on_delay: Span::ZERO,
        basis: "本系统默认值".into(),
    };
    let hazard = Hazard {
        id: HazardId::derive(1, &point, &rule),
        point,
        rule,
        signal: SignalClass::Fault,
        priority: Priority::Yellow,
        latching: false,
        title: Text::new("剩余电流过高", "residual current high"),
        evidence,
        raised_at: START,
        sampled_at: None,
        late: false,
        occurrences: 1,
        last_raised_at: START,
        returned_at: closed.then_some(at),
        acknowledged: closed.then(|| signature.clone()),
        silenced: None,
        closed: closed.then_some(signature),
    };
    let (change, phase) =
        if closed { (Change::Reset, Phase::Normal) } else { (Change::Raised, Phase::Active) };
    Transition { hazard, change, phase, at, cause: Cause::Deadline }
}
