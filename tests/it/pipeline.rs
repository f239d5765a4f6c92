//! The loop with a real journal, and channels in the place of the sources.

mod kept;
mod time;

use crate::support::gateway::Stuck;
use crate::support::journal::everything;
use crate::support::ports::{PATIENCE, soon, until};
use fengsui::clock::Clock;
use fengsui::commands::{self, Door, Refused};
use fengsui::config::Config;
use fengsui::hazard::Engine;
use fengsui::journal::{AppendError, Entry, Journal, Limits, NoteKind, StrayKind};
use fengsui::metrics::Metrics;
use fengsui::model::{
    Body, Change, Command, CommandKind, Delivery, Frame, HazardId, LinkChange, LinkId, Reading, SourceIndex,
    Span, Timestamp, Value,
};
use fengsui::pipeline::{
    BACKLOG_ENTRIES_MAX, Binding, CALM_FOR, LinkState, Parts, Pipeline, Rhythm, Router, Window,
};
use fengsui::sources::Arrival;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const GATEWAY: &str = "plan = \"plan.toml\"\n[broker]\nlisten = \"127.0.0.1:1883\"\nanonymous = true\n";

const PLAN: &str = r#"
[[site]]
id = "sunshine"
name = "阳光养老院"
address = "某路 8 号"
[[site.contact]]
role = "值班室"
phone = "119"
[[site.zone]]
id = "floor-2"
name = "二层"
[[site.zone.device]]
id = "sd-203"
name = "203 烟感"
profile = "fengsui/smoke-json"
link = "broker"
address = "203"
"#;

/// Long enough that nothing in a test is committed because time went by.
const NEVER: Span = Span::from_secs(3600);

struct Stage {
    to: mpsc::Sender<Arrival>,
    acks: Vec<mpsc::Receiver<Vec<Delivery>>>,
    door: Door,
    clock: Clock,
    metrics: Metrics,
    journal: Journal,
    links: watch::Receiver<BTreeMap<LinkId, LinkState>>,
    cancel: CancellationToken,
    running: JoinHandle<Result<(), AppendError>>,
}

struct Setting {
    windows: Vec<Window>,
    commit_window: Span,
    acks_max: usize,
    clock: Clock,
    /// The points' newest readings.
    newest: Vec<Reading>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            windows: vec![Window { messages: 20, of_many: false }],
            commit_window: Span::from_millis(50),
            acks_max: 64,
            clock: Clock::system(),
            newest: Vec::new(),
        }
    }
}

