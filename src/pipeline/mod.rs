//! THE LOOP: arrivals, commands and deadlines → decode → engine → one commit → acknowledge.
//!
//! The middle of the flow, and the only place where all of it meets. One task owns the engine, so nothing races:
//! it takes whatever is waiting, steps the engine, and writes inputs and results in one transaction. Only after
//! that are messages acknowledged and commands answered.
//!
//! Invariant: life safety never waits for the disk. When the journal keeps the loop waiting for longer than
//! [`JOURNAL_PATIENCE`], or refuses to write, the engine goes on: transitions are shown at once, marked 未记录, a
//! fault is raised, and the unwritten entries are kept in memory (bounded) and written when the journal is back.

mod batch;
mod route;

pub use route::{Binding, Route, Router};

use crate::clock::Clock;
use crate::commands::{Done, Refused, Request, Requests};
use crate::hazard::Engine;
use crate::journal::{AppendError, Entry, Journal, Note, NoteKind, SAMPLE_BYTES_MAX, Stray, StrayKind};
use crate::metrics::Metrics;
use crate::model::{
    Body, Change, DeviceId, Event, Flaw, Frame, LinkChange, Outcome, PointId, Quality, Reading, SourceIndex,
    Span, Text, Timestamp, Value,
};
use crate::profile::Decoded;
use crate::sources::Arrival;
use batch::{Batch, Sealed};
use futures::future::BoxFuture;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Arrivals taken at once. Enough that a commit under load carries hundreds of readings; few enough that decoding
/// them (about 10 µs each) keeps an operator waiting for no more than 20 ms.
pub const ARRIVALS_AT_ONCE: usize = 2048;

/// Readings in one entry. At about 100 bytes each in memory this is 1 MB; the journal's blob is a tenth of that.
pub const ENTRY_READINGS_MAX: usize = 10_000;

/// How long a commit may take before the hazards in it are shown without it. An SD card's slow fsync is 100 ms;
/// people are promised a hazard on the screen in well under 2 s.
pub const JOURNAL_PATIENCE: Span = Span::from_secs(1);

/// Readings kept in memory while the journal cannot be written: about 6 MB. Older telemetry is given up first,
/// counted in `readings_lost`; transitions are never given up.
pub const BACKLOG_READINGS_MAX: usize = 50_000;

/// A failed commit is tried again after this, doubled up to [`RETRY_MAX`].
pub const RETRY_MIN: Span = Span::from_millis(250);
/// See [`RETRY_MIN`]. A freed disk is used again within this.
pub const RETRY_MAX: Span = Span::from_secs(5);

/// Fingerprints of recent messages, to know a redelivered one: the largest window of an MQTT client (65 535).
pub const RECEIPTS_MAX: usize = 65_536;

/// How the loop trades latency against flash wear.
#[derive(Debug, Clone)]
pub struct Rhythm {
    /// A batch without a hazard or a command may wait this long for company.
    pub commit_window: Span,
    /// For each source: how many messages its far side sends before it waits for acknowledgements.
    pub inflight_windows: Vec<u16>,
}

/// What the loop is built from.
pub struct Parts {
    /// The engine, already restored.
    pub engine: Engine,
    /// Finds a frame's device.
    pub router: Router,
    /// The journal.
    pub journal: Journal,
    /// The journal's newest entry number.
    pub head: u64,
    /// Fingerprints of messages that the journal already has.
    pub receipts: HashSet<u64>,
    /// The way back to each source, by its index.
    pub acks: Vec<mpsc::Sender<Vec<crate::model::Delivery>>>,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// When to commit.
    pub rhythm: Rhythm,
}

/// The loop.
pub struct Pipeline {
    engine: Engine,
    router: Router,
    journal: Journal,
    clock: Clock,
    metrics: Metrics,
    rhythm: Rhythm,
    acks: Vec<mpsc::Sender<Vec<crate::model::Delivery>>>,
    owed: Vec<Vec<crate::model::Delivery>>,
    receipts: HashSet<u64>,
    receipts_order: VecDeque<u64>,
    next_no: u64,
    outcome: Outcome,
    batch: Batch,
    queue: VecDeque<Sealed>,
    writing: Option<BoxFuture<'static, Result<(), AppendError>>>,
    writing_since: Timestamp,
    retry_at: Option<Timestamp>,
    retry_after: Span,
    degraded: bool,
}

