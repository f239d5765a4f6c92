//! THE LOOP: arrivals, commands and deadlines → decode → engine → one commit → acknowledge.
//!
//! The middle of the flow, and the only place where all of it meets. One task owns the engine, so nothing races:
//! it takes whatever is waiting, steps the engine, and writes inputs and results in one transaction. Only after
//! that are messages acknowledged and commands answered.
//!
//! Two invariants. People wait for one commit only: the arrival that raised a hazard closes its batch, nothing that came
//! behind rides in it, and it stands ready while another commit is under way. And life safety never waits for the disk:
//! when the journal keeps the loop waiting for longer than [`JOURNAL_PATIENCE`], or refuses to write, the engine goes on;
//! transitions are shown at once, marked 未记录, a fault is raised, and the unwritten entries are kept in memory (bounded)
//! and written when the journal is back.

mod again;
mod announcements;
mod batch;
mod commit;
mod heard;
mod keep;
mod orders;
mod read;
mod receipts;
mod rehearsal;
mod replan;
mod replay;
mod route;
mod sparkplug;
mod time;
mod ways;

pub use heard::{AHEAD_MAX, Heard};
pub use orders::{Desk, Permit};
pub use receipts::{RECEIPT_AGE_MAX, RECEIPTS_MAX};
pub use rehearsal::{Due, Rehearsal, Why};
pub use replan::{NOTICES_MAX, Notice, Notices, Replan};
pub use replay::{Played, Player};
pub use route::{Binding, Route, Router, Shared};
pub use time::HELD_BACK_MAX;
pub use ways::WayBack;

use crate::capture::Tap;
use crate::clock::Clock;
use crate::commands::{Refused, Request, Requests};
use crate::hazard::Engine;
use crate::journal::{AppendError, Journal, Note, NoteKind};
use crate::metrics::Metrics;
use crate::model::{
    Change, Command, Delivery, Event, Flaw, Frame, LinkChange, LinkId, Outcome, PointId, Quality,
    Quarantined, Reading, Span, Text, Timestamp, Value,
};
use crate::sources::{Arrival, Asks};
use batch::{Batch, Reply, Sealed};
use futures::future::BoxFuture;
use orders::Orders;
use read::Memory;
use receipts::{Receipts, fingerprint};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;
use time::{Stepped, Unset};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use ways::Ways;

/// Arrivals taken at once, before the loop looks at the clock, the operators and the commit under way. Batches grow while
/// a commit runs, not by this figure. 128 × about 10 µs: 1.3 ms; a turn of the loop itself costs 1 or 2 µs.
pub const ARRIVALS_AT_ONCE: usize = 128;

/// Readings in one entry. At about 100 bytes each in memory this is 1 MB; the journal's blob is a tenth of that.
pub const ENTRY_READINGS_MAX: usize = 10_000;

/// How long a commit may take before the hazards in it are shown without it. An SD card's slow fsync is 100 ms;
/// people are promised a hazard on the screen in well under 2 s.
pub const JOURNAL_PATIENCE: Span = Span::from_secs(1);

/// Readings kept in memory while the journal cannot be written: about 6 MB. Older telemetry is given up first,
/// counted in `readings_lost`; transitions are never given up.
pub const BACKLOG_READINGS_MAX: usize = 50_000;

/// Entries kept in memory while the journal cannot be written. From then on a full batch loses its oldest telemetry
/// instead of becoming one more, and changes are shown once a second: at most one entry a second, each with something
/// that is never given up (a hazard's transition is about 1 kB, and a person's word).
pub const BACKLOG_ENTRIES_MAX: usize = 1024;

/// How long the journal must have kept up before its fault is over: three times the longest pause between two tries. A
/// disk whose every commit takes longer than [`JOURNAL_PATIENCE`] would otherwise be a new fault with each of them, and
/// two entries more to write.
pub const CALM_FOR: Span = Span::from_secs(15);

/// At the end, a commit that fails is tried again for so long. With the last try's own 5 s (SQLite's locks) it ends
/// before the app aborts the loop, after 15 s.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(9);

/// Strays kept in memory while the journal cannot be written: 512 × 4 KiB is 2 MiB, and more than twice what the journal
/// keeps of unknown senders. The oldest go first, counted in `strays_dropped`.
pub const BACKLOG_STRAYS_MAX: usize = 512;

/// Bytes of quarantined frames in one entry: a batch that holds more is closed.
pub const ENTRY_QUARANTINE_BYTES_MAX: usize = 1 << 20;

/// Bytes of quarantined frames kept in memory while the journal cannot be written: four entries full. The oldest go first,
/// counted in `quarantine_dropped`.
pub const BACKLOG_QUARANTINE_BYTES_MAX: usize = 4 * ENTRY_QUARANTINE_BYTES_MAX;

