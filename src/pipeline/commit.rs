//! THE LOOP, step 3: the commit, and what happens while the journal cannot take it.

use super::batch::{Held, Sealed};
use super::{
    BACKLOG_ENTRIES_MAX, BACKLOG_QUARANTINE_BYTES_MAX, BACKLOG_READINGS_MAX, BACKLOG_STRAYS_MAX, CALM_FOR,
    DRAIN_PATIENCE, ENTRY_QUARANTINE_BYTES_MAX, ENTRY_READINGS_MAX, JOURNAL_PATIENCE, Pipeline, RECEIPTS_MAX,
    RETRY_MAX, RETRY_MIN, WITHHELD_MAX,
};
use crate::commands::Done;
use crate::journal::{AppendError, Entry, NoteKind};
use crate::model::{SourceIndex, Span, Text, Timestamp};
use crate::sources::Arrival;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

impl Pipeline {
    /// Whether the open batch should be closed now.
    fn due(&self) -> bool {
        if self.batch.is_empty() {
            return false;
        }
        let (urgent, now) = (self.batch.urgent, self.clock.now());
        let full = self.batch.readings.len() >= ENTRY_READINGS_MAX
            || self.batch.quarantine_bytes() >= ENTRY_QUARANTINE_BYTES_MAX;
        match (self.degraded, self.queue.len()) {
            (true, BACKLOG_ENTRIES_MAX..) => urgent && now >= self.sealed_at + Span::from_secs(1),
            (true, _) => urgent || full, // the rest goes with the next one; nobody waits for it
            (false, 0) => {
                let waited = self.batch.opened_at.is_some_and(|at| now >= at + self.rhythm.commit_window);
                urgent || full || waited || self.window_runs_dry()
            }
            // One entry is being written. What may not wait stands ready behind it, and carries nothing of what comes
            // after; the rest gathers, so batches grow by themselves under load.
            (false, 1) => urgent,
            (false, _) => false,
        }
    }

    /// Called after each arrival: one that raised a hazard closes the batch, so that the commit which people wait for
    /// holds what came before it and nothing of what comes behind.
    pub(super) fn cut(&mut self) {
        if self.batch.urgent && !self.degraded && self.due() {
            self.seal(self.clock.now());
        }
    }

    /// Three quarters of a far side's window wait for us: it must not run dry. Each source is looked at, not only the
    /// one that spoke last, or a chatty one would hold up a narrow one.
    ///
    /// Why three quarters: with a window W, r messages a second and commits that take c seconds, W·3/4 are closed into a
    /// batch and r·c more arrive while it is written, so the far side stalls only from r·c ≥ W/4 on: at mosquitto's
    /// usual 20 and a 20 ms commit, 250 messages a second. Beyond, a round trip brings W·3/4 messages (15); half a
    /// window stalls later but brings W/2 (10), so it is slower when it counts, and it commits half as often again
    /// (2.5 instead of 1.7 a second at 25 messages a second), which is what wears the card.
    fn window_runs_dry(&self) -> bool {
        self.batch
            .held()
            .any(|(source, held)| held >= (usize::from(self.ways.window(source).messages) * 3 / 4).max(1))
    }

    pub(super) fn keep_writing(&mut self) {
        let now = self.clock.now();
        if self.faulty && !self.degraded && now >= self.calm_since + CALM_FOR {
            self.journal_is_well(now);
        }
        if self.due() {
            self.seal(now);
        }
        if self.writing.is_some() && !self.degraded && now >= self.writing_since + JOURNAL_PATIENCE {
            self.degrade("日志写入超时", "the journal did not answer in time");
        }
        if self.degraded {
            self.show_unrecorded();
            self.bound_backlog();
        }
        self.start_writing(now);
        self.ways.hand_back();
    }

    pub(super) fn seal(&mut self, now: Timestamp) {
        let batch = std::mem::take(&mut self.batch);
        self.queue.push_back(batch.seal(self.next_no, now));
        self.next_no += 1;
        self.sealed_at = now;
    }

    fn start_writing(&mut self, now: Timestamp) {
        if self.writing.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        let Some(front) = self.queue.front() else { return };
        let (journal, write) = (self.journal.clone(), front.write.clone());
        self.writing = Some(Box::pin(async move { journal.append(write).await }));
        self.writing_since = now;
        self.retry_at = None;
    }

