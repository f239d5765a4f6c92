//! A short life of a journal and its series in this process: opened, filled, sealed, closed, opened again; with what was
//! promised on the way, and the proof that it was kept.

use crate::support::bad_disk::BadDisk;
use crate::support::doctor::find;
use crate::support::journal::everything;
use fengsui::cli::doctor::{Grade, Patient, examine};
use fengsui::journal::{Entry, Journal, Limits, Note, NoteKind, Restored, Write};
use fengsui::metrics::Metrics;
use fengsui::model::{
    Cause, Change, Condition, Evidence, Fact, Hazard, HazardId, Number, Phase, PointId, Priority, Quality,
    Reading, RuleId, SignalClass, Signature, Span, Text, Timestamp, Transition, Value,
};
use fengsui::series::Series;
use std::path::PathBuf;
use std::time::Duration;

/// Entries of a whole life. Ten minutes apart, so that tails are sealed on the way.
pub(super) const ENTRIES: u64 = 16;
/// In this one a fire is raised, in that one a person acknowledges it.
const RAISED: u64 = 3;
const ACKNOWLEDGED: u64 = 6;
/// After this one the journal is closed and opened again.
const CLOSED_AFTER: u64 = 9;
/// Tries of one step before the test gives up: a disk that was healed must take it long before.
const TRIES_MAX: usize = 40;
/// Failures before the disk is healed.
const FAILURES: usize = 3;

/// What was promised so far.
#[derive(Debug, Default)]
pub(super) struct Promised {
    /// The newest entry that was acknowledged, and the newest that was tried.
    acknowledged: u64,
    tried: u64,
    /// The documents likewise: each is the number of the entry after which it was put.
    document: Option<u64>,
    document_tried: Option<u64>,
    /// Steps that failed and were tried again.
    pub(super) failures: usize,
}

/// Why a life ended before its time.
#[derive(Debug)]
pub(super) struct PowerCut;

fn at(no: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + i64::try_from(no).unwrap() * 600)
}

/// The size of entry `no`: some are one page, some are many.
fn readings(no: u64) -> Vec<Reading> {
    let count = if no.is_multiple_of(4) { 1500 } else { 3 };
    let reading = |n: u64| Reading {
        point: PointId::parse(&format!("dev-{}/temperature", n % 3)).unwrap(),
        value: Value::Number(Number::new((no * 10_000 + n) as f64 / 7.0).unwrap()),
        quality: Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: at(no) + Span::from_millis(i64::try_from(n).unwrap()),
        late: false,
    };
    (0..count).map(reading).collect()
}

fn hazard(no: u64) -> Hazard {
    let (point, rule) = (PointId::parse("dev-0/smoke").unwrap(), RuleId::parse("fire-smoke").unwrap());
    let seen = Signature { by: "zhang".into(), at: at(ACKNOWLEDGED), note: "到场核实".into() };
    Hazard {
        id: HazardId::derive(RAISED, &point, &rule),
        point,
        rule,
        signal: SignalClass::Fire,
        priority: Priority::Red,
        latching: true,
        title: Text::new("火警", "fire"),
        evidence: Evidence {
            value: Value::Code("alarm".into()),
            flaw: None,
            unit: "".into(),
            point_name: Text::new("烟感", "smoke"),
            state_name: Some(Text::new("报警", "alarm")),
            condition: Condition::OneOf(vec!["alarm".into()]),
            on_delay: Span::ZERO,
            basis: "本系统默认值".into(),
        },
        raised_at: at(RAISED),
        sampled_at: None,
        late: false,
        occurrences: 1,
        last_raised_at: at(RAISED),
        returned_at: None,
        acknowledged: (no >= ACKNOWLEDGED).then_some(seen),
        silenced: None,
        closed: None,
    }
}

fn write(no: u64) -> Write {
    let hazard = hazard(no);
    let change = match no {
        RAISED => Some((Change::Raised, Cause::Reading { value: Value::Code("alarm".into()), flaw: None })),
        ACKNOWLEDGED => Some((Change::Acknowledged, Cause::Operator(hazard.acknowledged.clone().unwrap()))),
        _ => None,
    };
    let phase = Phase::Active;
    let facts = change.as_ref().map(|_| Fact {
        point: hazard.point.clone(),
        rule: hazard.rule.clone(),
        phase,
        hazard: Some(hazard.clone()),
    });
    let transitions = change.map(|(change, cause)| Transition { hazard, change, phase, at: at(no), cause });
    let note = Note { kind: NoteKind::Link, subject: "bus".into(), text: Text::new("断开", "down") };
    let entry = Entry {
        no,
        at: at(no),
        recorded: true,
        readings: readings(no),
        transitions: transitions.into_iter().collect(),
        notes: vec![note],
    };
    let facts = facts.into_iter().collect();
    Write { facts, receipts: (0..20).map(|n| no * 100 + n).collect(), ..Write::of(entry) }
}

fn document(no: u64) -> String {
    format!("{{\"after\":{no}}}")
}

fn limits() -> Limits {
    Limits { ballast_bytes: 1 << 16, ..Limits::default() }
}

/// The journal's directory: below the disk's root, so that its own name must be made safe as well.
fn folder(disk: &BadDisk) -> PathBuf {
    disk.path().join("data")
}

