//! WEB · THE BOARD: what is true now, as every screen sees it. Follows the journal like any other reader.
//!
//! One snapshot is shared by all requests; each batch of journal entries becomes one numbered [`Frame`] for the
//! live streams. The number is the journal's, so a browser that was asleep says where it stopped.

use super::wire;
use crate::journal::{Entry, Journal, ReadError};
use crate::model::{Fact, Hazard, HazardId, Phase, Plan, PointId, Reading, SignalClass, Timestamp};
use crate::series::Series;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Entries taken from the journal at once. An entry is one commit (about one a second); 64 is a minute of backlog.
const BATCH_MAX: usize = 64;

/// Frames a live stream may fall behind before it is dropped and has to resume: 256 batches are minutes of work.
const FRAMES_WAITING_MAX: usize = 256;

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
        for reading in &entry.readings {
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

/// One numbered live event: what changed up to this journal number.
#[derive(Debug)]
pub struct Frame {
    /// The newest journal number in it.
    pub no: u64,
    /// Its JSON, made once for all streams.
    pub json: String,
}

/// The live projection. Shared by all requests.
#[derive(Debug)]
pub struct Board {
    now: RwLock<Arc<Snapshot>>,
    frames: broadcast::Sender<Arc<Frame>>,
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
        Self { now, frames: broadcast::channel(FRAMES_WAITING_MAX).0, plan }
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

    /// Takes new journal entries over and tells the live streams.
    pub fn take(&self, entries: &[Arc<Entry>]) {
        let snapshot = {
            let mut now = self.now.write().expect("no holder of this lock panics");
            // Copied only while a request still reads the old one.
            let snapshot = Arc::make_mut(&mut now);
            entries.iter().for_each(|entry| snapshot.take(entry));
            now.clone()
        };
        self.tell(entries, &snapshot);
    }

    /// Makes the frame only for somebody: under load it costs more than all the rest. A stream that opens now takes
    /// the snapshot after it has subscribed, so it misses nothing.
    fn tell(&self, entries: &[Arc<Entry>], snapshot: &Snapshot) {
        if self.frames.receiver_count() > 0 {
            // An error only says that the last stream was just closed.
            self.frames.send(Arc::new(self.frame(entries, snapshot))).ok();
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
        self.tell(&[], &snapshot);
    }

    /// The frame that tells of these entries; lamps and sound are as they are now.
    pub fn frame(&self, entries: &[Arc<Entry>], snapshot: &Snapshot) -> Frame {
        let plan = self.plan.borrow().clone();
        Frame { no: snapshot.no, json: wire::frame(&plan, entries, snapshot) }
    }

    /// Follows the journal until cancelled. A journal that cannot be read is tried again; screens keep what they have.
    pub async fn follow(&self, journal: &Journal, cancel: &CancellationToken) {
        let (mut head, recorded) = (journal.head(), journal.recorded());
        loop {
            // The head is sent for every commit, also when its number was shown before.
            head.borrow_and_update();
            self.settle(*recorded.borrow());
            match journal.read_after(self.snapshot().no, BATCH_MAX).await {
                Ok(entries) if entries.is_empty() => {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        changed = head.changed() => if changed.is_err() { return },
                    }
                }
                Ok(entries) => self.take(&entries),
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