impl Stage {
    fn set(dir: &Path, setting: Setting) -> Self {
        let (config, _) =
            Config::from_texts(&[("gateway.toml", GATEWAY), ("plan.toml", PLAN)], &|_| None).unwrap();
        let (clock, metrics) = (setting.clock, Metrics::new());
        let (journal, restored) = Journal::open(dir, Limits::default(), metrics.clone()).unwrap();
        if let Some(newest_at) = restored.newest_at {
            clock.not_before(newest_at);
        }
        let (link_sender, links) = watch::channel(BTreeMap::new());
        let bind = |from: &fengsui::config::Binding| Binding {
            device: from.device.clone(),
            link: from.link.clone(),
            address: from.address.clone(),
            profile: from.profile.clone(),
            points: from.points.clone(),
        };
        let (senders, acks) = setting.windows.iter().map(|_| mpsc::channel(setting.acks_max)).unzip();
        let (door, requests) = commands::door();
        let pipeline = Pipeline::new(Parts {
            engine: Engine::restore(config.plan.clone(), restored.facts, &[], clock.now()),
            router: Router::new(config.bindings.iter().map(bind).collect()),
            journal: journal.clone(),
            head: restored.head,
            recovered: restored.recovered,
            receipts: restored.receipts,
            heard: fengsui::pipeline::Heard::of(&setting.newest),
            acks: senders,
            asks: Vec::new(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            desk: Default::default(),
            rhythm: Rhythm { commit_window: setting.commit_window, windows: setting.windows },
            links: link_sender,
            tap: fengsui::capture::Tap::new(Metrics::new()),
        });
        let (to, arrivals) = mpsc::channel(4096);
        let cancel = CancellationToken::new();
        let running = tokio::spawn(pipeline.run(arrivals, requests, cancel.clone()));
        Self { to, acks, door, clock, metrics, journal, links, cancel, running }
    }

    fn frame(&self, source: u16, topic: &str, payload: &str, delivery: Option<Delivery>) -> Arrival {
        Arrival::Frame(Frame {
            source: SourceIndex(source),
            link: LinkId::parse("broker").unwrap(),
            body: Body::Message { topic: topic.into(), payload: payload.to_owned().into() },
            received_at: self.clock.now(),
            retained: false,
            delivery,
        })
    }

    /// One message of the smoke detector, waiting for its acknowledgement under `key`.
    async fn say(&self, source: u16, key: u32, payload: &str) {
        let delivery = Delivery { epoch: 1, key, duplicate: false };
        self.to.send(self.frame(source, TOPIC, payload, Some(delivery))).await.unwrap();
    }

    /// Acknowledged keys of a source, until so many came.
    async fn acked(&mut self, source: usize, count: usize) -> Vec<u32> {
        let mut keys = Vec::new();
        soon(&format!("{count} acknowledgements"), async {
            while keys.len() < count {
                keys.extend(self.acks[source].recv().await.unwrap().iter().map(|delivery| delivery.key));
            }
        })
        .await;
        keys
    }

    async fn recorded(&self, no: u64) {
        let recorded = self.journal.recorded();
        until(&format!("entry {no} is recorded"), || *recorded.borrow() >= no).await;
    }

    /// Ends it in order and gives everything that is on the disk.
    async fn end(self) -> Vec<Arc<Entry>> {
        self.cancel.cancel();
        soon("the loop ends", self.running).await.unwrap().unwrap();
        everything(&self.journal).await
    }
}

const TOPIC: &str = "site/a/device/203/up";

/// The temperatures of all readings, by which the tests tell messages apart.
fn temperatures(entries: &[Arc<Entry>]) -> Vec<f64> {
    let readings = entries.iter().flat_map(|entry| &entry.readings);
    readings
        .filter(|reading| reading.point.name() == "temperature")
        .filter_map(|reading| match &reading.value {
            Value::Number(number) => Some(number.get()),
            _ => None,
        })
        .collect()
}

fn numbers(entries: &[Arc<Entry>]) -> Vec<u64> {
    entries.iter().map(|entry| entry.no).collect()
}

/// In paused time ten hours pass as fast as the loop can be woken for them: once a second, or once a millisecond by
/// one that spins.
#[test]
fn a_refused_command_leaves_the_loop_asleep() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = TempDir::new().unwrap();
            // The system's clock would not move with paused time, which looks like a step.
            let clock = Clock::simulated(Timestamp::from_secs(1_800_000_000));
            let stage = Stage::set(dir.path(), Setting { clock, ..Setting::default() });
            stage.recorded(1).await;
            tokio::time::pause();
            let command = Command {
                hazard: HazardId::from_text("nothing-of-that-name"),
                kind: CommandKind::Reset,
                by: "张三".into(),
                note: "".into(),
            };
            let refused = stage.door.ask(command).await;
            assert!(matches!(refused, Err(Refused::Rule(..))), "{refused:?}");
            tokio::time::sleep(Duration::from_secs(36_000)).await;
            done.send(()).unwrap();
        });
    });
    ended.recv_timeout(PATIENCE).expect("the loop spins after a refused command");
}

