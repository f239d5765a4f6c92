//! JOURNAL → WORLD: readings and hazards to InfluxDB 1, 2 and 3 or VictoriaMetrics, by `/write` or `/api/v2/write`.
//!
//! After the journal in the flow, with a cursor for each store. The crate influxdb2 builds the lines (`line.rs`, which
//! also documents the schema); delivery is ours (`delivery.rs`), for that crate has no time-out and loses Retry-After.
//!
//! - The cursor moves only when the server has confirmed. A post that is repeated changes nothing: the same series at
//!   the same millisecond is the same point. (VictoriaMetrics: when it is started with `-dedup.minScrapeInterval=1ms`;
//!   otherwise it counts twice what is sent again after a crash: the cursor is on the disk every half minute.)
//! - After an outage the newest entries go first and history behind them at a bounded rate (`ahead.rs`, `pace.rs`).
//! - The far side's answers size the posts (`pace.rs`).
//! - Only a yes counts. Of a refused post the bad lines are set aside, by what the server says (`refusal.rs`) or by
//!   cutting it in halves; they are counted and kept under [`REFUSED_KIND`], and the rest is posted until it is taken.
//! - Everything else that goes wrong is kept and tried again, with pauses that grow with the outage, or the one the server asks for.
//!
//! # What a yes is worth
//! InfluxDB 1 and 2 refuse points older than the bucket's or policy's retention, and say how many. VictoriaMetrics drops
//! them in silence, as it does points more than two days in the future, and answers 204. So tell the gateway what
//! the store keeps ([`InfluxSettings::retention`], [`InfluxSettings::future_max`]): such points, by the store's own clock,
//! are then not sent but counted, kept and shown.

mod ahead;
mod delivery;
mod line;
mod pace;
mod refusal;
mod settings;

pub use pace::BATCH_LINES_MIN;
pub use settings::{
    BACKFILL_LINES_PER_SECOND_DEFAULT, BATCH_LINES_DEFAULT, CURSOR, InfluxSettings, REFUSED_KEPT,
    REFUSED_KIND, TIMEOUT_DEFAULT, Way,
};

use super::{Progress, Worker, of_journal};
use crate::clock::Clock;
use crate::journal::Journal;
use crate::metrics::{Metrics, Sink};
use crate::model::{Plan, Span, Text, Timestamp};
use ahead::{Ahead, Next, Stretch};
use delivery::{Delivery, Verdict};
use line::Line;
use pace::{Sizing, Throttle};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Entries read at once, so that large ones are not read in vain.
const ENTRIES_AT_ONCE: usize = 64;

/// Entries of one batch, however few lines they make: an hour of a quiet site at one a second.
const ENTRIES_MAX: usize = 4096;

/// The pause after a failure: a tenth of the outage so far within these limits, and between half and the whole of that.
/// Doubled pauses once left a store that was away for 30 s unused for 20 more.
const PAUSE_PARTS: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// So many lines of a batch refused one by one and none accepted: then it is not the lines. Wait, before more is
/// given up.
const REFUSED_ALONE_MAX: usize = 20;

/// Of lines that are refused together for one reason, so many are kept word for word; the last says how many there were.
const KEPT_OF_ONE_REFUSAL: usize = 3;

/// The longest text kept of a refused line and of its reason.
const REFUSED_TEXT_MAX: usize = 1000;

/// How often the gateway's own figures are sent.
const FIGURES_EVERY: Duration = Duration::from_secs(60);

/// How often the store is asked for its time, where that matters: clocks drift by a second a day.
const THEIR_CLOCK_EVERY: Duration = Duration::from_secs(3600);

/// So far apart from ours, the log says so.
const CLOCKS_APART: Span = Span::from_secs(3600);

/// How long the health page says that points were given up. The list of them stays.
const NOTICE_FOR: Duration = Duration::from_secs(86_400);

