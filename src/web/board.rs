//! WEB · THE BOARD: what is true now, as every screen sees it. Follows the journal like any other reader.
//!
//! One snapshot is shared by all requests. A hazard's change is told to the live streams at once, in a [`Frame`] of its
//! own; readings are gathered and told a few times a second, in frames that are numbered by the journal, so that a browser
//! that was asleep says where it stopped.

use super::wire;
use crate::journal::{Entry, Journal, ReadError};
use crate::model::{Fact, Hazard, HazardId, Phase, Plan, PointId, Reading, SignalClass, Timestamp};
use crate::series::Series;
use futures::FutureExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Entries taken from the journal at once. An entry is one commit (about one a second); 64 is a minute of backlog.
const BATCH_MAX: usize = 64;

/// Frames a live stream may fall behind before it is dropped and has to resume: 256 are a minute of readings at
/// [`READINGS_EVERY`], or as many batches with hazards.
const FRAMES_WAITING_MAX: usize = 256;

/// Between two frames of readings: a person cannot read figures that change more than four times a second, and a frame
/// for every commit cost more than all the rest of the gateway. Hazards do not wait for it.
const READINGS_EVERY: Duration = Duration::from_millis(250);

/// Entries before the head that are read again at start: the time series may be a few commits behind the journal.
const OVERLAP: u64 = 64;

/// How long to wait before the journal is read again after it could not be.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An open hazard with where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// The hazard after its newest change.
    pub hazard: Hazard,
    /// Its phase.
    pub phase: Phase,
    /// The entry of its newest change.
    pub no: u64,
    /// False while that entry is not in the journal. 未记录.
    pub recorded: bool,
}

/// What is true at one journal number.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The journal number up to which this is true.
    pub no: u64,
    /// The newest reading of each point.
    pub last: HashMap<PointId, Reading>,
    /// Every hazard that nobody has closed.
    pub open: BTreeMap<HazardId, Open>,
}

/// What the loudspeaker should do: decided here, so that it depends on nothing a page might fail to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// Every hazard is acknowledged or silenced.
    Off,
    /// Something that is not a fire waits for a person.
    Soft,
    /// A fire waits for a person.
    Fire,
}

impl Sound {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Soft => "soft",
            Self::Fire => "fire",
        }
    }
}

impl Snapshot {
    /// How many open hazards each lamp stands for, in lamp order.
    pub fn lamps(&self) -> [(SignalClass, usize); 8] {
        SignalClass::ALL
            .map(|class| (class, self.open.values().filter(|open| open.hazard.signal == class).count()))
    }

    /// What should be heard.
    pub fn sound(&self) -> Sound {
        let mut waiting = self
            .open
            .values()
            .map(|open| &open.hazard)
            .filter(|hazard| hazard.acknowledged.is_none() && hazard.silenced.is_none())
            .peekable();
        if waiting.peek().is_none() {
            Sound::Off
        } else if waiting.any(|hazard| hazard.signal == SignalClass::Fire) {
            Sound::Fire
        } else {
            Sound::Soft
        }
    }

    /// Open hazards on a point, the most urgent first.
    pub fn on_point<'a>(&'a self, point: &'a PointId) -> impl Iterator<Item = &'a Open> {
        let mut open: Vec<_> = self.open.values().filter(|open| open.hazard.point == *point).collect();
        open.sort_by_key(|open| urgency(&open.hazard));
        open.into_iter()
    }

    fn take(&mut self, entry: &Entry) {
        // History is in the charts; the present is what a rule was told.
        let present = if entry.is_history() { &[] } else { entry.readings.as_slice() };
        for reading in present {
            let older = |standing: &Reading| reading.late && reading.time() < standing.time();
            if !self.last.get(&reading.point).is_some_and(older) {
                self.last.insert(reading.point.clone(), reading.clone());
            }
        }
        for transition in &entry.transitions {
            let hazard = &transition.hazard;
            if hazard.closed.is_some() {
                self.open.remove(&hazard.id);
            } else {
                let open = Open {
                    hazard: hazard.clone(),
                    phase: transition.phase,
                    no: entry.no,
                    recorded: entry.recorded,
                };
                self.open.insert(hazard.id.clone(), open);
            }
        }
        self.no = entry.no;
    }
}

