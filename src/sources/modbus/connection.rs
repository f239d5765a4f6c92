//! WIRE → FRAMES: one open way to a bus and one question on it at a time.
//!
//! Every wait has a limit, and a late answer is never taken for the next one's. With the header of Modbus TCP its number
//! tells it, and the connection is given up. RTU has no number, and a serial server hands a late answer to whoever is
//! connected: there a unit that did not answer rightly is *held*: not asked again before its answer cannot come any
//! more. Its neighbours are asked meanwhile; the unit id in each frame protects them.

use super::request::{Mismatch, Question, Request};
use super::rtu::{self, Echo};
use super::unit::Answer;
use super::wire::{Framing, Port, Wire};
use super::{LineSettings, mbap};
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes taken from the system at once: one frame.
const READ_BYTES: usize = rtu::ADU_BYTES_MAX;

/// Bytes kept while waiting for one answer. A line that chatters all the time at 115 200 baud brings 11 500 a second;
/// the oldest of them go.
const WAITING_BYTES_MAX: usize = 4096;

/// What is kept of them then: two frames.
const WAITING_BYTES_KEPT: usize = 2 * rtu::ADU_BYTES_MAX;

/// How long the longest frame takes at 9600 baud: so long a line is waited for on which something is coming in.
const BUSY_MAX: Duration = Duration::from_millis(300);

/// After an answer to something else of the same unit: nothing more for so long, and the question has failed. Longer
/// than a serial server waits before it sends on what it has.
const QUIET: Duration = Duration::from_millis(100);

/// What a DTU sends behind its registration: a line end, a greeting.
const GREETING: Duration = Duration::from_millis(300);

/// A line that was never silent while it was opened is used all the same: framing finds answers among noise.
const SETTLE_TIMES_MAX: u32 = 3;

/// Questions without any byte in answer after which a line is opened anew: drivers and serial servers hang too.
const SILENT_QUESTIONS_MAX: u32 = 10;

/// An open way to a bus.
pub(super) struct Connection {
    port: Port,
    wire: Wire,
    line: LineSettings,
    answers: u64,
    transaction: u16,
    heard_at: Instant,
    /// Bytes came in between questions since the last one.
    between: Vec<u8>,
    /// What the line does with what is sent, as far as it is known.
    echo: Option<bool>,
    /// Units that still owe an answer, and until when it may come.
    held: HashMap<u8, Instant>,
    /// Late answers not yet taken, by unit: no more entries than units were asked.
    late: HashMap<u8, u64>,
    silent_questions: u32,
}

impl Connection {
    /// Connects, then leaves the far side in peace for `pause`: some gateways drop what comes at once. A line is then
    /// waited for until it was silent for longer than an answer may be late: somebody may have asked before us.
    pub(super) async fn open(
        wire: &Wire,
        line: &LineSettings,
        limit: Duration,
        pause: Duration,
    ) -> io::Result<Self> {
        let port = wire.open(limit).await?;
        tokio::time::sleep(pause).await;
        let mut connection = Self {
            port,
            wire: wire.clone(),
            line: line.clone(),
            answers: 0,
            transaction: 0,
            heard_at: Instant::now(),
            between: Vec::new(),
            echo: line.echo,
            held: HashMap::new(),
            late: HashMap::new(),
            silent_questions: 0,
        };
        match wire {
            Wire::Tcp { .. } => {}
            Wire::DialIn(dial_in) if dial_in.framing == Framing::Tcp => connection.settle(GREETING).await?,
            _ => connection.settle(line.late_answer_max).await?,
        }
        connection.heard_at = Instant::now();
        Ok(connection)
    }

    /// Whether it has worked before: then a break may only mean that the server tidied up an idle connection.
    pub(super) fn has_answered(&self) -> bool {
        self.answers > 0
    }

    /// Whether the next question may go by it.
    pub(super) fn keeps(&self, answer: &Answer) -> bool {
        match self.wire.framing() {
            Framing::Tcp => answer.keeps_connection(),
            Framing::Rtu => *answer != Answer::Broken && !self.hangs(),
        }
    }