    pub(super) fn written(&mut self, result: Result<(), AppendError>) {
        self.writing = None;
        let now = self.clock.now();
        if let Err(error) = result {
            tracing::error!(%error, "the journal could not be written; it will be tried again");
            self.retry_at = Some(now + self.retry_after);
            self.retry_after = Span::from_millis(self.retry_after.as_millis() * 2).min(RETRY_MAX);
            if !self.degraded {
                self.degrade(
                    &format!("日志无法写入：{}", error.text().zh),
                    &format!("the journal cannot be written: {error}"),
                );
            }
            return;
        }
        self.retry_after = RETRY_MIN;
        let Some(sealed) = self.queue.pop_front() else { return };
        if let Some(from) = sealed.hazard_from {
            self.metrics.hazard_latency_seconds.observe(now.since(from).as_secs_f64());
        }
        let no = sealed.write.entry.no;
        for reply in sealed.replies {
            drop(reply.send(Ok(Done { no, recorded: true })));
        }
        for (answer, told) in sealed.answers {
            drop(answer.send(Ok(told)));
        }
        self.depart(sealed.departures, sealed.told, Done { no, recorded: true });
        self.acknowledge(sealed.deliveries);
        if sealed.write.restamp.is_some() && self.unset.is_none() {
            self.journal.hold_back_after(None);
        }
        if self.degraded && self.queue.is_empty() {
            self.degraded = false;
            self.calm_since = now;
            tracing::info!(no, "the journal holds everything that was shown without it");
        }
    }

    fn degrade(&mut self, zh: &str, en: &str) {
        self.degraded = true;
        let now = self.clock.now();
        if !self.faulty {
            self.faulty = true;
            tracing::error!(reason = en, "the journal cannot keep up; hazards are shown without it");
            self.note(NoteKind::Journal, "journal", Text::new(zh, en));
            self.own_fault("journal", true, now);
        }
        if self.due() {
            self.seal(now);
        }
    }

    fn journal_is_well(&mut self, now: Timestamp) {
        self.faulty = false;
        tracing::info!("the journal is written again and keeps up");
        self.note(NoteKind::Journal, "journal", Text::new("日志恢复写入", "the journal is written again"));
        self.own_fault("journal", false, now);
    }

    /// Shows what the journal does not have yet, and answers the operators who wait for it.
    fn show_unrecorded(&mut self) {
        let journal = &self.journal;
        let mut leaving = Vec::new();
        for sealed in self.queue.iter_mut().filter(|sealed| !sealed.shown_unrecorded) {
            sealed.shown_unrecorded = true;
            let entry = Entry { recorded: false, ..(*sealed.write.entry).clone() };
            let no = entry.no;
            journal.publish_unrecorded(Arc::new(entry));
            for reply in sealed.replies.drain(..) {
                drop(reply.send(Ok(Done { no, recorded: false })));
            }
            let (departures, told) = (sealed.departures.drain(..).collect(), sealed.told.drain(..).collect());
            leaving.push((departures, told, Done { no, recorded: false }));
        }
        for (departures, told, done) in leaving {
            self.depart(departures, told, done);
        }
    }

    /// Keeps memory bounded and the wire open while the journal is away.
    fn bound_backlog(&mut self) {
        self.give_up_telemetry();
        self.give_up_strays_and_receipts();
        self.give_up_frames();
        for source in self.ways.sources() {
            self.release_some(source);
        }
    }

    fn give_up_telemetry(&mut self) {
        let mut kept: usize = self.batch.readings.len();
        kept += self.queue.iter().map(|sealed| sealed.write.entry.readings.len()).sum::<usize>();
        let being_written = usize::from(self.writing.is_some());
        for sealed in self.queue.iter_mut().skip(being_written) {
            if kept <= BACKLOG_READINGS_MAX {
                return;
            }
            if sealed.replays() {
                continue;
            }
            let given_up = sealed.write.entry.readings.len();
            let entry = Entry { readings: Vec::new(), ..(*sealed.write.entry).clone() };
            sealed.write.entry = Arc::new(entry);
            kept -= given_up;
            self.metrics.readings_lost.inc_by(given_up as u64);
        }
        if kept > BACKLOG_READINGS_MAX {
            // A tenth more than need be, so that it is not done for each reading.
            let surplus = kept - BACKLOG_READINGS_MAX + BACKLOG_READINGS_MAX / 10;
            let surplus = surplus.min(self.batch.readings.len());
            self.batch.readings.drain(..surplus);
            self.metrics.readings_lost.inc_by(surplus as u64);
        }
    }

