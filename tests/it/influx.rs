//! Tests of the Influx sink: against a real VictoriaMetrics, and against a server that answers by a script.

use crate::support::victoria::Victoria;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fengsui::clock::Clock;
use fengsui::journal::{Entry, Journal, Limits, Write};
use fengsui::metrics::Metrics;
use fengsui::model::{
    Cause, Change, ClassId, Condition, Device, DeviceId, Evidence, Flaw, Hazard, HazardId, LinkId, Number,
    Phase, Plan, Point, PointId, Priority, ProfileId, Quality, Quantity, Reading, RuleId, SignalClass, Site,
    SiteId, Span, Text, Timestamp, Transition, Value, Zone, ZoneId,
};
use fengsui::sinks::influx::{Influx, InfluxSettings, REFUSED_KEPT, REFUSED_KIND, Way};
use fengsui::sinks::{Progress, Worker};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

mod outage;
mod version_1;

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
    head: u64,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let (journal, _) = Journal::open(dir.path(), Limits::default(), metrics.clone()).unwrap();
        Self { dir, journal, metrics, clock: Clock::simulated(START), head: 0 }
    }

    async fn append(&mut self, readings: Vec<Reading>, transitions: Vec<Transition>) {
        self.head += 1;
        let entry =
            Entry { no: self.head, at: START, recorded: true, readings, transitions, notes: Vec::new() };
        let write =
            Write { entry: Arc::new(entry), facts: vec![], receipts: vec![], strays: vec![], restamp: None };
        self.journal.append(write).await.unwrap();
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

    async fn cursor(&self) -> u64 {
        self.journal.cursor(CURSOR).await.unwrap()
    }

    async fn refused(&self) -> Vec<serde_json::Value> {
        let documents = self.journal.documents(REFUSED_KIND).await.unwrap();
        documents.iter().map(|(_, json)| serde_json::from_str(json).unwrap()).collect()
    }
}

/// Steps until nothing is waiting; a pause is not waited for, only counted.
async fn drain(sink: &mut Influx) -> usize {
    for pauses in 0..100 {
        loop {
            match sink.step().await {
                Progress::Idle => return pauses,
                Progress::Delivered { .. } => {}
                Progress::BackOff { .. } => break,
            }
        }
    }
    panic!("it never came to an end");
}

#[tokio::test]
async fn every_point_arrives_in_a_real_victoria_metrics_although_it_was_down_in_between() {
    let mut victoria = Victoria::new();
    let mut house = House::new();
    let mut sink = house.sink(&victoria.url());
    house.append_numbers(0, 250).await;
    assert!(matches!(sink.step().await, Progress::BackOff { .. }), "nobody listens yet");
    assert_eq!(house.cursor().await, 0);

    victoria.start().await;
    drain(&mut sink).await;
    assert_eq!(house.cursor().await, 1);

    victoria.stop().await;
    for first in [250, 400, 550] {
        house.append_numbers(first, 150).await;
    }
    assert!(matches!(sink.step().await, Progress::BackOff { .. }));
    assert_eq!((house.cursor().await, house.metrics.influx_lag.get()), (1, 3));

    // The gateway is started again as well: only the cursor remembers.
    victoria.start().await;
    let mut sink = house.sink(&victoria.url());
    drain(&mut sink).await;
    assert_eq!((house.cursor().await, house.metrics.influx_lag.get()), (4, 0));

    let samples = victoria.samples("residual_current_value").await;
    let expected: Vec<(i64, f64)> =
        (0..700).map(|n| ((START + Span::from_secs(i64::from(n))).as_millis(), f64::from(n))).collect();
    let got: Vec<(i64, f64)> = samples.iter().map(|(time, value, _)| (*time, *value)).collect();
    assert_eq!(got, expected);
    let labels = &samples[0].2;
    assert_eq!(
        [&labels["site"], &labels["zone"], &labels["device"], &labels["point"]],
        ["sunshine", "f1", "rc-01", "leak"]
    );
    assert_eq!(house.metrics.influx_refused.get(), 0);
}

