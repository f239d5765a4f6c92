//! How old something is: ages count the time that was seen to pass.
//!
//! When the clock jumps ahead by more than a day, the box was off, or its clock is wrong, or was. Nobody can tell which,
//! and what is deleted for its age does not come back. So what the clock jumped over makes nothing older: something is a
//! week old when the gateway was at work for a week since. A box that was off for two months keeps everything two months
//! longer; one that starts twenty years ahead, as often as it likes, deletes nothing for it.
//!
//! The stretches are rows of `meta`, `unseen <from>` → to, written with the first commit behind the jump; there is one a
//! year on most boxes. They also make the entries that were dated anew (see restamp.rs) as old as they are.

use crate::model::{Span, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;
use tokio::time::Instant;

/// Less may be a box that was off overnight, and nothing is lost by a day.
const JUMP_MIN: Span = Span::from_secs(86_400);
/// Stretches that are kept: two a week for ten years. Beyond, the oldest are forgotten.
const STRETCHES_MAX: usize = 1000;
/// When the clock was last put back by more than a day: what is dated after now was written before that.
const PUT_BACK: &str = "put_back";

/// The time that was seen to pass.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// What was jumped over, as from and to, in order; they do not overlap.
    unseen: Vec<(Timestamp, Timestamp)>,
    put_back: Timestamp,
    /// The newest commit's time, and when that was by the clock that never jumps, if it was in this run.
    last: Option<(Timestamp, Option<Instant>)>,
}

impl Seen {
    /// As the database has it.
    pub(crate) fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let mut unseen: Vec<(Timestamp, Timestamp)> = {
            let question = "SELECT key, value FROM meta WHERE key GLOB 'unseen *'";
            let mut statement = conn.prepare_cached(question)?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            let stretch = |(key, to): (String, i64)| {
                let from = key.strip_prefix("unseen ")?.parse().ok()?;
                Some((Timestamp::from_millis(from), Timestamp::from_millis(to)))
            };
            rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().filter_map(stretch).collect()
        };
        unseen.sort_unstable();
        let put_back = conn
            .query_row("SELECT value FROM meta WHERE key = ?", [PUT_BACK], |row| row.get(0))
            .optional()?
            .map_or(Timestamp::EPOCH, Timestamp::from_millis);
        let last = conn
            .query_row("SELECT at FROM entry ORDER BY no DESC LIMIT 1", [], |row| row.get(0))
            .optional()?
            .map(|at| (Timestamp::from_millis(at), None));
        Ok(Self { unseen, put_back, last })
    }

    /// A commit at that time, in its transaction. Days between two commits of one run are no jump where they passed: a
    /// site with one detector hears of it once a day.
    pub(super) fn pass(&mut self, conn: &Connection, at: Timestamp, now: Instant) -> rusqlite::Result<()> {
        let Some((last, then)) = self.last.replace((at, Some(now))) else { return Ok(()) };
        let passed = then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let passed = Span::from_millis(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX));
        let expected = last + passed;
        if at.since(expected).abs() <= JUMP_MIN {
            return Ok(());
        }
        if at > expected {
            self.unseen.push((expected, at));
            let surplus = self.unseen.len().saturating_sub(STRETCHES_MAX);
            self.unseen.drain(..surplus);
        } else {
            // It was wrong until now: nothing beyond was ever jumped over.
            self.unseen.retain_mut(|(from, to)| {
                *to = at.min(*to);
                *from < *to
            });
            self.put_back = at;
        }
        conn.execute("DELETE FROM meta WHERE key GLOB 'unseen *' OR key = ?", [PUT_BACK])?;
        let mut insert = conn.prepare_cached("INSERT INTO meta VALUES (?, ?)")?;
        for (from, to) in &self.unseen {
            insert.execute(params![format!("unseen {}", from.as_millis()), to.as_millis()])?;
        }
        insert.execute(params![PUT_BACK, self.put_back.as_millis()])?;
        Ok(())
    }

    /// The time since which so much of it was seen.
    pub(crate) fn ago(&self, now: Timestamp, span: Span) -> Timestamp {
        let mut then = now - span;
        for (from, to) in self.unseen.iter().rev() {
            if *to <= then {
                break;
            }
            then = then - to.since(*from);
        }
        then
    }

    /// Whether all that is dated in the future was written so long ago.
    pub(super) fn future_is_past(&self, now: Timestamp, span: Span) -> bool {
        self.ago(now, span) >= self.put_back
    }
}