/// The worker.
pub struct Influx {
    settings: InfluxSettings,
    delivery: Delivery,
    sizing: Sizing,
    throttle: Throttle,
    journal: Journal,
    recorded: watch::Receiver<u64>,
    plan: watch::Receiver<Arc<Plan>>,
    clock: Clock,
    metrics: Metrics,
    sink: Sink,
    /// `None`: the cursor was not yet read.
    ahead: Option<Ahead>,
    batch: Option<Batch>,
    /// History waits only for its rate.
    throttled: bool,
    /// The last batch was of live entries: if history may go, it is its turn.
    live_last: bool,
    figures_due: Instant,
    /// The store's time, if it says it, and when it was asked.
    their_clock: Option<(Option<Timestamp>, Instant)>,
    /// When it began to fail.
    failing_since: Option<Instant>,
    /// The number of the next refused line; `None`: not yet read from the journal.
    refused_next: Option<u64>,
    /// Lines given up since the start.
    refused: u64,
    notice: Option<(Instant, Text)>,
}

/// What was read of a stretch; an empty one when there was nothing.
struct Taken {
    stretch: Stretch,
    entries: usize,
    lines: Vec<Line>,
}

/// Entries on their way. What of them is confirmed is no longer in `posts`.
#[derive(Default)]
struct Batch {
    stretch: Option<Stretch>,
    history: bool,
    entries: usize,
    posts: VecDeque<Vec<Line>>,
    accepted: usize,
    refused: usize,
    /// The next post is a single line that was refused once. It may have been hurt on its way: it is asked again.
    doubted: bool,
}