/// Sorts the most urgent first: fire, then by priority, then the newest.
pub fn urgency(hazard: &Hazard) -> (bool, crate::model::Priority, std::cmp::Reverse<Timestamp>, HazardId) {
    let not_fire = hazard.signal != SignalClass::Fire;
    (not_fire, hazard.priority, std::cmp::Reverse(hazard.last_raised_at), hazard.id.clone())
}

/// One live event: what changed up to this journal number.
#[derive(Debug)]
pub struct Frame {
    /// The newest journal number in it.
    pub no: u64,
    /// With it everything up to `no` has been told, and a page may resume there. A hazard's own frame goes ahead of the
    /// readings that were committed with it, so it does not count as a place to resume from.
    pub whole: bool,
    /// Its JSON, made once for all streams.
    pub json: String,
}

/// The live projection. Shared by all requests.
#[derive(Debug)]
pub struct Board {
    now: RwLock<Arc<Snapshot>>,
    frames: broadcast::Sender<Arc<Frame>>,
    /// The points whose newest value the live streams were not told; `None` once they know every entry.
    owed: Mutex<Option<HashSet<PointId>>>,
    plan: watch::Receiver<Arc<Plan>>,
}

impl Board {
    /// A board that shows these values: what stands at journal number `no`.
    pub fn new(plan: watch::Receiver<Arc<Plan>>, no: u64, last: Vec<Reading>, facts: Vec<Fact>) -> Self {
        let last = last.into_iter().map(|reading| (reading.point.clone(), reading)).collect();
        let open = facts
            .into_iter()
            .filter_map(|fact| Some((fact.phase, fact.hazard?)))
            .filter(|(_, hazard)| hazard.closed.is_none())
            .map(|(phase, hazard)| (hazard.id.clone(), Open { hazard, phase, no, recorded: true }))
            .collect();
        let now = RwLock::new(Arc::new(Snapshot { no, last, open }));
        Self { now, frames: broadcast::channel(FRAMES_WAITING_MAX).0, owed: Mutex::default(), plan }
    }

    /// Builds it from what is stored.
    pub async fn load(
        plan: watch::Receiver<Arc<Plan>>,
        journal: &Journal,
        series: &Series,
    ) -> Result<Self, ReadError> {
        // The head is read first: whatever is committed meanwhile is read again below, and again is harmless,
        // because a transition carries the whole hazard.
        let head = *journal.head().borrow();
        let facts = journal.open_hazards().await?;
        let board = Self::new(plan, head.saturating_sub(OVERLAP), series.all_last(), facts);
        loop {
            let entries = journal.read_after(board.snapshot().no, BATCH_MAX).await?;
            if entries.is_empty() {
                return Ok(board);
            }
            board.take(&entries);
        }
    }

