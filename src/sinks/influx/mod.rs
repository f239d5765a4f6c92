//! JOURNAL → WORLD: readings and hazards to InfluxDB 2 and 3 or VictoriaMetrics, by `/api/v2/write`.
//!
//! After the journal in the flow, with the cursor `influx`. The crate influxdb2 builds the lines (`line.rs`, which also
//! documents the schema); delivery is ours (`delivery.rs`), for that crate has no time-out and loses Retry-After.
//!
//! - The cursor moves only when the server has confirmed. A post that is repeated changes nothing: the same series at
//!   the same millisecond is the same point.
//! - A refused post is halved until the bad line is alone; that line is counted and kept under `influx-refused`, the
//!   rest is delivered.
//! - Everything else that goes wrong is kept and tried again, with growing pauses or the one the server asks for.
//!
//! A server's 204 does not prove that every point was kept: VictoriaMetrics drops in silence what is older than its
//! retention.

mod delivery;
mod line;

use super::{Progress, Worker};
use crate::clock::Clock;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::model::Plan;
use delivery::{Delivery, Verdict};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The cursor's name in the journal.
pub const CURSOR: &str = "influx";

/// The kind of the journal's documents that keep refused lines.
pub const REFUSED_KIND: &str = "influx-refused";

/// Refused lines kept for a person to see; the oldest is overwritten. 100 × about 400 bytes = 40 kB.
pub const REFUSED_KEPT: u64 = 100;

/// Lines a post: 5000 × about 150 bytes = 0.75 MB, 0.1 MB packed. InfluxData advises 5000.
pub const BATCH_LINES_DEFAULT: usize = 5000;

/// The longest wait for the server's answer.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Entries read at once. At one a second this is four minutes of journal.
const ENTRIES_MAX: usize = 256;

/// The pauses after a failure: 1 s, doubled up to 60 s, each between half and the whole of it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// So many lines of a batch refused and none accepted: then it is not the lines. Wait, before more is given up.
const REFUSED_ALONE_MAX: usize = 20;

/// The longest text kept of a refused line and of its reason.
const REFUSED_TEXT_MAX: usize = 1000;

/// Where to write.
#[derive(Clone, PartialEq, Eq)]
pub struct InfluxSettings {
    /// The store's cursor in the journal: [`CURSOR`], or another for each further store.
    pub cursor: String,
    /// `http://127.0.0.1:8086`, without a path unless a proxy needs one.
    pub url: String,
    /// The organisation; VictoriaMetrics ignores it.
    pub org: String,
    /// The bucket; VictoriaMetrics ignores it.
    pub bucket: String,
    /// The token. A secret: never shown.
    pub token: Option<String>,
    /// Lines a post: [`BATCH_LINES_DEFAULT`].
    pub batch_lines_max: usize,
    /// The longest wait for an answer: [`TIMEOUT_DEFAULT`].
    pub timeout: Duration,
    /// Pack the posts.
    pub gzip: bool,
}

impl std::fmt::Debug for InfluxSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, org, bucket, .. } = self;
        write!(f, "InfluxSettings {{ url: {url:?}, org: {org:?}, bucket: {bucket:?}, .. }}")
    }
}

/// The worker.
pub struct Influx {
    delivery: Delivery,
    batch_lines_max: usize,
    journal: Journal,
    recorded: watch::Receiver<u64>,
    plan: watch::Receiver<Arc<Plan>>,
    clock: Clock,
    metrics: Metrics,
    cursor_name: String,
    cursor: Option<u64>,
    batch: Option<Batch>,
    pause: Duration,
    /// The number of the next refused line; `None`: not yet read from the journal.
    refused_next: Option<u64>,
}

/// Entries on their way. What of them is confirmed is no longer in `posts`.
struct Batch {
    /// The last entry's number.
    through: u64,
    entries: usize,
    posts: VecDeque<Vec<String>>,
    accepted: usize,
    refused: usize,
}

impl Influx {
    /// Fails only when the HTTP client cannot be built.
    pub fn new(
        settings: InfluxSettings,
        journal: Journal,
        plan: watch::Receiver<Arc<Plan>>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, reqwest::Error> {
        let recorded = journal.recorded();
        Ok(Self {
            delivery: Delivery::new(&settings)?,
            batch_lines_max: settings.batch_lines_max.max(1),
            journal,
            recorded,
            plan,
            clock,
            metrics,
            cursor_name: settings.cursor,
            cursor: None,
            batch: None,
            pause: PAUSE_MIN,
            refused_next: None,
        })
    }

    async fn deliver(&mut self) -> Result<Progress, Trouble> {
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => match self.next_batch().await? {
                Some(batch) => batch,
                None => return Ok(Progress::Idle),
            },
        };
        let posted = self.post_all(&mut batch).await;
        if let Err(trouble) = posted {
            self.batch = Some(batch);
            return Err(trouble);
        }
        if let Err(error) = self.journal.move_cursor(&self.cursor_name, batch.through).await {
            self.batch = Some(batch);
            return Err(Trouble::journal(&error));
        }
        self.cursor = Some(batch.through);
        self.pause = PAUSE_MIN;
        self.show_lag(batch.through);
        Ok(Progress::Delivered { entries: batch.entries, lines: batch.accepted })
    }