/// Brings them from a damaged database into a fresh one, as far as they can be read.
pub(super) fn save(source: &Connection, target: &Connection) -> rusqlite::Result<()> {
    let Ok(seen) = Seen::read(source) else { return Ok(()) };
    let mut insert = target.prepare("INSERT OR REPLACE INTO meta VALUES (?, ?)")?;
    for (from, to) in &seen.unseen {
        insert.execute(params![format!("unseen {}", from.as_millis()), to.as_millis()])?;
    }
    insert.execute(params![PUT_BACK, seen.put_back.as_millis()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + day * DAY)
    }

    /// Commits on these days, each twice, in a file of its own; read again at the end.
    fn committed(days: &[i64]) -> Seen {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
             CREATE TABLE entry (no INTEGER PRIMARY KEY, at INTEGER NOT NULL)",
        )
        .unwrap();
        let mut seen = Seen::read(&conn).unwrap();
        for &at in days {
            for _twice in 0..2 {
                seen.pass(&conn, day(at), Instant::now()).unwrap();
                conn.execute("INSERT INTO entry (at) VALUES (?)", [day(at).as_millis()]).unwrap();
            }
            let again = Seen::read(&conn).unwrap();
            assert_eq!((&again.unseen, again.put_back), (&seen.unseen, seen.put_back));
            assert_eq!(again.last.map(|(at, _)| at), Some(day(at)));
        }
        seen
    }

    #[test]
    fn days_without_a_commit_are_seen_where_they_passed() {
        let mut seen = committed(&[0]);
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER)").unwrap();
        let begun = seen.last.unwrap().1.unwrap();
        let after = |days: u64| begun + Duration::from_secs(days * DAY.cast_unsigned());
        seen.pass(&conn, day(3), after(3)).unwrap();
        assert_eq!(seen.unseen, []);
        // Of nine days two passed.
        seen.pass(&conn, day(12), after(5)).unwrap();
        assert_eq!(seen.unseen, [(day(5), day(12))]);
        // Of the next four none is on the clock: it was put back by as much.
        seen.pass(&conn, day(12), after(9)).unwrap();
        assert_eq!((seen.unseen.as_slice(), seen.put_back), ([(day(5), day(12))].as_slice(), day(12)));
    }

    #[test]
    fn what_was_jumped_over_makes_nothing_older() {
        let days = |from: i64, to: i64| (from..=to).collect::<Vec<_>>();
        let ago =
            |seen: &Seen, now: i64, span: i64| seen.ago(day(now), Span::from_secs(span * DAY)).since(day(0));
        let days_of = |span: Span| span.as_millis() / (DAY * 1000);
        // Ten days at work, two months off, three days at work.
        let seen = committed(&[days(0, 10), days(70, 73)].concat());
        for (span, expected) in [(1, 72), (3, 70), (4, 9), (10, 3), (13, 0)] {
            assert_eq!(days_of(ago(&seen, 73, span)), expected, "{span} days of work ago");
        }
        // A wrong future of two days, from which it was put back.
        let seen = committed(&[days(0, 10), days(7000, 7002), days(13, 20)].concat());
        assert_eq!(seen.unseen, [(day(10), day(13))]);
        assert_eq!(days_of(ago(&seen, 20, 7)), 13);
        assert_eq!(days_of(ago(&seen, 20, 9)), 8);
        assert!(seen.future_is_past(day(20), Span::from_secs(7 * DAY)));
        assert!(!seen.future_is_past(day(20), Span::from_secs(8 * DAY)));
        // While it lasts.
        let seen = committed(&[days(0, 10), days(7000, 7002)].concat());
        assert_eq!(days_of(ago(&seen, 7002, 5)), 7);
        // Back and forth: what was before is as old as what was seen since.
        let seen = committed(&[days(100, 103), days(0, 1), days(104, 105)].concat());
        assert_eq!(days_of(ago(&seen, 105, 1)), 104);
        assert!(ago(&seen, 105, 7) < Span::ZERO);
    }
}