    /// What is true now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.now.read().expect("no holder of this lock panics").clone()
    }

    /// Live frames from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Frame>> {
        self.frames.subscribe()
    }

    /// Takes new journal entries over. Tells the live streams of hazards at once; readings are owed to them until
    /// [`Board::tell`]. While nobody looks nothing is rendered or gathered: a stream that opens now takes the snapshot
    /// after it has subscribed, so it misses nothing.
    pub fn take(&self, entries: &[Arc<Entry>]) {
        let snapshot = {
            let mut now = self.now.write().expect("no holder of this lock panics");
            // Copied only while a request still reads the old one.
            let snapshot = Arc::make_mut(&mut now);
            entries.iter().for_each(|entry| snapshot.take(entry));
            now.clone()
        };
        if self.frames.receiver_count() == 0 {
            *self.owed() = None;
            return;
        }
        if entries.iter().any(|entry| !entry.transitions.is_empty()) {
            let transitions = entries.iter().flat_map(|entry| &entry.transitions);
            let points: HashSet<_> = transitions.map(|transition| &transition.hazard.point).collect();
            self.send(false, &snapshot, |plan| wire::frame(plan, &snapshot, points, entries, false));
        }
        let mut owed = self.owed();
        let owed = owed.get_or_insert_default();
        for reading in entries.iter().flat_map(|entry| &entry.readings) {
            if !owed.contains(&reading.point) {
                owed.insert(reading.point.clone());
            }
        }
    }

    /// Whether a live stream waits for readings.
    pub fn owes(&self) -> bool {
        self.frames.receiver_count() > 0 && self.owed().is_some()
    }

    /// Tells the live streams what they are owed: each point once with its newest value.
    pub fn tell(&self) {
        // Bound by itself, so that the lock is not held while the frame is rendered.
        let owed = self.owed().take();
        if let Some(points) = owed {
            let snapshot = self.snapshot();
            self.send(true, &snapshot, |plan| wire::frame(plan, &snapshot, &points, &[], false));
        }
    }

    fn owed(&self) -> MutexGuard<'_, Option<HashSet<PointId>>> {
        self.owed.lock().expect("no holder of this lock panics")
    }

    /// Renders only for somebody.
    fn send(&self, whole: bool, snapshot: &Snapshot, json: impl FnOnce(&Plan) -> String) {
        if self.frames.receiver_count() > 0 {
            let plan = self.plan.borrow().clone();
            // An error only says that the last stream was just closed.
            self.frames.send(Arc::new(Frame { no: snapshot.no, whole, json: json(&plan) })).ok();
        }
    }

    /// The journal has caught up to this number: what was shown before it was written is no longer 未记录.
    pub fn settle(&self, recorded: u64) {
        let waits = |open: &Open| !open.recorded && open.no <= recorded;
        let snapshot = {
            let mut now = self.now.write().expect("no holder of this lock panics");
            if !now.open.values().any(waits) {
                return;
            }
            Arc::make_mut(&mut now).open.values_mut().for_each(|open| open.recorded |= open.no <= recorded);
            now.clone()
        };
        // Readings may still be owed up to this number: not a place to resume from.
        self.send(false, &snapshot, |plan| wire::frame(plan, &snapshot, None, &[], true));
    }

    /// The frame that tells a page of these points and of what changed in these entries; lamps and sound are as they are now.
    pub fn frame(&self, points: &HashSet<PointId>, changes: &[Arc<Entry>], snapshot: &Snapshot) -> Frame {
        let plan = self.plan.borrow().clone();
        let json = wire::frame(&plan, snapshot, points, changes, false);
        Frame { no: snapshot.no, whole: true, json }
    }

    /// Follows the journal until cancelled. A journal that cannot be read is tried again; screens keep what they have.
    /// Readings are told at once after a pause, and then every `READINGS_EVERY`.
    pub async fn follow(&self, journal: &Journal, cancel: &CancellationToken) {
        let (mut head, recorded) = (journal.head(), journal.recorded());
        let mut pace = tokio::time::interval(READINGS_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The head is sent for every commit, also when its number was shown before.
            head.borrow_and_update();
            self.settle(*recorded.borrow());
            // Looked at here as well, because a flood never lets the journal run empty.
            if self.owes() && pace.tick().now_or_never().is_some() {
                self.tell();
            }
            match journal.read_after(self.snapshot().no, BATCH_MAX).await {
                Ok(entries) if entries.is_empty() => {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        changed = head.changed() => if changed.is_err() { return },
                        _ = pace.tick(), if self.owes() => self.tell(),
                    }
                }
                Ok(entries) => {
                    self.take(&entries);
                    // The streams this has woken send their hazards before the readings are rendered.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    tracing::error!(error = %error, "the duty room cannot read the journal; trying again");
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = tokio::time::sleep(RETRY_AFTER) => {}
                    }
                }
            }
            if cancel.is_cancelled() {
                return;
            }
        }
    }
}