impl Batch {
    /// The newest entry in it, for a person.
    fn through(&self) -> u64 {
        self.stretch.map_or(0, |stretch| stretch.through)
    }
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
        let recorded = journal.settled();
        Ok(Self {
            delivery: Delivery::new(&settings)?,
            sizing: Sizing::new(settings.batch_lines_max),
            throttle: Throttle::new(settings.backfill_lines_per_second),
            sink: Sink::named(&settings.name),
            settings,
            journal,
            recorded,
            plan,
            clock,
            metrics,
            ahead: None,
            batch: None,
            throttled: false,
            live_last: false,
            figures_due: Instant::now(),
            their_clock: None,
            failing_since: None,
            refused_next: None,
            refused: 0,
            notice: None,
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
        if let Err(trouble) = self.post_all(&mut batch).await {
            self.batch = Some(batch);
            return Err(trouble);
        }
        if let (Some(stretch), Some(ahead)) = (batch.stretch, &mut self.ahead) {
            let before = ahead.cursor();
            ahead.confirm(stretch);
            let cursor = ahead.cursor();
            if cursor > before {
                // In force at once: it fails only when the gateway stops.
                let moved = self.journal.move_cursor(&self.settings.cursor, cursor).await;
                moved.map_err(|error| Trouble::journal(&error))?;
            }
            self.show_lag(cursor);
        }
        self.failing_since = None;
        Ok(Progress::Delivered { entries: batch.entries, lines: batch.accepted })
    }

    /// Takes entries from the journal until there are lines enough for one post.
    async fn next_batch(&mut self) -> Result<Option<Batch>, Trouble> {
        self.recorded.mark_unchanged();
        let (head, now) = (*self.recorded.borrow(), Instant::now());
        let mut ahead = match self.ahead.take() {
            Some(ahead) => ahead,
            None => {
                let cursor = self.journal.cursor(&self.settings.cursor).await;
                Ahead::new(cursor.map_err(|error| Trouble::journal(&error))?)
            }
        };
        self.show_lag(ahead.cursor());
        let free = self.throttle.free_at(now).is_none();
        let next = ahead.next(head, self.live_last && free);
        let history = matches!(next, Next::History(_));
        (self.throttled, self.live_last) = (history && !free, !history);
        let size = self.sizing.lines();
        let taken = match next {
            Next::Live { after } => {
                let taken = self.take(Stretch { after, through: head }, size).await?;
                match ahead.split(taken.stretch.through, head).then(|| ahead.next(head, false)) {
                    Some(Next::Live { after }) => {
                        Some(self.take(Stretch { after, through: head }, size).await?)
                    }
                    _ => Some(taken),
                }
            }
            Next::History(left) if free => Some(self.take(left, size.min(self.throttle.at_once())).await?),
            Next::History(_) | Next::Nothing => None,
        };
        self.ahead = Some(ahead);
        let mut batch = Batch { history, ..Batch::default() };
        let mut lines: Vec<Line> = self.figures(now).into_iter().collect();
        if let Some(taken) = taken {
            lines.extend(taken.lines);
            let some = taken.stretch.through > taken.stretch.after;
            (batch.stretch, batch.entries) = (some.then_some(taken.stretch), taken.entries);
        }
        if batch.stretch.is_none() && lines.is_empty() {
            return Ok(None);
        }
        let lines = self.hold_back(lines, batch.through()).await?;
        batch.posts.extend((!lines.is_empty()).then_some(lines));
        Ok(Some(batch))
    }

    /// Reads entries of a stretch until there are lines enough.
    async fn take(&self, left: Stretch, lines_max: usize) -> Result<Taken, Trouble> {
        let plan = self.plan.borrow().clone();
        let (mut through, mut taken, mut lines) = (left.after, 0, Vec::new());
        while taken < ENTRIES_MAX && lines.len() < lines_max && through < left.through {
            let read = self.journal.read_settled_after(through, ENTRIES_AT_ONCE).await;
            let mut entries = read.map_err(|error| Trouble::journal(&error))?;
            let Some(last) = entries.last() else { break };
            // Beyond the end: between there and here nothing is held any more.
            let ended = last.no > left.through;
            entries.retain(|entry| entry.no <= left.through);
            let mut all = true;
            for entry in &entries {
                all = lines.len() < lines_max;
                if !all {
                    break;
                }
                lines.extend(line::lines(entry, &plan));
                (through, taken) = (entry.no, taken + 1);
            }
            if all && ended {
                through = through.max(left.through);
            }
        }
        Ok(Taken { stretch: Stretch { through, ..left }, entries: taken, lines })
    }

    /// The gateway's own line, once a minute, when its time can be believed.
    fn figures(&mut self, now: Instant) -> Option<Line> {
        let name = self.settings.gateway.as_deref()?;
        if now < self.figures_due || !self.clock.is_set() {
            return None;
        }
        self.figures_due = now + FIGURES_EVERY;
        line::gateway_line(name, &self.metrics, &self.sink, self.clock.now())
    }

    /// The store's time: what it drops, it drops by its own clock, and ours may be wrong by years. Ours, where it does not
    /// say.
    async fn their_now(&mut self) -> Result<Timestamp, Trouble> {
        let known = self.their_clock.filter(|(_, asked)| asked.elapsed() < THEIR_CLOCK_EVERY);
        let (theirs, asked) = match known {
            Some(known) => known,
            None => {
                let theirs = self.delivery.their_time().await;
                let theirs = theirs.map_err(|reason| Trouble { reason, after: None })?;
                let apart = theirs.map_or(Span::ZERO, |theirs| theirs.since(self.clock.now()));
                if apart.abs() > CLOCKS_APART {
                    let sink = &self.settings.name;
                    tracing::warn!(sink, %apart, "the store's clock is ahead of ours by this: one of them is wrong");
                }
                *self.their_clock.insert((theirs, Instant::now()))
            }
        };
        let passed = i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX);
        Ok(theirs.map_or_else(|| self.clock.now(), |theirs| theirs + Span::from_millis(passed)))
    }