/// While the journal cannot be written, a message of a publisher of our own broker is left without its acknowledgement
/// for so long. Many devices send nothing else before it comes, and what they wait to send may be a fire: it gets
/// through within the 10 s that a fire alarm may take.
pub const WITHHELD_MAX: Span = Span::from_secs(5);

/// A failed commit is tried again after this, doubled up to [`RETRY_MAX`].
pub const RETRY_MIN: Span = Span::from_millis(250);
/// See [`RETRY_MIN`]. A freed disk is used again within this.
pub const RETRY_MAX: Span = Span::from_secs(5);

/// How the loop trades latency against flash wear.
#[derive(Debug, Clone)]
pub struct Rhythm {
    /// A batch without a hazard or a command may wait this long for company.
    pub commit_window: Span,
    /// For each source: how its far side waits for acknowledgements.
    pub windows: Vec<Window>,
}

/// How many messages a far side sends before it waits for acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// So many in all.
    pub messages: u16,
    /// The far side is many publishers, each with a window of its own that nobody knows; it may be one message.
    pub of_many: bool,
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
    /// What the journal had to do to itself at start, for the duty log.
    pub recovered: Option<Text>,
    /// Fingerprints of messages that the journal already has.
    pub receipts: HashSet<u64>,
    /// When each device was heard last, as the journal has it.
    pub heard: Heard,
    /// The way back to each source, by its index.
    pub acks: Vec<mpsc::Sender<Vec<Delivery>>>,
    /// The way to ask the far side of each source, by its index; `None`, and past the end: it may be asked nothing.
    pub asks: Vec<Option<Asks>>,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// What people may tell devices to do, and where that goes.
    pub desk: Desk,
    /// When to commit.
    pub rhythm: Rhythm,
    /// Shows frames to whoever captures them.
    pub tap: Tap,
    /// Where the state of the links is told, for the health page.
    pub links: watch::Sender<BTreeMap<LinkId, LinkState>>,
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Whether it works.
    pub up: bool,
    /// Since when it is so.
    pub since: Timestamp,
    /// Why.
    pub reason: Text,
}

/// The loop.
pub struct Pipeline {
    engine: Engine,
    router: Router,
    memory: Memory,
    journal: Journal,
    clock: Clock,
    metrics: Metrics,
    rhythm: Rhythm,
    tap: Tap,
    links: watch::Sender<BTreeMap<LinkId, LinkState>>,
    ways: Ways,
    notices: Notices,
    receipts: Receipts,
    orders: Orders,
    unset: Option<Unset>,
    stepped: Option<Stepped>,
    heard: Heard,
    /// What `gateway/disk` was last told, and when to look again.
    disk_full: Option<bool>,
    look_at_disk: Timestamp,
    next_no: u64,
    outcome: Outcome,
    batch: Batch,
    queue: VecDeque<Sealed>,
    writing: Option<BoxFuture<'static, Result<(), AppendError>>>,
    writing_since: Timestamp,
    retry_at: Option<Timestamp>,
    retry_after: Span,
    /// When a batch was last closed.
    sealed_at: Timestamp,
    /// Changes are shown without the journal.
    degraded: bool,
    /// `gateway/journal` is told to be a fault, and stays one until the journal was calm for [`CALM_FOR`].
    faulty: bool,
    calm_since: Timestamp,
}