    /// A DTU is spared: whatever its units do, TCP and its heartbeat say whether it is there.
    fn hangs(&self) -> bool {
        self.silent_questions >= SILENT_QUESTIONS_MAX && self.wire.slot().is_none()
    }

    /// Until when this unit is not to be asked, because an earlier answer may still come.
    pub(super) fn held_until(&self, unit: u8) -> Option<Instant> {
        self.held.get(&unit).copied().filter(|until| *until > Instant::now())
    }

    /// Late answers that came since this was last asked, by the unit that sent them: hardly ever the one asked now.
    pub(super) fn take_late(&mut self) -> HashMap<u8, u64> {
        std::mem::take(&mut self.late)
    }

    /// Asks a unit. The second value is how long it took.
    pub(super) async fn ask(&mut self, unit: u8, request: Request, limit: Duration) -> (Answer, Duration) {
        let question = Question { unit, request };
        let asked_at = Instant::now();
        let slot = self.wire.slot().cloned();
        let replaced = async {
            match slot {
                Some(slot) => slot.filled().await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            // The DTU dialled again: on this connection nobody will ever answer.
            () = replaced => Answer::Broken,
            answer = self.exchange(&question, limit) => answer.unwrap_or(Answer::Broken),
        };
        self.answers += u64::from(answer.keeps_connection());
        (answer, asked_at.elapsed())
    }

    async fn exchange(&mut self, question: &Question, limit: Duration) -> io::Result<Answer> {
        match self.wire.framing() {
            Framing::Tcp => self.exchange_tcp(question, limit).await,
            Framing::Rtu => {
                // The confirmation of these is the request itself: first find out whether the line gives that back.
                if self.echo.is_none() && matches!(question.request.function(), 5 | 6) {
                    let table = crate::model::RegisterTable::Holding;
                    let request = Request::Read { table, start: 0, count: 1 };
                    self.exchange_rtu(&Question { unit: question.unit, request }, limit).await?;
                }
                self.exchange_rtu(question, limit).await
            }
        }
    }

    async fn exchange_tcp(&mut self, question: &Question, limit: Duration) -> io::Result<Answer> {
        let heartbeat = self.heartbeat();
        self.transaction = self.transaction.wrapping_add(1);
        // An answer must never look like the beginning of a heartbeat.
        if heartbeat.first() == self.transaction.to_be_bytes().first() {
            self.transaction ^= 0x8000;
        }
        self.between(Duration::ZERO).await?;
        let deadline = Instant::now() + limit;
        let sent = mbap::adu(question, self.transaction);
        let Ok(written) = timeout_at(deadline, self.port.write_all(&sent)).await else {
            return Ok(Answer::Silent);
        };
        written?;
        let mut bytes = std::mem::take(&mut self.between);
        loop {
            let frame = behind_heartbeats(&bytes, &heartbeat);
            if let Some(answer) = mbap::find(question, self.transaction, frame) {
                return Ok(answer);
            }
            match timeout_at(deadline, self.read(&mut bytes)).await {
                Ok(read) => read?,
                // An answer that began and never ended is no silence.
                Err(_) if behind_heartbeats(&bytes, &heartbeat).is_empty() => return Ok(Answer::Silent),
                Err(_) => return Ok(Answer::Wrong(Mismatch::Length)),
            }
        }
    }

    async fn exchange_rtu(&mut self, question: &Question, limit: Duration) -> io::Result<Answer> {
        let sent = rtu::adu(question);
        self.between(self.line_gap()).await?;
        let early = std::mem::take(&mut self.between);
        self.count_late(question, &early, |_| true);
        let deadline = Instant::now() + limit + self.time_of(sent.len() + rtu::answer_bytes(question));
        let Ok(written) = timeout_at(deadline, self.port.write_all(&sent)).await else {
            return Ok(Answer::Silent);
        };
        written?;
        let echo = match self.echo {
            Some(true) => Echo::Present,
            Some(false) => Echo::Absent,
            None => Echo::Unknown,
        };
        let heartbeat = self.heartbeat();
        let mut bytes = Vec::new();
        let (answer, seen) = loop {
            if let Some((found, seen)) = find(question, echo, &bytes, &heartbeat) {
                let before = seen.get(..found.start).unwrap_or_default();
                // Whoever answers something else first owes more than one answer.
                let answer = rtu::mismatch(question, before).map_or(found.answer, Answer::Wrong);
                break (answer, before.to_vec());
            }
            let disturbed = !bytes.is_empty() && rtu::mismatch(question, &bytes).is_some();
            let until = if disturbed { deadline.min(self.heard_at + QUIET) } else { deadline };
            match timeout_at(until, self.read(&mut bytes)).await {
                Ok(read) => read?,
                Err(_) => {
                    let seen = without(&bytes, &heartbeat);
                    break (rtu::name(question, echo, &seen), seen);
                }
            }
        };
        // Its own debts are over: what the asked unit said is an answer to this question, right or wrong.
        self.count_late(question, &seen, |unit| unit != question.unit);
        self.learn(question, echo, &answer, &seen);
        Ok(answer)
    }

    /// What an exchange teaches about the line and the unit.
    fn learn(&mut self, question: &Question, echo: Echo, answer: &Answer, seen: &[u8]) {
        let sent = rtu::adu(question);
        let came_back = seen.windows(sent.len()).any(|window| window == sent);
        // Silence teaches nothing about a line that may be cut.
        if echo == Echo::Unknown && question.request.is_read() && (came_back || answer.keeps_connection()) {
            self.echo = Some(came_back);
        }
        if matches!(answer, Answer::Words(_) | Answer::Refused(_)) {
            self.held.remove(&question.unit);
        } else {
            self.held.insert(question.unit, Instant::now() + self.line.late_answer_max);
        }
        self.silent_questions = if *answer == Answer::Silent { self.silent_questions + 1 } else { 0 };
    }

    /// Counts what units answered that were given up.
    fn count_late(&mut self, question: &Question, bytes: &[u8], of: impl Fn(u8) -> bool) {
        for frame in rtu::frames(question, bytes) {
            if of(frame.unit) && self.held.contains_key(&frame.unit) {
                *self.late.entry(frame.unit).or_default() += 1;
            }
        }
    }

    /// Takes what came since the last question, and waits until the line was silent for `gap`.
    async fn between(&mut self, gap: Duration) -> io::Result<()> {
        let started_at = Instant::now();
        loop {
            let until = (self.heard_at + gap).min(started_at + BUSY_MAX);
            let mut bytes = std::mem::take(&mut self.between);
            let read = if gap.is_zero() {
                // Only what is there already. A timer has steps of a millisecond, and would cost each question one.
                tokio::select! {
                    biased;
                    read = self.read(&mut bytes) => Some(read),
                    () = std::future::ready(()) => None,
                }
            } else {
                timeout_at(until, self.read(&mut bytes)).await.ok()
            };
            self.between = bytes;
            match read {
                None => break,
                Some(read) => read?,
            }
            if started_at.elapsed() > BUSY_MAX {
                break;
            }
        }
        match &self.wire {
            Wire::DialIn(dial_in) if dial_in.silent_max.is_some_and(|max| self.heard_at.elapsed() > max) => {
                Err(io::ErrorKind::TimedOut.into())
            }
            _ => Ok(()),
        }
    }

    /// Waits until nothing came for so long, and forgets what came.
    async fn settle(&mut self, silence: Duration) -> io::Result<()> {
        let mut nothing = Vec::new();
        let end = Instant::now() + silence * SETTLE_TIMES_MAX;
        loop {
            let wait = silence.min(end.saturating_duration_since(Instant::now()));
            match timeout(wait, self.read(&mut nothing)).await {
                Err(_) => return Ok(()),
                Ok(read) => read?,
            }
            nothing.clear();
        }
    }

    async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let read = self.port.read(&mut buffer).await?;
        self.heard_at = Instant::now();
        bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if bytes.len() > WAITING_BYTES_MAX {
            bytes.drain(..bytes.len() - WAITING_BYTES_KEPT);
        }
        Ok(())
    }