    /// What is kept of foreign messages, and the fingerprints: the journal itself would drop the oldest.
    fn give_up_strays_and_receipts(&mut self) {
        let mut strays: usize = self.batch.strays();
        strays += self.queue.iter().map(|sealed| sealed.write.strays.len()).sum::<usize>();
        let mut receipts: usize = self.batch.receipts.len();
        receipts += self.queue.iter().map(|sealed| sealed.write.receipts.len()).sum::<usize>();
        let being_written = usize::from(self.writing.is_some());
        for sealed in self.queue.iter_mut().skip(being_written) {
            let surplus = strays.saturating_sub(BACKLOG_STRAYS_MAX).min(sealed.write.strays.len());
            sealed.write.strays.drain(..surplus);
            strays -= surplus;
            self.metrics.strays_dropped.inc_by(surplus as u64);
            let surplus = receipts.saturating_sub(RECEIPTS_MAX).min(sealed.write.receipts.len());
            sealed.write.receipts.drain(..surplus);
            receipts -= surplus;
        }
        let surplus = receipts.saturating_sub(RECEIPTS_MAX).min(self.batch.receipts.len());
        self.batch.receipts.drain(..surplus);
    }

    /// The oldest frames of the quarantine, for want of memory.
    fn give_up_frames(&mut self) {
        let held =
            self.queue.iter().map(Sealed::quarantine_bytes).sum::<usize>() + self.batch.quarantine_bytes();
        let mut surplus = held.saturating_sub(BACKLOG_QUARANTINE_BYTES_MAX);
        let being_written = usize::from(self.writing.is_some());
        for sealed in self.queue.iter_mut().skip(being_written) {
            if surplus == 0 {
                return;
            }
            let (bytes, frames) = sealed.give_up_frames(surplus);
            surplus = surplus.saturating_sub(bytes);
            self.metrics.quarantine_dropped.inc_by(frames);
        }
    }

    /// A broker stops sending once its window is full of unacknowledged messages, and a publisher with one message in
    /// flight after that one; then a fire could not get through. So before that the oldest are acknowledged although
    /// they are only in memory, but not before [`WITHHELD_MAX`]: a slow disk is no broken one. A fire first, then
    /// nothing lost.
    fn release_some(&mut self, source: SourceIndex) {
        let window = self.ways.window(source);
        let allowed = usize::from(window.messages) * 3 / 4;
        let too_old = self.clock.now() - WITHHELD_MAX;
        let lists = || self.queue.iter().map(|sealed| &sealed.deliveries).chain([&self.batch.deliveries]);
        let held: usize = lists().map(|list| list.iter().filter(|held| held.source == source).count()).sum();
        let mut excess = held.saturating_sub(allowed);
        let mut released = Vec::new();
        let lists = self.queue.iter_mut().map(|sealed| &mut sealed.deliveries);
        for list in lists.chain([&mut self.batch.deliveries]) {
            list.retain(|held| {
                let waits_too_long = held.since <= too_old;
                let release = held.source == source && waits_too_long && (excess > 0 || window.of_many);
                if release {
                    excess = excess.saturating_sub(1);
                    released.push(*held);
                }
                !release
            });
        }
        self.metrics.frames_acked_unrecorded.inc_by(released.len() as u64);
        self.acknowledge(released);
    }

    fn acknowledge(&mut self, deliveries: Vec<Held>) {
        for held in deliveries {
            self.ways.owe(held.source, held.delivery);
        }
        self.ways.hand_back();
    }

    /// The end: what is in the channel is still taken, everything is written, and every message acknowledged.
    pub(super) async fn drain(mut self, mut arrivals: mpsc::Receiver<Arrival>) -> Result<(), AppendError> {
        arrivals.close();
        while let Ok(arrival) = arrivals.try_recv() {
            self.arrival(arrival);
        }
        self.note(NoteKind::Stopped, "gateway", Text::new("网关停止", "gateway stopped"));
        let give_up_at = Instant::now() + DRAIN_PATIENCE;
        if let Some(writing) = self.writing.take() {
            let result = writing.await;
            self.written(result);
        }
        // Once more when the journal came back meanwhile, which is a thing to write down as well.
        while !self.batch.is_empty() {
            self.seal(self.clock.now());
            self.write_all(give_up_at).await?;
            if self.faulty {
                self.journal_is_well(self.clock.now());
            }
        }
        Ok(())
    }

    async fn write_all(&mut self, give_up_at: Instant) -> Result<(), AppendError> {
        while let Some(front) = self.queue.front() {
            match self.journal.append(front.write.clone()).await {
                Ok(()) => self.written(Ok(())),
                Err(error) if error == AppendError::Closed || Instant::now() >= give_up_at => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(%error, "the last entries could not be written; they will be tried again");
                    tokio::time::sleep(RETRY_MIN.to_std()).await;
                }
            }
        }
        Ok(())
    }
}