impl Pipeline {
    /// Puts the loop together; nothing runs yet.
    pub fn new(parts: Parts) -> Self {
        let mut pipeline = Self {
            engine: parts.engine,
            router: parts.router,
            memory: Memory::default(),
            journal: parts.journal,
            writing_since: parts.clock.now(),
            clock: parts.clock,
            metrics: parts.metrics,
            ways: Ways::new(parts.acks, parts.rhythm.windows.clone(), parts.asks),
            notices: mpsc::channel(1).1,
            rhythm: parts.rhythm,
            tap: parts.tap,
            links: parts.links,
            receipts: Receipts::new(parts.receipts),
            orders: Orders::new(parts.desk),
            unset: None,
            stepped: None,
            heard: parts.heard,
            disk_full: None,
            look_at_disk: Timestamp::EPOCH,
            next_no: parts.head + 1,
            outcome: Outcome::default(),
            batch: Batch::default(),
            queue: VecDeque::new(),
            writing: None,
            retry_at: None,
            retry_after: RETRY_MIN,
            sealed_at: Timestamp::EPOCH,
            degraded: false,
            faulty: false,
            calm_since: Timestamp::EPOCH,
        };
        let now = pipeline.clock.now();
        pipeline.note(NoteKind::Started, "gateway", Text::new("网关启动", "gateway started"));
        if let Some(text) = parts.recovered {
            pipeline.note(NoteKind::Journal, "journal", text);
        }
        pipeline.own_fault("journal", false, now);
        pipeline.begin_time();
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
                result = finished(&mut self.writing) => match result {
                    // The journal's writer is gone for good: only a new start helps, and loses nothing.
                    Err(AppendError::Closed) => return Err(AppendError::Closed),
                    result => self.written(result),
                },
                Some(request) = requests.recv() => self.request(request),
                Some(notice) = self.notices.recv() => self.notice(notice),
                Some(()) = some(arrivals.recv_many(&mut taken, ARRIVALS_AT_ONCE)) => {
                    for arrival in taken.drain(..) {
                        self.arrival(arrival);
                        self.cut();
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
        // An empty batch is never due: to wake for it would be to spin.
        if self.queue.is_empty() && !self.degraded && !self.batch.is_empty() {
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
            Arrival::Ordered { no, fate } => self.ordered(no, fate),
        }
    }

    fn frame(&mut self, mut frame: Frame) {
        self.metrics.frames_received.inc();
        frame.received_at = self.in_new_time(frame.received_at);
        // A device's own time cannot be judged by a clock that nobody has set.
        let judged_at = if self.unset.is_some() { Timestamp::EPOCH } else { frame.received_at };
        self.open_batch();
        if let Some(delivery) = frame.delivery {
            self.batch.hold(frame.source, delivery, self.clock.now());
            let fingerprint = fingerprint(&frame, delivery.key);
            if delivery.duplicate && self.receipts.knows(fingerprint) {
                self.metrics.frames_repeated.inc();
                return;
            }
            self.receipts.remember(fingerprint);
            self.batch.receipts.push(fingerprint);
        }
        let said = read::read(
            &mut self.router,
            &mut self.memory,
            &frame.link,
            &frame.body,
            frame.retained,
            judged_at,
        );
        self.node_noticed(&frame);
        self.tap.offer(&frame, read::device(&said));
        for one in said {
            self.said(&frame, one);
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

    fn own_fault(&mut self, point: &str, fault: bool, at: Timestamp) {
        let state = if fault { "fault" } else { "normal" };
        self.own_reading(&format!("gateway/{point}"), Value::Code(state.into()), at);
    }

    fn link(&mut self, change: LinkChange) {
        tracing::info!(link = %change.link, up = change.up, reason = %change.reason.en, "the link changed");
        self.open_batch();
        let at = self.clock.now();
        self.step(&Event::Link { link: change.link.clone(), up: change.up }, None);
        let was_up = self.links.borrow().get(&change.link).is_some_and(|link| link.up);
        let text = if change.up && was_up {
            // It works as before, but there is something to say of it.
            let Text { zh, en } = &change.reason;
            Text::new(&format!("{}：{zh}", change.link), &format!("{}: {en}", change.link))
        } else if change.up {
            Text::new(&format!("{} 已连接", change.link), &format!("{} is connected", change.link))
        } else {
            Text::new(
                &format!("{} 连接中断：{}", change.link, change.reason.zh),
                &format!("{} is down: {}", change.link, change.reason.en),
            )
        };
        self.note(NoteKind::Link, change.link.as_str(), text);
        self.links.send_modify(|links| {
            links.insert(
                change.link.clone(),
                LinkState { up: change.up, since: at, reason: change.reason.clone() },
            );
        });
        let state = if change.up { "up" } else { "down" };
        self.own_reading(&format!("link-{}/state", change.link), Value::Code(state.into()), at);
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Command { command, reply } => self.command(command, reply),
            Request::Order { wish, reply } => self.order(wish, reply),
            Request::Access(access) => self.note(NoteKind::Access, &access.account, access.text),
            Request::DecodeAgain(request) => self.decode_again(request),
            Request::Own(own) => self.note(NoteKind::Journal, &own.subject, own.text),
        }
    }

    fn command(&mut self, command: Command, reply: Reply) {
        self.open_batch();
        let hazard = command.hazard.clone();
        self.outcome.clear();
        let now = self.clock.now();
        self.engine.handle(now, self.next_no, &Event::Command(command), &mut self.outcome);
        if let Some(refusal) = self.outcome.refusal.take() {
            self.batch.take(&mut self.outcome, None);
            // Nobody is left to answer when the page was closed meanwhile.
            drop(reply.send(Err(Refused::Rule(hazard, refusal))));
            return;
        }
        self.batch.take(&mut self.outcome, None);
        self.batch.urgent = true;
        self.batch.replies.push(reply);
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

    /// Before anything is put into the batch. What left nothing in it (a refused command) opened nothing.
    fn open_batch(&mut self) {
        if self.batch.is_empty() {
            self.batch.opened_at = Some(self.clock.now());
        }
    }
}

/// Waits for the commit in progress; for ever when there is none.
async fn finished(
    writing: &mut Option<BoxFuture<'static, Result<(), AppendError>>>,
) -> Result<(), AppendError> {
    match writing {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// `None` once the channel is closed, so that `select!` no longer looks at it.
async fn some(count: impl Future<Output = usize>) -> Option<()> {
    (count.await > 0).then_some(())
}