#[tokio::test]
async fn a_narrow_window_is_served_although_a_wide_one_spoke_last() {
    let dir = TempDir::new().unwrap();
    let narrow = Window { messages: 20, of_many: false };
    let wide = Window { messages: 1000, of_many: false };
    let setting = Setting { windows: vec![narrow, wide], commit_window: NEVER, ..Setting::default() };
    let mut stage = Stage::set(dir.path(), setting);
    // Taken in one turn of the loop: they all wait in the channel before it runs.
    let mut all = Vec::new();
    for key in 0..15 {
        let delivery = Delivery { epoch: 1, key, duplicate: false };
        all.push(stage.frame(0, TOPIC, &format!(r#"{{"temperature":{key}}}"#), Some(delivery)));
    }
    let delivery = Delivery { epoch: 1, key: 99, duplicate: false };
    all.push(stage.frame(1, TOPIC, r#"{"temperature":42}"#, Some(delivery)));
    for (permit, arrival) in stage.to.reserve_many(all.len()).await.unwrap().zip(all) {
        permit.send(arrival);
    }
    assert_eq!(stage.acked(0, 15).await, (0..15).collect::<Vec<_>>());
    assert_eq!(stage.acked(1, 1).await, [99]);
    stage.end().await;
}

#[tokio::test]
async fn acknowledgements_that_found_no_room_go_out_although_nothing_more_arrives() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), Setting { acks_max: 1, ..Setting::default() });
    stage.recorded(1).await;
    for (key, no) in [(1, 2), (2, 3), (3, 4)] {
        stage.say(0, key, &format!(r#"{{"temperature":{key}}}"#)).await;
        stage.recorded(no).await;
    }
    assert_eq!(stage.acked(0, 3).await, [1, 2, 3]);
    stage.end().await;
}

#[tokio::test]
async fn while_the_journal_is_stuck_a_fire_is_shown_and_later_recorded_under_the_same_numbers() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), Setting::default());
    stage.recorded(1).await;
    let stuck = Stuck::hold(dir.path());
    let mut head = stage.journal.head();
    for key in 0..40_u32 {
        stage.say(0, key, &format!(r#"{{"temperature":{}}}"#, 10.0 + f64::from(key) / 2.0)).await;
    }
    stage.say(0, 40, r#"{"smoke":1,"temperature":40.5}"#).await;
    let mut shown: Vec<Arc<Entry>> = Vec::new();
    let seen_fire = |shown: &[Arc<Entry>]| {
        let moved = shown.iter().flat_map(|entry| &entry.transitions);
        moved.filter(|moved| moved.change == Change::Raised).any(|moved| moved.hazard.point.name() == "smoke")
    };
    let seen_fault = |shown: &[Arc<Entry>]| {
        let mut moved = shown.iter().flat_map(|entry| &entry.transitions);
        moved.any(|moved| moved.hazard.point.as_str() == "gateway/journal")
    };
    soon("the fire and the gateway's own fault are shown without the journal", async {
        while !(seen_fire(&shown) && seen_fault(&shown)) {
            head.changed().await.unwrap();
            let after = shown.last().map_or(1, |entry| entry.no);
            shown.extend(stage.journal.read_after(after, 100).await.unwrap());
        }
    })
    .await;
    assert!(shown.iter().all(|entry| !entry.recorded), "nothing can have been recorded");
    // A person's word counts too, and he is told that it is not recorded yet.
    let fire = shown
        .iter()
        .flat_map(|entry| &entry.transitions)
        .find(|moved| moved.hazard.point.name() == "smoke")
        .unwrap()
        .hazard
        .clone();
    let word = Command {
        hazard: fire.id.clone(),
        kind: CommandKind::Acknowledge,
        by: "张三".into(),
        note: "".into(),
    };
    let done = soon("an answer", stage.door.ask(word)).await.unwrap();
    assert!(!done.recorded);
    // 41 came, three quarters of the window of 20 are withheld, the rest lets the broker go on.
    let early = stage.acked(0, 26).await;
    assert_eq!(early, (0..26).collect::<Vec<_>>(), "the oldest are let go of, and no more than needed");
    assert_eq!(stage.metrics.frames_acked_unrecorded.get(), 26);
    stuck.release();
    assert_eq!(stage.acked(0, 15).await, (26..41).collect::<Vec<_>>());
    let entries = stage.end().await;
    assert_eq!(numbers(&entries), (1..=entries.len() as u64).collect::<Vec<_>>(), "a gap or a repetition");
    for seen in &shown {
        let kept = entries.iter().find(|entry| entry.no == seen.no).expect("a shown number was not recorded");
        assert_eq!((&kept.transitions, &kept.notes), (&seen.transitions, &seen.notes), "entry {}", seen.no);
        assert_eq!(kept.readings, seen.readings, "entry {}", seen.no);
    }
    assert!(entries.iter().any(|entry| entry.no == done.no
        && entry.transitions.iter().any(|moved| moved.change == Change::Acknowledged)));
    let expected: Vec<f64> = (0..40).map(|key| 10.0 + f64::from(key) / 2.0).chain([40.5]).collect();
    assert_eq!(temperatures(&entries), expected, "each reading once, in order");
    let restored =
        entries.iter().flat_map(|entry| &entry.notes).filter(|note| note.kind == NoteKind::Journal);
    assert!(restored.count() >= 2, "that it failed and that it came back stand in the duty log");
}

#[tokio::test]
async fn while_the_journal_is_stuck_a_publisher_with_one_message_in_flight_gets_the_next_one_through() {
    let dir = TempDir::new().unwrap();
    let window = Window { messages: 200, of_many: true };
    let mut stage = Stage::set(dir.path(), Setting { windows: vec![window], ..Setting::default() });
    stage.recorded(1).await;
    let stuck = Stuck::hold(dir.path());
    stage.say(0, 1, r#"{"temperature":21}"#).await;
    assert_eq!(stage.acked(0, 1).await, [1], "let go of although the journal does not have it");
    assert_eq!(stage.metrics.frames_acked_unrecorded.get(), 1);
    stage.say(0, 2, r#"{"smoke":1}"#).await;
    let journal = stage.journal.clone();
    soon("the fire behind it is shown", async {
        let mut head = journal.head();
        let fire = |entries: Vec<Arc<Entry>>| {
            entries.iter().flat_map(|e| &e.transitions).any(|moved| moved.hazard.point.name() == "smoke")
        };
        while !fire(journal.read_after(1, 100).await.unwrap()) {
            head.changed().await.unwrap();
        }
    })
    .await;
    stuck.release();
    assert_eq!(temperatures(&stage.end().await), [21.0]);
}

#[tokio::test]
async fn a_flood_of_foreign_messages_while_the_journal_is_stuck_is_bounded_and_counted() {
    let dir = TempDir::new().unwrap();
    let stage = Stage::set(dir.path(), Setting::default());
    stage.recorded(1).await;
    let stuck = Stuck::hold(dir.path());
    stage.say(0, 0, r#"{"temperature":20}"#).await;
    let foreign = 5 * 200;
    for n in 0..foreign {
        let arrival = stage.frame(0, &format!("somebody/else/{n}"), "?", None);
        stage.to.send(arrival).await.unwrap();
        if n % 200 == 199 {
            // Something that is shown at once, so that the strays lie in as many entries.
            let code = if n % 400 == 199 { 1 } else { 0 };
            let journal = stage.journal.head();
            let before = *journal.borrow();
            stage.say(0, 1000 + n, &format!(r#"{{"smoke":{code}}}"#)).await;
            until("the loop took it", || *journal.borrow() > before || code == 0).await;
        }
    }
    let dropped = stage.metrics.strays_dropped.clone();
    let frames = stage.metrics.frames_received.clone();
    until("all were taken", || frames.get() >= u64::from(foreign) + 6).await;
    stuck.release();
    let frames_unknown = stage.metrics.frames_unknown.get();
    let journal = stage.journal.clone();
    assert_eq!(temperatures(&stage.end().await), [20.0]);
    assert_eq!(frames_unknown, u64::from(foreign));
    let kept = journal.strays().await.unwrap();
    assert!(kept.iter().all(|stray| stray.kind == StrayKind::Unknown));
    assert_eq!(kept.len() as u64 + dropped.get(), u64::from(foreign), "every one is kept or counted");
}

#[tokio::test]
async fn a_message_sent_again_after_a_restart_is_acknowledged_and_recorded_once() {
    let dir = TempDir::new().unwrap();
    let again = |key: u32| Delivery { epoch: 2, key, duplicate: true };
    let mut stage = Stage::set(dir.path(), Setting::default());
    // The source's own half of the key is another one after a restart; the packet id in it stays.
    stage.say(0, 0x0003_0007, r#"{"temperature":21}"#).await;
    assert_eq!(stage.acked(0, 1).await, [0x0003_0007]);
    let entries = stage.end().await;
    assert_eq!(temperatures(&entries), [21.0]);
    let mut stage = Stage::set(dir.path(), Setting::default());
    for (key, payload) in
        [(7, r#"{"temperature":21}"#), (8, r#"{"temperature":21}"#), (7, r#"{"temperature":22}"#)]
    {
        stage.to.send(stage.frame(0, TOPIC, payload, Some(again(key)))).await.unwrap();
    }
    assert_eq!(stage.acked(0, 3).await, [7, 8, 7], "what is known is acknowledged all the same");
    assert_eq!(stage.metrics.frames_repeated.get(), 1);
    assert_eq!(temperatures(&stage.end().await), [21.0, 21.0, 22.0]);
}

#[tokio::test]
async fn what_waits_in_the_channel_at_the_end_is_recorded_and_acknowledged() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), Setting { commit_window: NEVER, ..Setting::default() });
    stage.cancel.cancel();
    for key in 0..3000 {
        let delivery = Delivery { epoch: 1, key, duplicate: false };
        let arrival = stage.frame(0, TOPIC, &format!(r#"{{"temperature":{}}}"#, key % 50), Some(delivery));
        if stage.to.try_send(arrival).is_err() {
            assert!(key > 0, "the channel was closed before anything was in it");
            break;
        }
    }
    let acked = stage.acked(0, 1).await.len();
    let entries = stage.end().await;
    assert_eq!(
        temperatures(&entries).len(),
        acked,
        "what was taken is on the disk, and only that is acknowledged"
    );
    let last = entries.last().unwrap();
    assert!(last.notes.iter().any(|note| note.kind == NoteKind::Stopped));
}

/// Sends them so that the loop finds all of them waiting at once.
async fn at_once(stage: &Stage, payloads: &[&str]) {
    let frames = payloads.iter().zip(0..).map(|(payload, key)| {
        stage.frame(0, TOPIC, payload, Some(Delivery { epoch: 1, key, duplicate: false }))
    });
    let frames: Vec<_> = frames.collect();
    for (permit, frame) in stage.to.reserve_many(frames.len()).await.unwrap().zip(frames) {
        permit.send(frame);
    }
}

/// The times of all temperatures, in the order of the journal.
fn times(entries: &[Arc<Entry>]) -> Vec<Timestamp> {
    let readings = entries.iter().flat_map(|entry| &entry.readings);
    let temperatures = readings.filter(|reading| reading.point.name() == "temperature");
    temperatures.map(|reading| reading.time()).collect()
}

#[tokio::test]
async fn a_burst_of_one_device_has_a_millisecond_for_each_message_also_over_a_restart() {
    let dir = TempDir::new().unwrap();
    // A broker that kept two hours of a device: what it gives at once is dated almost two seconds ahead.
    let (start, rounds) = (Timestamp::from_secs(1_800_000_000), 2);
    let mut entries = Vec::new();
    for run in 0..2 {
        let window = Window { messages: 1000, of_many: false };
        let clock = Clock::simulated(start + Span::from_millis(100 * run));
        let newest = entries.iter().flat_map(|entry: &Arc<Entry>| entry.readings.clone()).collect();
        let setting = Setting { windows: vec![window], clock, newest, ..Setting::default() };
        let mut stage = Stage::set(dir.path(), setting);
        for _round in 0..rounds {
            at_once(&stage, &[r#"{"temperature":20,"humidity":50}"#; 900]).await;
            stage.acked(0, 900).await;
        }
        assert_eq!(stage.metrics.frames_sharing_a_millisecond.get(), 0);
        entries = stage.end().await;
    }
    let times = times(&entries);
    assert_eq!(times.len(), 2 * 900 * rounds);
    assert!(
        times.is_sorted_by(|earlier, later| earlier < later),
        "a store would keep one reading of several"
    );
}

#[tokio::test]
async fn what_comes_behind_a_fire_does_not_ride_in_its_commit() {
    let dir = TempDir::new().unwrap();
    let window = Window { messages: 1000, of_many: false };
    let mut stage = Stage::set(dir.path(), Setting { windows: vec![window], ..Setting::default() });
    stage.recorded(1).await;
    let mut payloads = vec![r#"{"temperature":20}"#; 30];
    payloads.push(r#"{"smoke":1}"#);
    payloads.extend([r#"{"temperature":30}"#; 30]);
    payloads.push(r#"{"smoke":0}"#);
    payloads.extend([r#"{"temperature":40}"#; 30]);
    at_once(&stage, &payloads).await;
    assert_eq!(stage.acked(0, 62).await, (0..62).collect::<Vec<_>>(), "in the order they came");
    let entries = stage.end().await;
    let with: Vec<_> =
        entries.iter().filter(|e| e.readings.iter().any(|r| r.point.name() == "smoke")).collect();
    assert_eq!(with.len(), 2);
    for (entry, temperature) in with.iter().zip([20.0, 30.0]) {
        assert_eq!(entry.transitions.len(), 1);
        assert_eq!(entry.readings.last().unwrap().point.name(), "smoke", "nothing stands behind it");
        assert_eq!(temperatures(&[Arc::clone(entry)]), vec![temperature; 30]);
    }
}

#[tokio::test]
async fn a_journal_that_stalls_again_and_again_is_one_fault_until_it_was_calm() {
    let dir = TempDir::new().unwrap();
    let clock = Clock::simulated(Timestamp::from_secs(1_800_000_000));
    let mut stage = Stage::set(dir.path(), Setting { clock, ..Setting::default() });
    stage.recorded(1).await;
    let mut shown = stage.journal.head();
    for key in 0..3 {
        let stuck = Stuck::hold(dir.path());
        stage.say(0, key, &format!(r#"{{"temperature":{key}}}"#)).await;
        let (before, recorded) = (*shown.borrow_and_update(), stage.journal.recorded());
        soon("it is shown although the journal stands still", shown.wait_for(|no| *no > before))
            .await
            .unwrap();
        stuck.release();
        let no = *shown.borrow();
        until("it is recorded", || *recorded.borrow() >= no).await;
        assert_eq!(stage.acked(0, 1).await, [key]);
    }
    let told = |entries: &[Arc<Entry>]| {
        let notes = entries.iter().flat_map(|entry| &entry.notes);
        notes.filter(|note| note.kind == NoteKind::Journal).count()
    };
    assert_eq!(told(&everything(&stage.journal).await), 1, "three stalls, one line");
    tokio::time::pause();
    tokio::time::advance(CALM_FOR.to_std()).await;
    tokio::time::resume();
    soon("the line that it keeps up again", async {
        while told(&everything(&stage.journal).await) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let entries = stage.end().await;
    let mut moved = entries.iter().flat_map(|entry| &entry.transitions);
    let of_journal = |moved: &&fengsui::model::Transition| moved.hazard.point.as_str() == "gateway/journal";
    let changes: Vec<_> = moved.by_ref().filter(of_journal).map(|moved| moved.change).collect();
    assert_eq!(changes, [Change::Raised, Change::Returned]);
}

#[tokio::test]
async fn the_last_commit_is_tried_again_when_it_fails() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), Setting { commit_window: NEVER, ..Setting::default() });
    let stuck = Stuck::hold(dir.path());
    stage.say(0, 1, r#"{"temperature":21}"#).await;
    until("it was taken", || stage.metrics.frames_received.get() == 1).await;
    stage.cancel.cancel();
    until("the last commit failed", || stage.metrics.journal_failures.get() >= 1).await;
    stuck.release();
    assert_eq!(stage.acked(0, 1).await, [1]);
    assert_eq!(temperatures(&stage.end().await), [21.0]);
}

#[tokio::test]
async fn a_long_outage_is_bounded_in_entries_and_gives_up_no_change() {
    let dir = TempDir::new().unwrap();
    let stage = Stage::set(dir.path(), Setting::default());
    stage.recorded(1).await;
    let stuck = Stuck::hold(dir.path());
    let mut head = stage.journal.head();
    let (mut said, most) = (0, BACKLOG_ENTRIES_MAX as u64);
    // The smoke comes and goes: each time is a line of the duty log.
    soon("the memory for entries is full", async {
        while *head.borrow() <= most {
            stage.say(0, said, &format!(r#"{{"smoke":{}}}"#, (said + 1) % 2)).await;
            said += 1;
            let frames = stage.metrics.frames_received.clone();
            until("it was taken", || frames.get() == u64::from(said)).await;
        }
    })
    .await;
    for _ in 0..500 {
        stage.say(0, said, &format!(r#"{{"smoke":{}}}"#, (said + 1) % 2)).await;
        said += 1;
    }
    until("all were taken", || stage.metrics.frames_received.get() == u64::from(said)).await;
    let shown = *head.borrow_and_update();
    assert!(shown < most + 60, "changes are shown once a second from then on, not {} times", shown - most);
    stuck.release();
    let entries = stage.end().await;
    let moved = entries.iter().flat_map(|entry| &entry.transitions);
    let smoke = moved.filter(|moved| moved.hazard.point.name() == "smoke").count();
    assert_eq!(smoke, usize::try_from(said).unwrap(), "a change was given up");
}