fn open(disk: &BadDisk) -> Result<(Journal, Restored), String> {
    Journal::open(&folder(disk), limits(), Metrics::new()).map_err(|error| error.to_string())
}

/// Tries until it succeeds; the disk is healed after the third failure at the latest.
async fn insist<T>(
    disk: &BadDisk,
    promised: &mut Promised,
    what: &str,
    mut work: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, PowerCut> {
    for failures in 1..=TRIES_MAX {
        match work().await {
            Ok(done) => return Ok(done),
            Err(_) if disk.is_dead() => return Err(PowerCut),
            Err(error) => {
                promised.failures += 1;
                if failures == FAILURES {
                    disk.heal();
                }
                assert!(failures < TRIES_MAX, "{what} never succeeds on a healed disk: {error}");
                // A child that another test starts just now may for a moment hold a copy of the lock.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    unreachable!("the last try asserts")
}

/// Lives on from what was promised, to the end or until the power is cut.
pub(super) async fn live(disk: &BadDisk, promised: &mut Promised) -> Result<(), PowerCut> {
    loop {
        let end = if promised.acknowledged < CLOSED_AFTER { CLOSED_AFTER } else { ENTRIES };
        let (journal, restored) = insist(disk, promised, "opening", async || open(disk)).await?;
        assert_eq!(restored.recovered, None, "{promised:?}");
        assert!((promised.acknowledged..=promised.tried).contains(&restored.head), "{promised:?}");
        promised.acknowledged = restored.head;
        let series = insist(disk, promised, "opening the series", async || {
            Series::open(&journal).await.map_err(|error| error.to_string())
        });
        let series = series.await?;
        for no in promised.acknowledged + 1..=end {
            promised.tried = no;
            insist(disk, promised, "an append", async || {
                journal.append(write(no)).await.map_err(|error| error.to_string())
            })
            .await?;
            promised.acknowledged = no;
            if no.is_multiple_of(3) {
                promised.document_tried = Some(no);
                insist(disk, promised, "a document", async || {
                    let put = journal.put_document("doc", "key", Some(&document(no)), at(no)).await;
                    put.map_err(|error| error.to_string())
                })
                .await?;
                promised.document = Some(no);
            }
            insist(disk, promised, "a step of the series", async || {
                while !series.step().await.map_err(|error| error.to_string())?.idle {}
                Ok(())
            })
            .await?;
            insist(disk, promised, "a cursor", async || {
                journal.move_cursor("influx:a", no - 1).await.map_err(|error| error.to_string())
            })
            .await?;
        }
        drop(series);
        drop(journal);
        if disk.is_dead() {
            return Err(PowerCut);
        }
        if end == ENTRIES {
            return Ok(());
        }
    }
}

/// Everything that was promised is there, once, and the journal opens without having to repair anything.
pub(super) async fn check(disk: &BadDisk, promised: &Promised) {
    let (journal, restored) = open(disk).unwrap_or_else(|error| panic!("{error}; {promised:?}"));
    assert_eq!(restored.recovered, None, "it had to be repaired; {promised:?}");
    let head = restored.head;
    assert!((promised.acknowledged..=promised.tried).contains(&head), "the head is {head}; {promised:?}");
    let entries = everything(&journal).await;
    assert_eq!(entries.len() as u64, head);
    for (no, entry) in (1..).zip(&entries) {
        assert_eq!(**entry, *write(no).entry, "entry {no} is another one; {promised:?}");
    }
    let expected: Vec<Fact> = match head {
        ..RAISED => vec![],
        RAISED..ACKNOWLEDGED => write(RAISED).facts,
        _ => write(ACKNOWLEDGED).facts,
    };
    assert_eq!(restored.facts, expected, "{promised:?}");
    let found = journal.document("doc", "key").await.unwrap();
    let allowed = [promised.document, promised.document_tried].map(|no| no.map(document));
    assert!(allowed.contains(&found), "the document is {found:?}; {promised:?}");
    let cursor = journal.cursor("influx:a").await.unwrap();
    assert!(cursor <= head, "the cursor {cursor} is beyond the head {head}");
    let series = Series::open(&journal).await.unwrap();
    let mut samples = 0;
    for device in 0..3 {
        let point = PointId::parse(&format!("dev-{device}/temperature")).unwrap();
        let buckets = series.range(&point, at(0), at(ENTRIES + 1), 10).await.unwrap();
        samples += buckets.iter().map(|bucket| bucket.count as usize).sum::<usize>();
    }
    let expected: usize = (1..=head).map(|no| readings(no).len()).sum();
    assert_eq!(samples, expected, "the series has each reading once; {promised:?}");
    drop(series);
    drop(journal);
    well(disk);
}

/// The doctor finds nothing wrong, but that nobody is at work, and that a disk that was full has not its ballast yet.
fn well(disk: &BadDisk) {
    let found = examine(&Patient::Data(folder(disk)), at(ENTRIES + 1));
    let told = |id: &str| find(&found, id).map(|finding| finding.what.zh.to_string()).unwrap_or_default();
    assert!(told("database").contains("日志数据库完好"), "{found:#?}");
    assert!(told("audit").contains("校验链完整"), "{found:#?}");
    let allowed = ["not-running", "ballast-gone"];
    let bad = found.iter().find(|finding| finding.grade > Grade::Good && !allowed.contains(&finding.id));
    assert!(bad.is_none(), "{bad:#?}");
}