    /// Sets aside what the store would drop in silence.
    async fn hold_back(&mut self, lines: Vec<Line>, entry: u64) -> Result<Vec<Line>, Trouble> {
        if !self.clock.is_set() {
            return Ok(lines);
        }
        if self.settings.retention.is_none() && self.settings.future_max.is_none() {
            return Ok(lines);
        }
        let now = self.their_now().await?;
        let oldest = self.settings.retention.map_or(Timestamp::from_millis(i64::MIN), |span| now - span);
        let newest = self.settings.future_max.map_or(Timestamp::from_millis(i64::MAX), |span| now + span);
        let (old, lines): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|line| line.at < oldest);
        let (new, lines): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|line| line.at > newest);
        let span = |span: Option<Span>| span.unwrap_or_default();
        if !old.is_empty() {
            let keeps = span(self.settings.retention);
            let reason = Text::new(
                &format!("早于数据库的保留期 {keeps}，未发送"),
                &format!("older than the store keeps, {keeps}: not sent"),
            );
            self.keep_refused(&old, &reason, entry).await?;
        }
        if !new.is_empty() {
            let ahead = span(self.settings.future_max);
            let reason = Text::new(
                &format!("时间超前 {ahead} 以上，未发送"),
                &format!("more than {ahead} in the future: not sent"),
            );
            self.keep_refused(&new, &reason, entry).await?;
        }
        Ok(lines)
    }

    async fn post_all(&mut self, batch: &mut Batch) -> Result<(), Trouble> {
        while let Some(mut post) = batch.posts.pop_front() {
            if post.len() > self.sizing.lines() {
                batch.posts.push_front(post.split_off(self.sizing.lines()));
            }
            let begun = Instant::now();
            match self.delivery.post(&post).await {
                Verdict::Accepted => {
                    self.sizing.accepted(post.len(), begun.elapsed());
                    if batch.history {
                        self.throttle.spend(post.len(), begun);
                    }
                    batch.accepted += post.len();
                    batch.doubted = false;
                    let lines = post.len() as u64;
                    self.metrics.influx_points.inc_by(lines);
                    self.metrics.sink_lines.get_or_create(&self.sink).inc_by(lines);
                }
                Verdict::Later { reason, after, busy } => {
                    batch.posts.push_front(post);
                    self.metrics.influx_retries.inc();
                    if busy {
                        self.sizing.halve();
                    }
                    return Err(Trouble { reason, after });
                }
                Verdict::TooLarge(reason) => {
                    self.sizing.too_large(post.len());
                    self.divide(batch, post, &reason).await?;
                }
                Verdict::Refused(reason) => match refusal::refused(&reason, &post) {
                    Some(marks) => {
                        let mut marks = marks.into_iter();
                        let (bad, good): (Vec<Line>, _) =
                            post.into_iter().partition(|_| marks.next() == Some(true));
                        let good: Vec<Line> = good;
                        if !good.is_empty() {
                            batch.posts.push_front(good);
                        }
                        let reason = Text::new(&reason, &reason);
                        if let Err(trouble) = self.keep_refused(&bad, &reason, batch.through()).await {
                            batch.posts.push_front(bad);
                            return Err(trouble);
                        }
                    }
                    None if post.len() == 1 && !batch.doubted => {
                        batch.doubted = true;
                        batch.posts.push_front(post);
                    }
                    None => {
                        batch.doubted = false;
                        self.divide(batch, post, &reason).await?;
                    }
                },
            }
        }
        Ok(())
    }

    /// Cuts a post in halves; gives a line up that is refused alone.
    async fn divide(&mut self, batch: &mut Batch, mut post: Vec<Line>, reason: &str) -> Result<(), Trouble> {
        if batch.accepted == 0 && batch.refused >= REFUSED_ALONE_MAX {
            batch.refused = 0;
            batch.posts.push_front(post);
            let reason = Text::new(
                &format!("服务器拒收每一行，问题不在数据本身：{reason}"),
                &format!("the server refuses every line, so it is not the lines: {reason}"),
            );
            return Err(Trouble { reason, after: Some(PAUSE_MAX) });
        }
        if post.len() > 1 {
            let right = post.split_off(post.len() / 2);
            batch.posts.push_front(right);
            batch.posts.push_front(post);
            return Ok(());
        }
        let kept = self.keep_refused(&post, &Text::new(reason, reason), batch.through()).await;
        if kept.is_err() {
            batch.posts.push_front(post);
        } else {
            batch.refused += 1;
        }
        kept
    }

    /// Counts refused lines and writes the first of them where a person can see them, before they are given up.
    async fn keep_refused(&mut self, lines: &[Line], reason: &Text, entry: u64) -> Result<(), Trouble> {
        let mut number = match self.refused_next {
            Some(number) => number,
            None => self.refused_kept().await?,
        };
        let at = self.clock.now();
        let listed = lines.len().min(KEPT_OF_ONE_REFUSAL);
        for (index, line) in lines.iter().take(listed).enumerate() {
            let json = serde_json::json!({
                "sink": self.settings.name,
                "number": number,
                "at": at.to_string(),
                "entry_at_most": entry,
                "line": cut(line.text.trim_end()),
                "reason": cut(&reason.zh),
                "reason_en": cut(&reason.en),
                "alike": if index + 1 == listed { lines.len() - listed } else { 0 },
            });
            let key = format!("{}:{}", self.settings.name, number % REFUSED_KEPT);
            let kept = self.journal.put_document(REFUSED_KIND, &key, Some(&json.to_string()), at).await;
            kept.map_err(|error| Trouble::journal(&error))?;
            number += 1;
            self.refused_next = Some(number);
        }
        let count = lines.len() as u64;
        self.metrics.influx_refused.inc_by(count);
        self.refused += count;
        let refused = self.refused;
        let notice = Text::new(
            &format!("有 {refused} 个数据点未被数据库保存（网关的曲线里仍有）：{}", cut(&reason.zh)),
            &format!(
                "{refused} points were not stored there, the gateway's own charts have them: {}",
                cut(&reason.en)
            ),
        );
        self.notice = Some((Instant::now() + NOTICE_FOR, notice));
        let line = lines.first().map_or("", |line| cut(line.text.trim_end()));
        let reason = cut(&reason.en);
        tracing::warn!(sink = %self.settings.name, count, line, reason, "Lines were not stored by the time-series server.");
        Ok(())
    }

    /// The number after the newest refused line of this store in the journal.
    async fn refused_kept(&self) -> Result<u64, Trouble> {
        let kept = self.journal.documents(REFUSED_KIND).await.map_err(|error| Trouble::journal(&error))?;
        let number = |json: &str| {
            let document: serde_json::Value = serde_json::from_str(json).ok()?;
            (document["sink"] == *self.settings.name).then(|| document["number"].as_u64())?
        };
        Ok(kept.iter().filter_map(|(_, json)| number(json)).max().map_or(0, |number| number + 1))
    }

    fn show_lag(&self, cursor: u64) {
        let lag = i64::try_from(self.recorded.borrow().saturating_sub(cursor)).unwrap_or(i64::MAX);
        self.metrics.sink_lag.get_or_create(&self.sink).set(lag);
    }
}

