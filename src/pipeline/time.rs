//! THE LOOP, its time: deadlines that passed, steps of the wall clock, and the stretch before it was first set.
//!
//! What is written while the clock is unset (see `clock.rs`) bears times that run on from the journal's newest entry.
//! When the clock is set, those whole entries are dated anew by one row, in the commit that says so. Until then, or for
//! [`HELD_BACK_MAX`], followers that deliver to somebody are not shown them.

use super::Pipeline;
use crate::journal::{NoteKind, Restamp};
use crate::model::{Event, Span, Text, Timestamp};

/// How long entries with guessed times are kept from the stores. A box on a mobile line is synchronised within minutes
/// of its start; one without any line has no store to reach, and a folder sink should not wait for ever. What was
/// delivered by then stays in the store as it was delivered.
pub const HELD_BACK_MAX: Span = Span::from_secs(3600);

/// How long arrivals that a source stamped before a step may still come in: the channel empties in milliseconds.
const STAMPED_BEFORE_MAX: Span = Span::from_secs(10);

/// How often the loop looks whether the disk still has room.
const LOOK_AT_DISK_EVERY: Span = Span::from_secs(5);

/// The stretch in which the clock is unset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unset {
    /// The first entry of it.
    first: u64,
    since: Timestamp,
    /// Its entries are kept from those who deliver them.
    held_back: bool,
}

/// The last step of the clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stepped {
    by: Span,
    /// In the new time.
    at: Timestamp,
}

impl Pipeline {
    /// The clock as it is at the start.
    pub(super) fn begin_time(&mut self) {
        let unset = !self.clock.is_set();
        if unset {
            self.clock_is_unset(
                NoteKind::Started,
                "时间未校准：系统时钟不可信，时间接着上一条记录走，校时后更正",
                "the time is not set: it runs on from the newest entry and is corrected once it is set",
            );
        }
        self.own_fault("clock", unset, self.clock.now());
    }

    /// Steps of the wall clock, the disk, and deadlines that passed.
    pub(super) fn keep_time(&mut self) {
        self.keep_clock();
        let now = self.clock.now();
        if now >= self.look_at_disk {
            self.look_at_disk = now + LOOK_AT_DISK_EVERY;
            let full = !self.journal.health().ballast;
            if self.disk_full.replace(full) != Some(full) {
                self.own_fault("disk", full, now);
            }
        }
        if self.engine.next_deadline().is_some_and(|due| due <= now) {
            self.open_batch();
            self.step(&Event::Tick, None);
        }
    }

    fn keep_clock(&mut self) {
        let was_unset = self.unset.is_some();
        if let Some(by) = self.clock.take_step() {
            self.stepped(by);
        }
        let (unset, now) = (!self.clock.is_set(), self.clock.now());
        if unset && !was_unset {
            self.clock_is_unset(
                NoteKind::ClockStepped,
                "系统时钟回到 2025 年以前，不可信：时间照原来的走，校时后更正",
                "the wall clock fell to before 2025 and is not believed: time runs on as it was",
            );
        } else if !unset && self.unset.take().is_some() {
            self.journal.hold_back_after(None); // It came back to where we were: nothing to correct.
        }
        if unset != was_unset {
            self.own_fault("clock", unset, now);
        }
        if let Some(unset) = &mut self.unset
            && unset.held_back
            && now >= unset.since + HELD_BACK_MAX
        {
            unset.held_back = false;
            self.journal.hold_back_after(None);
        }
    }

    fn clock_is_unset(&mut self, kind: NoteKind, zh: &str, en: &str) {
        self.unset = Some(Unset { first: self.next_no, since: self.clock.now(), held_back: true });
        self.journal.hold_back_after(Some(self.next_no - 1));
        self.note(kind, "clock", Text::new(zh, en));
    }

    fn stepped(&mut self, by: Span) {
        self.metrics.clock_steps.inc();
        let now = self.clock.now();
        let unset = self.unset.take();
        if unset.is_some() && !self.batch.is_empty() {
            // What was gathered in the old time stands in an entry of its own: only whole entries are dated anew.
            self.seal(now - by);
        }
        self.shift(by);
        self.stepped = Some(Stepped { by, at: now });
        self.open_batch();
        self.step(&Event::ClockStepped { by }, None);
        let (zh, en) = match unset {
            Some(_) => ("时间已校准：", "the clock was set"),
            None => ("系统时钟被调整：", "the wall clock was stepped"),
        };
        let text = Text::new(&format!("{zh}{}", length_zh(by)), &format!("{en}: moved by {by}"));
        self.note(NoteKind::ClockStepped, "clock", text);
        if let Some(unset) = unset {
            let (first, last) = (unset.first, self.next_no - 1);
            self.batch.restamp = (first <= last).then_some(Restamp { first, last, shift: by });
            self.batch.urgent = true;
        }
    }

    /// A frame that its source stamped before a step was taken is told in the new time: it would look years old.
    pub(super) fn in_new_time(&self, received_at: Timestamp) -> Timestamp {
        let Some(Stepped { by, at }) = self.stepped else { return received_at };
        let half = Span::from_millis(by.abs().as_millis() / 2);
        let before = received_at.since(at - by).abs() < half;
        if before && self.clock.now() < at + half.min(STAMPED_BEFORE_MAX) {
            received_at + by
        } else {
            received_at
        }
    }

    /// Moves the loop's own deadlines with the clock, and what only memory knows.
    fn shift(&mut self, by: Span) {
        self.batch.shift(by);
        self.retry_at = self.retry_at.map(|at| at + by);
        self.look_at_disk = self.look_at_disk + by;
        self.writing_since = self.writing_since + by;
        self.calm_since = self.calm_since + by;
        self.sealed_at = self.sealed_at + by;
        self.heard.shift(by);
        self.memory.nodes.shift(by);
        self.queue.iter_mut().for_each(|sealed| sealed.shift(by));
        self.links.send_modify(|links| links.values_mut().for_each(|link| link.since = link.since + by));
    }
}

/// How far the clock was moved, for the duty log.
fn length_zh(by: Span) -> String {
    let way = if by < Span::ZERO { "拨慢" } else { "拨快" };
    let seconds = by.abs().as_millis() / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{way} {:.1} 秒", by.abs().as_secs_f64()),
        (0, 0, _) => format!("{way} {minutes} 分 {} 秒", seconds % 60),
        (0, _, _) => format!("{way} {hours} 小时 {minutes} 分"),
        _ => format!("{way} {days} 天 {hours} 小时"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_as_people_say_it() {
        let told: Vec<_> = [2500, -61_000, 3_600_000, -90_000_000, 1_800_000_000_123]
            .map(|ms| length_zh(Span::from_millis(ms)))
            .into();
        let expected =
            ["拨快 2.5 秒", "拨慢 1 分 1 秒", "拨快 1 小时 0 分", "拨慢 1 天 1 小时", "拨快 20833 天 8 小时"];
        assert_eq!(told, expected);
    }
}
