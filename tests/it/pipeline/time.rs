//! Stories of time: a box without a clock, NTP, a wrong year, the turn of the year.

use super::*;
use fengsui::model::Reading;
use fengsui::pipeline::HELD_BACK_MAX;
use fengsui::series::Series;

/// 2026-12-31T23:59:50Z.
const EVE: Timestamp = Timestamp::from_secs(1_798_761_590);

const DAY: Span = Span::from_secs(86_400);

fn at_time(clock: Clock) -> Setting {
    Setting { clock, ..Setting::default() }
}

/// One message with a temperature, acknowledged.
async fn tell(stage: &mut Stage, temperature: u32) {
    stage.say(0, temperature, &format!(r#"{{"temperature":{temperature}}}"#)).await;
    assert_eq!(stage.acked(0, 1).await, [temperature]);
}

/// The wall clock is stepped, and the loop has taken it over.
async fn step(stage: &Stage, by: Span) {
    let before = stage.clock.now();
    stage.clock.step_simulated(by);
    let half = Span::from_millis(by.as_millis() / 2);
    until("the step is taken over", || (stage.clock.now() >= before + half) == (by > Span::ZERO)).await;
}

fn measured(entries: &[Arc<Entry>]) -> Vec<&Reading> {
    let readings = entries.iter().flat_map(|entry| &entry.readings);
    readings.filter(|reading| reading.point.name() == "temperature").collect()
}

fn in_order(entries: &[Arc<Entry>]) -> bool {
    let dated = entries.is_sorted_by_key(|entry| entry.at);
    dated && measured(entries).is_sorted_by_key(|reading| reading.received_at)
}

fn raised(entries: &[Arc<Entry>], point: &str) -> Vec<Timestamp> {
    let moved = entries.iter().flat_map(|entry| &entry.transitions);
    let of_point =
        moved.filter(|moved| moved.hazard.point.as_str() == point && moved.change == Change::Raised);
    of_point.map(|moved| moved.at).collect()
}

fn noted(entries: &[Arc<Entry>], kind: NoteKind) -> Vec<String> {
    let notes = entries.iter().flat_map(|entry| &entry.notes);
    notes.filter(|note| note.kind == kind).map(|note| note.text.zh.to_string()).collect()
}

/// How many samples a chart of one point shows, and whether its buckets follow each other.
async fn chart(series: &Series, from: Timestamp, to: Timestamp) -> u32 {
    while !series.step().await.unwrap().idle {}
    let point = fengsui::model::PointId::parse("sd-203/temperature").unwrap();
    let buckets = series.range(&point, from, to, 100).await.unwrap();
    assert!(buckets.is_sorted_by_key(|bucket| bucket.start));
    buckets.iter().map(|bucket| bucket.count).sum()
}

#[tokio::test]
async fn a_box_without_a_clock_goes_on_from_its_journal_and_is_dated_anew_when_it_is_set() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), at_time(Clock::simulated(EVE)));
    tell(&mut stage, 20).await;
    let before = stage.end().await;
    let floor = before.last().unwrap().at;
    assert!(noted(&before, NoteKind::Started).iter().all(|text| !text.contains("未校准")));

    // Three days without power; no battery in it.
    let clock = Clock::simulated(Timestamp::from_secs(30));
    let mut stage = Stage::set(dir.path(), at_time(clock.clone()));
    assert!(!clock.is_set() && clock.now() > floor && clock.now() < floor + DAY);
    let series = Series::open(&stage.journal).await.unwrap();
    series.hold_sealing(true);
    let held = *stage.journal.settled().borrow();
    tell(&mut stage, 21).await;
    // What the device says of its own time cannot be judged, and a fire is one at once.
    let truth = EVE + Span::from_secs(3 * 86_400);
    stage.say(0, 1, &format!(r#"{{"smoke":1,"ts":{}}}"#, truth.as_millis())).await;
    assert_eq!(stage.acked(0, 1).await, [1]);
    let unset = everything(&stage.journal).await;
    assert!(in_order(&unset) && unset.iter().all(|entry| entry.at < floor + DAY));
    assert_eq!((raised(&unset, "gateway/clock").len(), raised(&unset, "sd-203/smoke").len()), (1, 1));
    assert_eq!(*stage.journal.settled().borrow(), held, "nothing of it is delivered yet");
    assert_eq!(stage.journal.read_settled_after(held, 100).await.unwrap(), []);
    assert_eq!(chart(&series, EVE, floor + DAY).await, 2);

    // The network is up.
    clock.step_simulated(truth.since(Timestamp::from_secs(30)));
    until("the clock is set", || clock.is_set()).await;
    let (settled, recorded) = (stage.journal.settled(), stage.journal.recorded());
    until("all is delivered", || *settled.borrow() > held && *settled.borrow() == *recorded.borrow()).await;
    tell(&mut stage, 22).await;
    series.rebuild_tail().await.unwrap();
    series.hold_sealing(false);
    assert_eq!(chart(&series, truth - DAY, truth + DAY).await, 2, "the tail has the right times");
    assert_eq!(chart(&series, EVE, truth + DAY).await, 3, "each sample once");
    let live = everything(&stage.journal).await;
    let entries = stage.end().await;
    assert_eq!(live, entries[..live.len()], "memory and disk say the same");

    drop(series);
    let (journal, _) = Journal::open(dir.path(), Limits::default(), Metrics::new()).unwrap();
    let entries = everything(&journal).await;
    assert_eq!(temperatures(&entries), [20.0, 21.0, 22.0]);
    assert!(in_order(&entries));
    let (old, new) = entries.split_at(before.len());
    assert!(old.iter().all(|entry| entry.at <= floor), "what was dated rightly keeps its time");
    assert!(new.iter().all(|entry| (truth - DAY..truth + DAY).contains(&entry.at)));
    let readings = new.iter().flat_map(|entry| &entry.readings);
    assert!(
        readings.clone().all(|reading| reading.received_at > truth - DAY && reading.sampled_at.is_none())
    );
    // The duty log is signed with the times that people saw.
    assert!(raised(&entries, "sd-203/smoke")[0] < floor + DAY);
    assert!(noted(new, NoteKind::Started).iter().any(|text| text.contains("时间未校准")));
    let told = noted(new, NoteKind::ClockStepped);
    assert!(told.len() == 1 && told[0].contains("拨快 2 天 23 小时"), "{told:?}");
}

#[tokio::test]
async fn a_box_that_never_learns_the_time_stays_in_order() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), at_time(Clock::simulated(EVE)));
    tell(&mut stage, 20).await;
    stage.end().await;
    // 1970, then the date of its firmware, then 1970 again.
    for (boot, temperature) in [(60, 21), (1_740_000_000, 22), (5, 23)] {
        let clock = Clock::simulated(Timestamp::from_secs(boot));
        let mut stage = Stage::set(dir.path(), at_time(clock.clone()));
        tell(&mut stage, temperature).await;
        assert!(!clock.is_set());
        stage.end().await;
    }
    let (journal, restored) = Journal::open(dir.path(), Limits::default(), Metrics::new()).unwrap();
    let entries = everything(&journal).await;
    assert_eq!(temperatures(&entries), [20.0, 21.0, 22.0, 23.0]);
    assert!(in_order(&entries));
    assert!(restored.newest_at.unwrap() < EVE + DAY);
    assert_eq!(noted(&entries, NoteKind::ClockStepped), [""; 0]);
}