impl Worker for Influx {
    async fn step(&mut self) -> Progress {
        let result = self.deliver().await;
        self.metrics.sink_failing.get_or_create(&self.sink).set(result.is_err().into());
        match result {
            Ok(progress) => progress,
            Err(Trouble { reason, after }) => {
                let outage = self.failing_since.get_or_insert_with(Instant::now).elapsed();
                let wait = after.unwrap_or_else(|| pause(outage).mul_f64(0.5 + fastrand::f64() / 2.0));
                let sink = &self.settings.name;
                tracing::warn!(%sink, wait_ms = wait.as_millis(), reason = %reason.en, "The time-series server is not reached.");
                Progress::BackOff { wait, reason }
            }
        }
    }

    async fn woken(&mut self) {
        let now = Instant::now();
        let history = self.throttled.then(|| self.throttle.free_at(now).unwrap_or(now));
        let figures = self.settings.gateway.as_ref().map(|_| self.figures_due.max(now));
        let due = history.into_iter().chain(figures).min();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.recorded.changed() => {
                // Closed: the journal is gone and the gateway stops.
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            () = timer => {}
        }
    }

    fn notice(&self) -> Option<Text> {
        let (until, text) = self.notice.as_ref()?;
        (Instant::now() < *until).then(|| text.clone())
    }
}

struct Trouble {
    reason: Text,
    after: Option<Duration>,
}

impl Trouble {
    fn journal(error: &dyn std::fmt::Display) -> Self {
        Self { reason: of_journal(error), after: None }
    }
}

/// How long to wait after an outage of so long.
fn pause(outage: Duration) -> Duration {
    (outage / PAUSE_PARTS).clamp(PAUSE_MIN, PAUSE_MAX)
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(REFUSED_TEXT_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_prolongs_an_outage_by_a_tenth_or_a_second_and_never_by_more_than_a_minute() {
        for (outage, expected) in [(0, 1.0), (5, 1.0), (30, 3.0), (300, 30.0), (600, 60.0), (86_400, 60.0)] {
            assert_eq!(pause(Duration::from_secs(outage)).as_secs_f64(), expected, "{outage}");
        }
    }
}