    fn heartbeat(&self) -> Vec<u8> {
        if let Wire::DialIn(dial_in) = &self.wire { dial_in.heartbeat.clone() } else { Vec::new() }
    }

    /// The silence before a question.
    fn line_gap(&self) -> Duration {
        let gap = if let Wire::Serial(serial) = &self.wire { serial.frame_gap() } else { Duration::ZERO };
        gap.max(self.line.turnaround)
    }

    fn time_of(&self, bytes: usize) -> Duration {
        if let Wire::Serial(serial) = &self.wire { serial.time_of(bytes) } else { Duration::ZERO }
    }
}

/// The answer in what came, or in what came without the heartbeats in it. The checksum decides which of the two it is: a
/// heartbeat may stand in the middle of a frame, and a frame may have its bytes in it by nature.
fn find(question: &Question, echo: Echo, bytes: &[u8], heartbeat: &[u8]) -> Option<(rtu::Found, Vec<u8>)> {
    if let Some(found) = rtu::find(question, echo, bytes) {
        return Some((found, bytes.to_vec()));
    }
    let without = without(bytes, heartbeat);
    if without.len() == bytes.len() {
        return None;
    }
    rtu::find(question, echo, &without).map(|found| (found, without))
}

/// The bytes without every heartbeat in them.
fn without(bytes: &[u8], heartbeat: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        match rest.strip_prefix(heartbeat).filter(|_| !heartbeat.is_empty()) {
            Some(behind) => rest = behind,
            None => {
                kept.push(*first);
                rest = behind;
            }
        }
    }
    kept
}