impl Pipeline {
    /// Puts the loop together; nothing runs yet.
    pub fn new(parts: Parts) -> Self {
        let owed = parts.acks.iter().map(|_| Vec::new()).collect();
        let mut pipeline = Self {
            engine: parts.engine,
            router: parts.router,
            journal: parts.journal,
            writing_since: parts.clock.now(),
            clock: parts.clock,
            metrics: parts.metrics,
            rhythm: parts.rhythm,
            acks: parts.acks,
            owed,
            receipts_order: parts.receipts.iter().copied().collect(),
            receipts: parts.receipts,
            next_no: parts.head + 1,
            outcome: Outcome::default(),
            batch: Batch::default(),
            queue: VecDeque::new(),
            writing: None,
            retry_at: None,
            retry_after: RETRY_MIN,
            degraded: false,
        };
        let now = pipeline.clock.now();
        pipeline.note(NoteKind::Started, "gateway", Text::new("网关启动", "gateway started"));
        pipeline.own_reading("gateway/journal", Value::Flag(false), now);
        let clock_wrong = !pipeline.clock.is_believable();
        pipeline.own_reading("gateway/clock", Value::Flag(clock_wrong), now);
        pipeline
    }

    /// Runs until cancelled, then empties the channel, writes what is left and returns.
    ///
    /// Errors: the journal refused the last entries, so their messages stay unacknowledged.
    pub async fn run(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival>,
        mut requests: Requests,
        cancel: CancellationToken,
    ) -> Result<(), AppendError> {
        let mut taken = Vec::with_capacity(ARRIVALS_AT_ONCE);
        let clock = self.clock.clone();
        while !cancel.is_cancelled() {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                result = finished(&mut self.writing) => self.written(result),
                Some(request) = requests.recv() => self.command(request),
                Some(()) = some(arrivals.recv_many(&mut taken, ARRIVALS_AT_ONCE)) => {
                    for arrival in taken.drain(..) {
                        self.arrival(arrival);
                    }
                }
                () = clock.sleep_until(wake) => {}
            }
            self.keep_time();
            self.keep_writing();
        }
        self.drain(arrivals).await
    }

    /// When the loop must wake even if nothing arrives.
    fn wake_at(&self) -> Timestamp {
        // The clock is compared with the wall at least this often, so a step is noticed within it.
        let mut wake = self.clock.now() + Span::from_secs(1);
        let mut sooner = |at: Option<Timestamp>| {
            if let Some(at) = at {
                wake = wake.min(at);
            }
        };
        sooner(self.engine.next_deadline());
        if self.queue.is_empty() && !self.degraded {
            sooner(self.batch.opened_at.map(|opened| opened + self.rhythm.commit_window));
        }
        sooner(self.retry_at);
        if self.writing.is_some() && !self.degraded {
            sooner(Some(self.writing_since + JOURNAL_PATIENCE));
        }
        wake
    }

    fn arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Frame(frame) => self.frame(frame),
            Arrival::Link(change) => self.link(change),
        }
    }

    fn frame(&mut self, frame: Frame) {
        self.metrics.frames_received.inc();
        self.open_batch();
        if let Some(delivery) = frame.delivery {
            self.batch.deliveries.push((frame.source, delivery));
            let fingerprint = fingerprint(&frame, delivery.key);
            if delivery.duplicate && self.receipts.contains(&fingerprint) {
                self.metrics.frames_repeated.inc();
                return;
            }
            self.remember_receipt(fingerprint);
        }
        match &frame.body {
            Body::Message { topic, payload } => match self.router.topic(&frame.link, topic) {
                Route::Known(binding, kind) => {
                    let decoded = binding.profile.decode_message(kind, payload, frame.received_at);
                    self.decoded(&frame, &binding, decoded);
                }
                Route::NotPlanned { profile, address } => {
                    let reason = format!(
                        "主题符合型号 {profile}，但计划里没有地址 {address} / looks like {profile}, but no device of the plan has the address {address}"
                    );
                    self.unknown(&frame, topic, payload, reason);
                }
                Route::Foreign => {
                    let reason = "计划里没有任何设备使用这个主题 / no device of the plan uses this topic".to_owned();
                    self.unknown(&frame, topic, payload, reason);
                }
            },
            Body::Registers { device, blocks } => {
                if let Some(binding) = self.router.device(device) {
                    let decoded = binding.profile.decode_registers(blocks, frame.received_at);
                    self.decoded(&frame, &binding, decoded);
                }
            }
        }
    }

    fn decoded(&mut self, frame: &Frame, binding: &Binding, decoded: Decoded) {
        for sample in decoded.samples {
            let Some(point) = binding.points.get(sample.point) else { continue };
            let reading = Reading {
                point: point.clone(),
                value: sample.value,
                quality: sample.quality,
                flaw: sample.flaw,
                sampled_at: sample.sampled_at,
                received_at: frame.received_at,
                late: sample.late || frame.retained,
            };
            self.reading(reading);
        }
        // A register that was not answered is a bad reading, shown as such; a frame that could not be read is kept.
        let Body::Message { topic, payload } = &frame.body else { return };
        if decoded.understood && decoded.problems.is_empty() {
            return;
        }
        self.metrics.frames_unreadable.inc();
        let device = Some(binding.device.clone());
        let reason = decoded.problems.join("；");
        self.stray(StrayKind::Unreadable, frame, topic, payload, device, reason);
    }

    fn unknown(&mut self, frame: &Frame, topic: &str, payload: &[u8], reason: String) {
        self.metrics.frames_unknown.inc();
        self.stray(StrayKind::Unknown, frame, topic, payload, None, reason);
    }

    fn stray(
        &mut self,
        kind: StrayKind,
        frame: &Frame,
        topic: &str,
        payload: &[u8],
        device: Option<DeviceId>,
        reason: String,
    ) {
        let stray = Stray {
            kind,
            key: format!("{} {topic}", frame.link).into(),
            device,
            reason: reason.into(),
            sample: payload.get(..SAMPLE_BYTES_MAX).unwrap_or(payload).to_vec(),
            first_at: frame.received_at,
            last_at: frame.received_at,
            count: 1,
        };
        if !self.batch.take_stray(stray) {
            self.metrics.strays_dropped.inc();
        }
    }

    fn reading(&mut self, reading: Reading) {
        self.metrics.readings.inc();
        if reading.quality == Quality::Bad {
            self.metrics.readings_bad.inc();
        }
        let received_at = reading.received_at;
        let event = Event::Reading(reading);
        self.step(&event, Some(received_at));
        if let Event::Reading(reading) = event {
            self.batch.readings.push(reading);
        }
    }

    /// A reading of the gateway itself: its journal, its clock, its links. Same road as everybody's.
    fn own_reading(&mut self, point: &str, value: Value, at: Timestamp) {
        let Ok(point) = PointId::parse(point) else { return };
        self.open_batch();
        self.reading(Reading {
            point,
            value,
            quality: Quality::Good,
            flaw: None::<Flaw>,
            sampled_at: None,
            received_at: at,
            late: false,
        });
    }

    fn link(&mut self, change: LinkChange) {
        tracing::info!(link = %change.link, up = change.up, reason = %change.reason, "the link changed");
        self.open_batch();
        let at = self.clock.now();
        self.step(&Event::Link { link: change.link.clone(), up: change.up }, None);
        let text = if change.up {
            Text::new(&format!("{} 已连接", change.link), &format!("{} is connected", change.link))
        } else {
            Text::new(
                &format!("{} 连接中断：{}", change.link, change.reason),
                &format!("{} is down: {}", change.link, change.reason),
            )
        };
        self.note(NoteKind::Link, change.link.as_str(), text);
        let state = if change.up { "up" } else { "down" };
        self.own_reading(&format!("link-{}/state", change.link), Value::Code(state.into()), at);
    }

    fn command(&mut self, request: Request) {
        self.open_batch();
        let hazard = request.command.hazard.clone();
        self.outcome.clear();
        let now = self.clock.now();
        self.engine.handle(now, self.next_no, &Event::Command(request.command), &mut self.outcome);
        if let Some(refusal) = self.outcome.refusal.take() {
            self.batch.take(&mut self.outcome, None);
            // Nobody is left to answer when the page was closed meanwhile.
            drop(request.reply.send(Err(Refused::Rule(hazard, refusal))));
            return;
        }
        self.batch.take(&mut self.outcome, None);
        self.batch.urgent = true;
        self.batch.replies.push(request.reply);
    }

    fn note(&mut self, kind: NoteKind, subject: &str, text: Text) {
        self.open_batch();
        self.batch.notes.push(Note { kind, subject: subject.into(), text });
    }

    fn step(&mut self, event: &Event, received_at: Option<Timestamp>) {
        self.outcome.clear();
        self.engine.handle(self.clock.now(), self.next_no, event, &mut self.outcome);
        self.count();
        self.batch.take(&mut self.outcome, received_at);
    }

    fn count(&self) {
        for moved in &self.outcome.transitions {
            if matches!(moved.change, Change::Raised | Change::RaisedAgain) {
                self.metrics.hazards_raised.inc();
                tracing::warn!(
                    hazard = %moved.hazard.id, signal = %moved.hazard.signal, why = %moved.hazard.evidence.en(),
                    "a hazard was raised"
                );
            }
        }
    }

    fn open_batch(&mut self) {
        if self.batch.opened_at.is_none() {
            self.batch.opened_at = Some(self.clock.now());
        }
    }

    /// Deadlines that passed, and steps of the wall clock.
    fn keep_time(&mut self) {
        if let Some(by) = self.clock.take_step() {
            self.metrics.clock_steps.inc();
            self.shift(by);
            self.step(&Event::ClockStepped { by }, None);
            let text = Text::new(&format!("系统时钟调整了 {by}"), &format!("the wall clock was stepped by {by}"));
            self.note(NoteKind::ClockStepped, "clock", text);
            let wrong = !self.clock.is_believable();
            self.own_reading("gateway/clock", Value::Flag(wrong), self.clock.now());
        }
        let now = self.clock.now();
        if self.engine.next_deadline().is_some_and(|due| due <= now) {
            self.open_batch();
            self.step(&Event::Tick, None);
        }
    }

    /// Moves the loop's own deadlines with the clock.
    fn shift(&mut self, by: Span) {
        self.batch.opened_at = self.batch.opened_at.map(|at| at + by);
        self.batch.hazard_from = self.batch.hazard_from.map(|at| at + by);
        self.retry_at = self.retry_at.map(|at| at + by);
        self.writing_since = self.writing_since + by;
        for sealed in &mut self.queue {
            sealed.hazard_from = sealed.hazard_from.map(|at| at + by);
        }
    }

    // ---- the journal -------------------------------------------------------------------------------------------

    /// Whether the open batch should be closed now.
    fn due(&self) -> bool {
        if self.batch.is_empty() {
            return false;
        }
        if self.batch.urgent || self.batch.readings.len() >= ENTRY_READINGS_MAX {
            return true;
        }
        if self.degraded || !self.queue.is_empty() {
            return false; // it goes with the next one; nobody waits for it
        }
        let waited = self.batch.opened_at.is_some_and(|opened| self.clock.now() >= opened + self.rhythm.commit_window);
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

    fn keep_writing(&mut self) {
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

    fn seal(&mut self, now: Timestamp) {
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

    fn written(&mut self, result: Result<(), AppendError>) {
        self.writing = None;
        let now = self.clock.now();
        if let Err(error) = result {
            tracing::error!(%error, "the journal could not be written; it will be tried again");
            self.retry_at = Some(now + self.retry_after);
            self.retry_after = (self.retry_after + self.retry_after).min(RETRY_MAX);
            if !self.degraded {
                self.degrade(&format!("日志无法写入：{error}"), &format!("the journal cannot be written: {error}"));
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
            self.note(NoteKind::Journal, "journal", Text::new("日志恢复写入", "the journal is written again"));
            self.own_reading("gateway/journal", Value::Flag(false), now);
        }
    }

    fn degrade(&mut self, zh: &str, en: &str) {
        self.degraded = true;
        tracing::error!(reason = en, "the journal cannot keep up; hazards are shown without it");
        let now = self.clock.now();
        self.note(NoteKind::Journal, "journal", Text::new(zh, en));
        self.own_reading("gateway/journal", Value::Flag(true), now);
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
            let of_source = |deliveries: &[(SourceIndex, crate::model::Delivery)]| {
                deliveries.iter().filter(|(from, _)| *from == source).count()
            };
            let held = of_source(&self.batch.deliveries)
                + self.queue.iter().map(|sealed| of_source(&sealed.deliveries)).sum::<usize>();
            let mut excess = held.saturating_sub(allowed);
            let mut released = Vec::new();
            let held_lists =
                self.queue.iter_mut().map(|s| &mut s.deliveries).chain(std::iter::once(&mut self.batch.deliveries));
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

    fn acknowledge(&mut self, deliveries: Vec<(SourceIndex, crate::model::Delivery)>) {
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

    fn remember_receipt(&mut self, fingerprint: u64) {
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

    /// The end: what is in the channel is still taken, everything is written, and every message acknowledged.
    async fn drain(mut self, mut arrivals: mpsc::Receiver<Arrival>) -> Result<(), AppendError> {
        arrivals.close();
        while let Ok(arrival) = arrivals.try_recv() {
            self.arrival(arrival);
        }
        self.note(NoteKind::Stopped, "gateway", Text::new("网关停止", "gateway stopped"));
        if let Some(writing) = self.writing.take() {
            let result = writing.await;
            self.written(result);
        }
        let now = self.clock.now();
        self.seal(now);
        while let Some(front) = self.queue.front() {
            self.journal.append(front.write.clone()).await?;
            self.written(Ok(()));
        }
        Ok(())
    }
}

/// Waits for the commit in progress; for ever when there is none.
async fn finished(writing: &mut Option<BoxFuture<'static, Result<(), AppendError>>>) -> Result<(), AppendError> {
    match writing {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// `None` once the channel is closed, so that `select!` no longer looks at it.
async fn some(count: impl Future<Output = usize>) -> Option<()> {
    (count.await > 0).then_some(())
}

/// Knows a redelivered message again: within one MQTT session a packet id names one message until it is acknowledged.
fn fingerprint(frame: &Frame, key: u32) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    frame.link.hash(&mut hasher);
    if let Body::Message { topic, payload } = &frame.body {
        topic.hash(&mut hasher);
        payload.hash(&mut hasher);
    }
    hasher.finish()
}