#[tokio::test]
async fn what_is_held_back_is_delivered_as_it_is_after_an_hour() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), at_time(Clock::simulated(Timestamp::EPOCH)));
    tell(&mut stage, 20).await;
    let (settled, recorded) = (stage.journal.settled(), stage.journal.recorded());
    assert_eq!(*settled.borrow(), 0);
    tokio::time::pause();
    tokio::time::advance(HELD_BACK_MAX.to_std() + Duration::from_secs(2)).await;
    tokio::time::resume();
    until("they are delivered", || *settled.borrow() == *recorded.borrow()).await;
    assert!(!stage.clock.is_set());
    // Late, but not never: the journal and the charts are right all the same.
    step(&stage, EVE.since(Timestamp::EPOCH)).await;
    tell(&mut stage, 21).await;
    let entries = stage.end().await;
    assert!(in_order(&entries) && measured(&entries).iter().all(|reading| reading.received_at > EVE - DAY));
}

#[tokio::test]
async fn ntp_the_turn_of_the_year_and_a_leap_second_neither_lose_nor_double_a_sample() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), at_time(Clock::simulated(EVE)));
    let series = Series::open(&stage.journal).await.unwrap();
    let minutes = |minutes: i64| Span::from_secs(60 * minutes);
    // Ahead over the turn of the year, back before it, a leap second, and ahead for good.
    let steps = [minutes(5), minutes(-10), Span::from_secs(-1), Span::from_secs(1), minutes(5)];
    for (by, temperature) in steps.into_iter().zip(20..) {
        tell(&mut stage, temperature).await;
        if by.abs() < Span::from_secs(2) {
            let before = stage.clock.now();
            stage.clock.step_simulated(by);
            tell(&mut stage, temperature + 50).await;
            assert!((Span::ZERO..Span::from_secs(30)).contains(&stage.clock.now().since(before)));
        } else {
            step(&stage, by).await;
        }
        assert_eq!(*stage.journal.settled().borrow(), *stage.journal.recorded().borrow());
    }
    tell(&mut stage, 30).await;
    assert_eq!(chart(&series, EVE - DAY, EVE + DAY).await, 8, "each once");
    let entries = stage.end().await;
    assert_eq!(temperatures(&entries), [20.0, 21.0, 22.0, 72.0, 23.0, 73.0, 24.0, 30.0]);
    assert_eq!(noted(&entries, NoteKind::ClockStepped).len(), 3);
    // Nothing is dated anew: each stands where the clock stood that people saw.
    let ahead: Vec<bool> = measured(&entries).iter().map(|r| r.received_at > EVE + minutes(4)).collect();
    assert_eq!(ahead, [false, true, false, false, false, false, false, false]);
    assert!(measured(&entries)[2].received_at < EVE - minutes(4));
    assert_eq!(raised(&entries, "gateway/clock"), []);
}

