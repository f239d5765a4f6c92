//! Tests of the Influx sink: against a real VictoriaMetrics, and against a server that answers by a script.

use super::*;
use crate::support::victoria::Victoria;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fengsui::model::{Flaw, Quality, Reading, Span, Value};
use fengsui::sinks::influx::{Influx, REFUSED_KEPT};
use fengsui::sinks::{Progress, Worker};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Steps until nothing is waiting; a pause is not waited for, only counted.
pub(super) async fn drain(sink: &mut Influx) -> usize {
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
    assert_eq!((house.cursor().await, house.lag()), (1, 3));

    // The gateway is started again as well: only the cursor remembers.
    victoria.start().await;
    let mut sink = house.sink(&victoria.url());
    drain(&mut sink).await;
    assert_eq!((house.cursor().await, house.lag()), (4, 0));

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
pub(super) struct Scripted {
    seen: Arc<Mutex<Seen>>,
    answer: Arc<Mutex<Answer>>,
    pub(super) url: String,
}

impl Scripted {
    pub(super) async fn start(
        answer: impl FnMut(&[String]) -> (u16, Option<&'static str>) + Send + 'static,
    ) -> Self {
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
        let text = if status == 204 { "" } else { "because" };
        (StatusCode::from_u16(status).unwrap(), after.map_or_else(HeaderMap::new, to_headers), text)
            .into_response()
    }

    pub(super) fn accepted(&self) -> Vec<String> {
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
    let reason = reason.en;
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
    let reason = reason.en;
    assert_eq!(wait, Duration::from_secs(7), "{reason}");
    let Progress::BackOff { wait, reason } = sink.step().await else { panic!("it went on") };
    let reason = reason.en;
    assert!(wait <= Duration::from_secs(2) && wait >= Duration::from_millis(500), "{wait:?}");
    assert!(reason.contains("503"), "{reason}");
    assert_eq!((house.cursor().await, house.metrics.influx_retries.get()), (0, 2));
    assert_eq!(sink.step().await, Progress::Delivered { entries: 1, lines: 10 });
    assert_eq!(server.accepted().len(), 10, "each line once");
}

#[tokio::test]
async fn a_silent_server_holds_the_sink_no_longer_than_the_time_out() {
    let mut silent = true;
    let server = Scripted::start(move |_| (if std::mem::take(&mut silent) { 0 } else { 204 }, None)).await;
    let mut house = House::new();
    house.append_numbers(0, 10).await;
    let mut sink = house.sink_with(&server.url, |settings| settings.timeout = Duration::from_millis(100));
    let Progress::BackOff { reason, .. } = sink.step().await else { panic!("it went on") };
    let reason = reason.en;
    assert!(reason.contains("no answer within the time-out"), "{reason}");
    assert_eq!(drain(&mut sink).await, 0);
    assert_eq!(server.accepted().len(), 10);
}

#[tokio::test]
async fn the_page_of_a_captive_portal_is_no_stores_answer() {
    let mut portal = true;
    let server = Scripted::start(move |_| (if std::mem::take(&mut portal) { 200 } else { 204 }, None)).await;
    let mut house = House::new();
    house.append_numbers(0, 10).await;
    let mut sink = house.sink(&server.url);
    let Progress::BackOff { reason, .. } = sink.step().await else { panic!("it took a page for an answer") };
    assert!(reason.zh.contains("网页") && reason.en.contains("sign-in"), "{reason:?}");
    assert_eq!(house.cursor().await, 0, "nothing is taken as delivered");
    assert_eq!(drain(&mut sink).await, 0);
    assert_eq!(house.cursor().await, 1);
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
        let reason = reason.en;
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