/// What stands behind the heartbeats at the beginning; nothing while one of them is not whole.
fn behind_heartbeats<'b>(mut bytes: &'b [u8], heartbeat: &[u8]) -> &'b [u8] {
    if heartbeat.is_empty() {
        return bytes;
    }
    while let Some(behind) = bytes.strip_prefix(heartbeat) {
        bytes = behind;
    }
    if heartbeat.starts_with(bytes) { &[] } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RegisterTable;
    use proptest::prelude::*;

    fn question(count: u16) -> Question {
        Question { unit: 3, request: Request::Read { table: RegisterTable::Holding, start: 0, count } }
    }

    fn answer(words: &[u16]) -> Vec<u8> {
        let mut frame = vec![3, 3, u8::try_from(words.len() * 2).unwrap()];
        frame.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        let crc = rtu::crc(&frame);
        [&frame[..], &crc].concat()
    }

    proptest! {
        #[test]
        fn a_heartbeat_before_in_the_middle_of_or_behind_an_answer_does_not_disturb_it(
            words in prop::collection::vec(any::<u16>(), 1..20),
            heartbeat in prop::sample::select(vec![&b"FS-HB"[..], b"\xFE", b"\x00\x00", b"ping\r\n"]),
            at: prop::sample::Index,
        ) {
            let right = answer(&words);
            let at = at.index(right.len() + 1);
            let bytes = [&right[..at], heartbeat, &right[at..]].concat();
            let natural = right.windows(heartbeat.len()).any(|window| window == heartbeat);
            let asked = question(u16::try_from(words.len()).unwrap());
            match find(&asked, Echo::Unknown, &bytes, heartbeat) {
                Some((found, _)) => prop_assert_eq!(found.answer, Answer::Words(words)),
                // A frame that has the heartbeat's bytes in it and another one in the middle: asked again.
                None => prop_assert!(natural || without(&bytes, heartbeat) != right),
            }
            let alone = find(&asked, Echo::Unknown, &right, heartbeat);
            prop_assert_eq!(alone.map(|(found, _)| found.answer), Some(asked.request.read(&right[1..right.len() - 2])));
        }
    }

    #[test]
    fn heartbeats_before_a_header_are_passed_over() {
        assert_eq!(behind_heartbeats(b"hbhb\x00\x01", b"hb"), b"\x00\x01");
        assert_eq!(behind_heartbeats(b"hbh", b"hb"), b"");
        assert_eq!(behind_heartbeats(b"\x00\x01", b""), b"\x00\x01");
        assert!(!Answer::Wrong(Mismatch::Late).keeps_connection());
    }
}