#[tokio::test]
async fn states_flags_qualities_and_hazards_arrive_as_numbers() {
    let mut victoria = Victoria::new();
    victoria.start().await;
    let mut house = House::new();
    let bad = Reading {
        quality: Quality::Bad,
        flaw: Some(Flaw::NoAnswer),
        ..reading("rc-01/leak", Value::Absent, START)
    };
    let sampled = START - Span::from_secs(60);
    let readings = vec![
        bad,
        reading("rc-01/tamper", Value::Flag(true), START),
        reading("rc-01/pump", Value::Code("fault".into()), START),
        Reading {
            sampled_at: Some(sampled),
            quality: Quality::Uncertain,
            ..reading("gone/x", number(7.5), START)
        },
    ];
    house.append(readings, vec![transition(false), transition(true)]).await;
    let mut sink = house.sink(&victoria.url());
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 6 });

    let values = async |name: &str| -> Vec<f64> {
        victoria.samples(name).await.into_iter().map(|(_, value, _)| value).collect()
    };
    assert!(values("residual_current_value").await.is_empty());
    assert_eq!(values("residual_current_quality").await, [2.0]);
    assert_eq!(values("tamper_state").await, [1.0]);
    assert_eq!(values("pump_state_state").await, [2.0]);
    assert_eq!(values("unplanned_quality").await, [1.0]);
    let unplanned = victoria.samples("unplanned_value").await;
    assert_eq!((unplanned[0].0, unplanned[0].1), (sampled.as_millis(), 7.5));
    assert_eq!(values("hazard_open").await, [1.0, 0.0]);
    let labels = &victoria.samples("hazard_open").await[0].2;
    assert_eq!([&labels["signal"], &labels["priority"], &labels["rule"]], ["fault", "yellow", "leak-high"]);
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

type Answer = Box<dyn FnMut(&[String]) -> (u16, Option<&'static str>) + Send>;

/// What the scripted server saw.
#[derive(Default)]
struct Seen {
    accepted: Vec<String>,
    posts: usize,
    headers: HeaderMap,
    query: HashMap<String, String>,
}

#[derive(Clone)]
struct Scripted {
    seen: Arc<Mutex<Seen>>,
    answer: Arc<Mutex<Answer>>,
    url: String,
}

impl Scripted {
    async fn start(answer: impl FnMut(&[String]) -> (u16, Option<&'static str>) + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server =
            Self { seen: Arc::default(), answer: Arc::new(Mutex::new(Box::new(answer))), url: url.clone() };
        let write = axum::routing::post(Self::write);
        let app = axum::Router::new().route("/api/v2/write", write).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    async fn write(
        State(server): State<Self>,
        Query(query): Query<HashMap<String, String>>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let mut text = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (status, after) = (server.answer.lock().unwrap())(&lines);
        if status == 0 {
            // Silence.
            std::future::pending::<()>().await;
        }
        let mut seen = server.seen.lock().unwrap();
        seen.posts += 1;
        (seen.headers, seen.query) = (headers, query);
        if status < 300 {
            seen.accepted.extend(lines);
        }
        let after = after.map(|after| [("retry-after", after)]);
        (StatusCode::from_u16(status).unwrap(), after.map_or_else(HeaderMap::new, to_headers), "because")
            .into_response()
    }

    fn accepted(&self) -> Vec<String> {
        self.seen.lock().unwrap().accepted.clone()
    }
}

fn to_headers(pairs: [(&'static str, &'static str); 1]) -> HeaderMap {
    pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[tokio::test]
async fn one_bad_line_is_lost_alone_and_stays_visible() {
    let is_bad = |line: &String| line.contains("value=57 ");
    let server = Scripted::start(move |lines| (if lines.iter().any(is_bad) { 400 } else { 204 }, None)).await;
    let mut house = House::new();
    house.append_numbers(0, 100).await;
    let mut sink = house.sink(&server.url);
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 99 });
    assert_eq!(house.cursor().await, 1);
    let accepted: BTreeSet<String> = server.accepted().into_iter().collect();
    assert_eq!((accepted.len(), accepted.iter().filter(|line| is_bad(line)).count()), (99, 0));
    assert_eq!(house.metrics.influx_refused.get(), 1);
    let refused = house.refused().await;
    assert_eq!(refused.len(), 1);
    assert!(is_bad(&refused[0]["line"].as_str().unwrap().to_owned()), "{refused:?}");
    assert_eq!(refused[0]["reason"], "because");

    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.headers["authorization"], "Token secret");
    assert_eq!(seen.headers["content-encoding"], "gzip");
    let query = |key: &str| seen.query[key].as_str();
    assert_eq!([query("org"), query("bucket"), query("precision")], ["烽燧", "site a", "ms"]);
}

#[tokio::test]
async fn the_list_of_refused_lines_is_bounded_and_survives_a_restart() {
    let is_bad = |line: &String| line.contains("quality=2i");
    let server = Scripted::start(move |lines| (if lines.iter().any(is_bad) { 422 } else { 204 }, None)).await;
    let mut house = House::new();
    // A good line before each bad one: the server is not one that refuses everything.
    let mut readings = Vec::new();
    for n in 0..150 {
        let at = START + Span::from_secs(n);
        readings.push(reading("rc-01/leak", number(1.0), at));
        readings.push(Reading { quality: Quality::Bad, ..reading("rc-01/tamper", Value::Flag(true), at) });
    }
    let rest = readings.split_off(150);
    house.append(readings, Vec::new()).await;
    drain(&mut house.sink(&server.url)).await;
    house.append(rest, Vec::new()).await;
    drain(&mut house.sink(&server.url)).await;
    assert_eq!(house.metrics.influx_refused.get(), 150);
    let mut numbers: Vec<u64> =
        house.refused().await.iter().map(|one| one["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (50..150).collect::<Vec<_>>());
    assert_eq!(numbers.len() as u64, REFUSED_KEPT);
    assert_eq!(server.accepted().len(), 150);
}

#[tokio::test]
async fn a_server_that_refuses_every_line_is_not_obeyed_for_long() {
    let server = Scripted::start(|_| (400, None)).await;
    let mut house = House::new();
    house.append_numbers(0, 90).await;
    let mut sink = house.sink(&server.url);
    let Progress::BackOff { reason, .. } = sink.step().await else { panic!("it went on") };
    assert!(reason.contains("refuses every line"), "{reason}");
    assert!(house.metrics.influx_refused.get() <= 20);
    assert_eq!(house.cursor().await, 0);
}

#[tokio::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let mut answers = vec![(503, None), (429, Some("7"))];
    let server = Scripted::start(move |_| answers.pop().unwrap_or((204, None))).await;
    let mut house = House::new();
    house.append_numbers(0, 10).await;
    let mut sink = house.sink(&server.url);
    let Progress::BackOff { wait, reason } = sink.step().await else { panic!("it went on") };
    assert_eq!(wait, Duration::from_secs(7), "{reason}");
    let Progress::BackOff { wait, reason } = sink.step().await else { panic!("it went on") };
    assert!(wait <= Duration::from_secs(2) && wait >= Duration::from_millis(500), "{wait:?}");
    assert!(reason.contains("503"), "{reason}");
    assert_eq!((house.cursor().await, house.metrics.influx_retries.get()), (0, 2));
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 10 });
    assert_eq!(server.accepted().len(), 10, "each line once");
}

