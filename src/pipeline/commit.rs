//! THE LOOP, step 3: the commit, and what happens while the journal cannot take it.

use super::{
    BACKLOG_READINGS_MAX, ENTRY_READINGS_MAX, JOURNAL_PATIENCE, Pipeline, RECEIPTS_MAX, RETRY_MAX, RETRY_MIN,
};
use crate::commands::Done;
use crate::journal::{AppendError, Entry, NoteKind};
use crate::model::{Delivery, SourceIndex, Span, Text, Timestamp};
use std::sync::Arc;
use tokio::sync::mpsc;

impl Pipeline {
    /// Whether the open batch should be closed now.
    pub(super) fn due(&self) -> bool {
        if self.batch.is_empty() {
            return false;
        }
        if self.batch.urgent || self.batch.readings.len() >= ENTRY_READINGS_MAX {
            return true;
        }
        if self.degraded || !self.queue.is_empty() {
            return false; // it goes with the next one; nobody waits for it
        }
        let waited =
            self.batch.opened_at.is_some_and(|opened| self.clock.now() >= opened + self.rhythm.commit_window);
        waited || self.window_is_half_full()
    }

    /// Half of a far side's window is waiting for us: it must not run dry.
    fn window_is_half_full(&self) -> bool {
        let Some((source, _)) = self.batch.deliveries.last() else { return false };
        let half = usize::from(self.window(*source) / 2).max(1);
        self.batch.deliveries.len() >= half
            && self.batch.deliveries.iter().filter(|(from, _)| from == source).count() >= half
    }

    fn window(&self, source: SourceIndex) -> u16 {
        self.rhythm.inflight_windows.get(usize::from(source.0)).copied().unwrap_or(20)
    }

    pub(super) fn keep_writing(&mut self) {
        let now = self.clock.now();
        // One at a time: while one entry is written the next gathers, so batches grow by themselves under load.
        if self.due() && (self.queue.is_empty() || self.degraded) {
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
    }

    pub(super) fn seal(&mut self, now: Timestamp) {
        let batch = std::mem::take(&mut self.batch);
        self.queue.push_back(batch.seal(self.next_no, now));
        self.next_no += 1;
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
                    &format!("日志无法写入：{error}"),
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
        self.acknowledge(sealed.deliveries);
        if self.degraded && self.queue.is_empty() {
            self.degraded = false;
            self.note(
                NoteKind::Journal,
                "journal",
                Text::new("日志恢复写入", "the journal is written again"),
            );
            self.own_fault("journal", false, now);
        }
    }

    fn degrade(&mut self, zh: &str, en: &str) {
        self.degraded = true;
        tracing::error!(reason = en, "the journal cannot keep up; hazards are shown without it");
        let now = self.clock.now();
        self.note(NoteKind::Journal, "journal", Text::new(zh, en));
        self.own_fault("journal", true, now);
        if self.due() {
            self.seal(now);
        }
    }

    /// Shows what the journal does not have yet, and answers the operators who wait for it.
    fn show_unrecorded(&mut self) {
        let journal = &self.journal;
        for sealed in self.queue.iter_mut().filter(|sealed| !sealed.shown_unrecorded) {
            sealed.shown_unrecorded = true;
            let entry = Entry { recorded: false, ..(*sealed.write.entry).clone() };
            let no = entry.no;
            journal.publish_unrecorded(Arc::new(entry));
            for reply in sealed.replies.drain(..) {
                drop(reply.send(Ok(Done { no, recorded: false })));
            }
        }
    }

    /// Keeps memory bounded and the wire open while the journal is away.
    ///
    /// A broker stops sending once its window is full of unacknowledged messages, and then a fire could not get
    /// through. So before that the oldest are acknowledged although they are only in memory: a fire first, then
    /// nothing lost.
    fn bound_backlog(&mut self) {
        let mut kept: usize = self.batch.readings.len();
        kept += self.queue.iter().map(|sealed| sealed.write.entry.readings.len()).sum::<usize>();
        let being_written = usize::from(self.writing.is_some());
        for sealed in self.queue.iter_mut().skip(being_written) {
            if kept <= BACKLOG_READINGS_MAX {
                break;
            }
            let given_up = sealed.write.entry.readings.len();
            let entry = Entry { readings: Vec::new(), ..(*sealed.write.entry).clone() };
            sealed.write.entry = Arc::new(entry);
            kept -= given_up;
            self.metrics.readings_lost.inc_by(given_up as u64);
        }
        for index in 0..self.acks.len() {
            let Ok(source) = u16::try_from(index).map(SourceIndex) else { continue };
            let allowed = usize::from(self.window(source)) * 3 / 4;
            let of_source = |deliveries: &[(SourceIndex, Delivery)]| {
                deliveries.iter().filter(|(from, _)| *from == source).count()
            };
            let held = of_source(&self.batch.deliveries)
                + self.queue.iter().map(|sealed| of_source(&sealed.deliveries)).sum::<usize>();
            let mut excess = held.saturating_sub(allowed);
            let mut released = Vec::new();
            let held_lists = self
                .queue
                .iter_mut()
                .map(|s| &mut s.deliveries)
                .chain(std::iter::once(&mut self.batch.deliveries));
            for list in held_lists {
                list.retain(|(from, delivery)| {
                    let release = excess > 0 && *from == source;
                    if release {
                        excess -= 1;
                        released.push((*from, *delivery));
                    }
                    !release
                });
            }
            self.metrics.frames_acked_unrecorded.inc_by(released.len() as u64);
            self.acknowledge(released);
        }
    }

    fn acknowledge(&mut self, deliveries: Vec<(SourceIndex, Delivery)>) {
        for (source, delivery) in deliveries {
            if let Some(owed) = self.owed.get_mut(usize::from(source.0)) {
                owed.push(delivery);
            }
        }
        for (acks, owed) in self.acks.iter().zip(&mut self.owed) {
            if owed.is_empty() {
                continue;
            }
            // A source that is busy gets them with the next commit; one that is gone needs them no more.
            if let Err(mpsc::error::TrySendError::Full(back)) = acks.try_send(std::mem::take(owed)) {
                *owed = back;
            }
        }
    }

    pub(super) fn remember_receipt(&mut self, fingerprint: u64) {
        self.batch.receipts.push(fingerprint);
        if self.receipts.insert(fingerprint) {
            self.receipts_order.push_back(fingerprint);
        }
        while self.receipts_order.len() > RECEIPTS_MAX {
            if let Some(oldest) = self.receipts_order.pop_front() {
                self.receipts.remove(&oldest);
            }
        }
    }
}
