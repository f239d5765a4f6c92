//! Frames of the quarantine while the journal is away: bounded in memory, and each is kept or counted.

use super::*;
use fengsui::model::{Quarantined, Wanted};
use fengsui::pipeline::BACKLOG_QUARANTINE_BYTES_MAX;

async fn kept(journal: &Journal) -> Vec<Quarantined> {
    let mut all: Vec<Quarantined> = Vec::new();
    loop {
        let after = all.last().map_or(0, |frame| frame.id);
        let lot = journal.quarantined(&Wanted::default(), after).await.unwrap();
        if lot.is_empty() {
            return all;
        }
        all.extend(lot);
    }
}

#[tokio::test]
async fn a_flood_of_large_foreign_frames_while_the_journal_is_stuck_is_bounded_in_bytes_and_counted() {
    const FRAME_BYTES: usize = 64 << 10;
    const FRAMES: usize = 3 * BACKLOG_QUARANTINE_BYTES_MAX / FRAME_BYTES;
    let dir = TempDir::new().unwrap();
    let stage = Stage::set(dir.path(), Setting::default());
    stage.recorded(1).await;
    let stuck = Stuck::hold(dir.path());
    let before = *stage.journal.head().borrow();
    stage.say(0, 0, r#"{"temperature":20}"#).await;
    // From then on every entry that is full waits in memory.
    until("the journal's fault is shown", || *stage.journal.head().borrow() > before).await;
    let (received, dropped) =
        (stage.metrics.frames_received.clone(), stage.metrics.quarantine_dropped.clone());
    let large = "?".repeat(FRAME_BYTES);
    for n in 0..FRAMES {
        // One by one, so that none is too much for the entry that is open.
        let taken = received.get();
        stage.to.send(stage.frame(0, &format!("somebody/else/{n}"), &large, None)).await.unwrap();
        until("it was taken", || received.get() > taken).await;
    }
    let fit = BACKLOG_QUARANTINE_BYTES_MAX / FRAME_BYTES;
    until("what does not fit is given up", || dropped.get() >= (FRAMES - fit) as u64).await;
    stuck.release();
    let journal = stage.journal.clone();
    assert_eq!(temperatures(&stage.end().await), [20.0]);
    let kept = kept(&journal).await;
    assert_eq!(kept.len() as u64 + dropped.get(), FRAMES as u64, "each is kept or counted");
    let newest = format!("broker somebody/else/{}", FRAMES - 1);
    assert_eq!(kept.last().unwrap().key(), newest, "the oldest went");
}