#[tokio::test]
async fn a_silent_server_holds_the_sink_no_longer_than_the_time_out() {
    let mut silent = true;
    let server = Scripted::start(move |_| (if std::mem::take(&mut silent) { 0 } else { 200 }, None)).await;
    let mut house = House::new();
    house.append_numbers(0, 10).await;
    let mut sink = house.sink_with(&server.url, |settings| settings.timeout = Duration::from_millis(100));
    let Progress::BackOff { reason, .. } = sink.step().await else { panic!("it went on") };
    assert!(reason.contains("no answer within the time-out"), "{reason}");
    assert_eq!(drain(&mut sink).await, 0);
    assert_eq!(server.accepted().len(), 10);
}

#[tokio::test]
async fn a_refused_token_loses_nothing_and_says_what_to_do() {
    let mut answers = vec![(404, None), (403, None), (401, None)];
    let server = Scripted::start(move |_| answers.pop().unwrap_or((204, None))).await;
    let mut house = House::new();
    house.append_numbers(0, 10).await;
    let mut sink = house.sink(&server.url);
    for expected in
        ["check the token", "check the token", "check the address, the organisation and the bucket"]
    {
        let Progress::BackOff { reason, .. } = sink.step().await else { panic!("it went on") };
        assert!(reason.contains(expected), "{reason}");
        assert!(!reason.contains("secret"), "the token is not shown: {reason}");
    }
    assert_eq!((house.cursor().await, house.refused().await.len()), (0, 0));
    drain(&mut sink).await;
    assert_eq!((house.cursor().await, server.accepted().len()), (1, 10));
}

#[tokio::test]
async fn a_failure_in_the_middle_repeats_only_what_was_not_confirmed() {
    let mut posts = 0;
    let server = Scripted::start(move |_| {
        posts += 1;
        (if posts == 3 { 500 } else { 204 }, None)
    })
    .await;
    let mut house = House::new();
    house.append_numbers(0, 450).await;
    let mut sink = house.sink(&server.url);
    assert!(matches!(sink.step().await, Progress::BackOff { .. }));
    assert_eq!((server.accepted().len(), house.cursor().await), (200, 0));
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 450 });
    assert_eq!((server.accepted().len(), house.cursor().await), (450, 1));
}

#[tokio::test]
async fn the_shared_loop_delivers_what_comes_and_stops_when_cancelled() {
    let server = Scripted::start(|_| (204, None)).await;
    let mut house = House::new();
    let cancel = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(fengsui::sinks::run(
        house.sink(&server.url),
        tokio::sync::watch::channel(None).0,
        cancel.clone(),
    ));
    for first in 0..3 {
        house.append_numbers(first, 1).await;
        let arrived = async {
            while house.cursor().await < house.head {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("it is woken");
    }
    assert_eq!(server.accepted().len(), 3);
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("it stops").unwrap();
    assert!(house.dir.path().exists());
}