#[tokio::test]
async fn a_wall_clock_that_falls_to_1970_and_comes_back_is_a_fault_and_moves_nothing() {
    let dir = TempDir::new().unwrap();
    let clock = Clock::simulated(EVE);
    let mut stage = Stage::set(dir.path(), at_time(clock.clone()));
    tell(&mut stage, 20).await;
    clock.step_simulated(Timestamp::EPOCH.since(EVE));
    until("it is not believed", || !clock.is_set()).await;
    tell(&mut stage, 21).await;
    let (settled, recorded) = (stage.journal.settled(), stage.journal.recorded());
    assert!(*settled.borrow() < *recorded.borrow());
    clock.step_simulated(EVE.since(Timestamp::EPOCH));
    until("it is believed again", || clock.is_set()).await;
    tell(&mut stage, 22).await;
    assert_eq!(*settled.borrow(), *recorded.borrow());
    let entries = stage.end().await;
    assert!(in_order(&entries) && entries.iter().all(|entry| entry.at < EVE + DAY));
    assert_eq!(raised(&entries, "gateway/clock").len(), 1);
    let told = noted(&entries, NoteKind::ClockStepped);
    assert!(told.len() == 1 && told[0].contains("2025"), "{told:?}");
}

#[tokio::test]
async fn what_a_source_stamped_before_a_step_is_told_in_the_new_time() {
    let dir = TempDir::new().unwrap();
    let mut stage = Stage::set(dir.path(), at_time(Clock::simulated(EVE)));
    stage.recorded(1).await;
    let delivery = Some(Delivery { epoch: 1, key: 1, duplicate: false });
    let frame = stage.frame(0, TOPIC, r#"{"temperature":20}"#, delivery);
    step(&stage, Span::from_secs(7200)).await;
    stage.to.send(frame).await.unwrap();
    assert_eq!(stage.acked(0, 1).await, [1]);
    tell(&mut stage, 21).await;
    let entries = stage.end().await;
    assert!(in_order(&entries));
    assert!(measured(&entries)[0].received_at > EVE + Span::from_secs(7000));
}

#[tokio::test]
async fn a_link_is_up_since_the_time_that_the_clock_shows_now() {
    let dir = TempDir::new().unwrap();
    let stage = Stage::set(dir.path(), at_time(Clock::simulated(Timestamp::from_secs(100))));
    let link = LinkId::parse("broker").unwrap();
    let change =
        LinkChange { link: link.clone(), up: true, reason: fengsui::model::Text::new("测试", "test") };
    stage.to.send(Arrival::Link(change)).await.unwrap();
    until("the link is up", || stage.links.borrow().contains_key(&link)).await;
    step(&stage, EVE.since(Timestamp::from_secs(100))).await;
    let since = || stage.links.borrow()[&link].since;
    until("its time moved with the clock", || since() > EVE - DAY).await;
    stage.end().await;
}

#[tokio::test]
async fn a_step_of_the_wall_clock_is_written_down_and_neither_loses_nor_invents_anything() {
    let dir = TempDir::new().unwrap();
    let (config, _) =
        Config::from_texts(&[("gateway.toml", GATEWAY), ("plan.toml", PLAN)], &|_| None).unwrap();
    let clock = Clock::simulated(Timestamp::from_secs(1000));
    let (journal, restored) = Journal::open(dir.path(), Limits::default(), Metrics::new()).unwrap();
    let (acks, _kept) = mpsc::channel(8);
    let (_door, requests) = commands::door();
    let pipeline = Pipeline::new(Parts {
        engine: Engine::restore(config.plan.clone(), restored.facts, &[], clock.now()),
        router: Router::new(Vec::new()),
        journal: journal.clone(),
        head: 0,
        recovered: None,
        receipts: restored.receipts,
        heard: fengsui::pipeline::Heard::default(),
        acks: vec![acks],
        asks: Vec::new(),
        clock: clock.clone(),
        metrics: Metrics::new(),
        desk: Default::default(),
        rhythm: Rhythm { commit_window: Span::from_millis(20), windows: Vec::new() },
        links: watch::channel(BTreeMap::new()).0,
        tap: fengsui::capture::Tap::new(Metrics::new()),
    });
    let (to, arrivals) = mpsc::channel(8);
    let cancel = CancellationToken::new();
    let running = tokio::spawn(pipeline.run(arrivals, requests, cancel.clone()));
    let fault = |entries: &[Arc<Entry>], change: Change| {
        let mut moved = entries.iter().flat_map(|entry| &entry.transitions);
        moved.any(|moved| moved.hazard.point.as_str() == "gateway/clock" && moved.change == change)
    };
    soon("a clock that says 1970 is a fault", async {
        let mut recorded = journal.recorded();
        while !fault(&everything(&journal).await, Change::Raised) {
            recorded.changed().await.unwrap();
        }
    })
    .await;
    clock.step_simulated(Span::from_secs(1_800_000_000));
    let change = LinkChange {
        link: LinkId::parse("broker").unwrap(),
        up: true,
        reason: fengsui::model::Text::new("测试", "test"),
    };
    to.send(Arrival::Link(change)).await.unwrap();
    soon("the fault is over", async {
        let mut recorded = journal.recorded();
        while !fault(&everything(&journal).await, Change::Returned) {
            recorded.changed().await.unwrap();
        }
    })
    .await;
    cancel.cancel();
    soon("the loop ends", running).await.unwrap().unwrap();
    let entries = everything(&journal).await;
    let steps = entries.iter().flat_map(|entry| &entry.notes).filter(|n| n.kind == NoteKind::ClockStepped);
    assert_eq!(steps.count(), 1);
    let silent = entries.iter().flat_map(|e| &e.transitions).any(|t| t.hazard.point.name() == "link");
    assert!(!silent, "fifty-seven years passed in a moment: nobody was silent for them");
}