    /// Takes entries from the journal until there are lines enough for one post.
    async fn next_batch(&mut self) -> Result<Option<Batch>, Trouble> {
        let mut through = match self.cursor {
            Some(cursor) => cursor,
            None => self.journal.cursor(&self.cursor_name).await.map_err(|error| Trouble::journal(&error))?,
        };
        self.cursor = Some(through);
        self.recorded.mark_unchanged();
        self.show_lag(through);
        let entries = self.journal.read_recorded_after(through, ENTRIES_MAX).await;
        let entries = entries.map_err(|error| Trouble::journal(&error))?;
        let plan = self.plan.borrow().clone();
        let (mut lines, mut taken) = (Vec::new(), 0);
        for entry in &entries {
            if lines.len() >= self.batch_lines_max {
                break;
            }
            lines.extend(line::lines(entry, &plan));
            (through, taken) = (entry.no, taken + 1);
        }
        // One entry may hold more than one post carries.
        let posts = lines.chunks(self.batch_lines_max).map(<[String]>::to_vec).collect();
        Ok((taken > 0).then_some(Batch { through, entries: taken, posts, accepted: 0, refused: 0 }))
    }

    async fn post_all(&mut self, batch: &mut Batch) -> Result<(), Trouble> {
        while let Some(post) = batch.posts.front() {
            match self.delivery.post(post, &self.metrics).await {
                Verdict::Accepted => {
                    self.metrics.influx_points.inc_by(post.len() as u64);
                    batch.accepted += post.len();
                    batch.posts.pop_front();
                }
                Verdict::Refused(reason) => {
                    if batch.accepted == 0 && batch.refused >= REFUSED_ALONE_MAX {
                        batch.refused = 0;
                        let reason =
                            format!("the server refuses every line, so it is not the lines: {reason}");
                        return Err(Trouble { reason, after: Some(PAUSE_MAX) });
                    }
                    if let [line] = &post[..] {
                        self.keep_refused(line, &reason, batch.through).await?;
                        batch.refused += 1;
                        batch.posts.pop_front();
                    } else {
                        let (left, right) = post.split_at(post.len() / 2);
                        let (left, right) = (left.to_vec(), right.to_vec());
                        batch.posts.pop_front();
                        batch.posts.push_front(right);
                        batch.posts.push_front(left);
                    }
                }
                Verdict::Later { reason, after } => return Err(Trouble { reason, after }),
            }
        }
        Ok(())
    }

    /// Counts a refused line and writes it where a person can see it, before it is given up.
    async fn keep_refused(&mut self, line: &str, reason: &str, entry: u64) -> Result<(), Trouble> {
        let number = match self.refused_next {
            Some(number) => number,
            None => {
                let kept = self.journal.documents(REFUSED_KIND).await;
                let kept = kept.map_err(|error| Trouble::journal(&error))?;
                let number =
                    |json: &str| serde_json::from_str::<serde_json::Value>(json).ok()?["number"].as_u64();
                kept.iter().filter_map(|(_, json)| number(json)).max().map_or(0, |number| number + 1)
            }
        };
        let at = self.clock.now();
        let json = serde_json::json!({
            "number": number,
            "at": at.to_string(),
            "entry_at_most": entry,
            "line": cut(line.trim_end()),
            "reason": cut(reason),
        });
        let key = (number % REFUSED_KEPT).to_string();
        let kept = self.journal.put_document(REFUSED_KIND, &key, Some(&json.to_string()), at).await;
        kept.map_err(|error| Trouble::journal(&error))?;
        self.refused_next = Some(number + 1);
        self.metrics.influx_refused.inc();
        tracing::warn!(
            line = cut(line.trim_end()),
            reason = cut(reason),
            "The time-series server refused a line."
        );
        Ok(())
    }

    fn show_lag(&self, cursor: u64) {
        let lag = self.recorded.borrow().saturating_sub(cursor);
        self.metrics.influx_lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    }
}

impl Worker for Influx {
    async fn step(&mut self) -> Progress {
        match self.deliver().await {
            Ok(progress) => progress,
            Err(Trouble { reason, after }) => {
                let wait = after.unwrap_or_else(|| self.pause.mul_f64(0.5 + fastrand::f64() / 2.0));
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                tracing::warn!(wait_ms = wait.as_millis(), reason, "The time-series server is not reached.");
                Progress::BackOff { wait, reason }
            }
        }
    }

    async fn woken(&mut self) {
        // Closed: the journal is gone and the gateway stops.
        if self.recorded.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Trouble {
    reason: String,
    after: Option<Duration>,
}

impl Trouble {
    fn journal(error: &dyn std::fmt::Display) -> Self {
        Self { reason: format!("the journal: {error}"), after: None }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(REFUSED_TEXT_MAX)]
}
