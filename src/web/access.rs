//! WEB · who came and went, for the duty log. Successes are written one by one; failures are gathered, so that whoever
//! guesses passwords cannot flood the log.

use crate::commands::{Access, Door};
use crate::metrics::Metrics;
use crate::model::{Span, Text, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// An account's failures make at most one line in this time.
pub const FAILURES_EVERY: Span = Span::from_secs(60);

/// Accounts whose failures are gathered at once. All names that are no account share one, so this is the number of
/// accounts and one: a township has a handful. Past it the failures are still counted in the metrics.
const ACCOUNTS_MAX: usize = 64;

/// What stands for a name that is no account: a stranger's words do not enter the duty log.
const NO_ACCOUNT: &str = "—";

/// The gathered failures.
#[derive(Debug, Default)]
pub struct AccessLog(Mutex<HashMap<String, Tally>>);

#[derive(Debug)]
struct Tally {
    /// When its last line was written.
    written_at: Timestamp,
    /// Failures since then.
    waiting: u64,
    /// Where the newest came from.
    address: String,
}

impl AccessLog {
    /// Somebody signed in.
    pub fn came(&self, door: &Door, metrics: &Metrics, account: &str, person: &str, address: &str) {
        let text = Text::new(
            &format!("{person} 登录（账号 {account}，来自 {address}）"),
            &format!("{person} signed in (account {account}, from {address})"),
        );
        tell(door, metrics, account, text);
    }

    /// Somebody signed out.
    pub fn went(&self, door: &Door, metrics: &Metrics, account: &str, person: &str) {
        let text = Text::new(
            &format!("{person} 退出登录（账号 {account}）"),
            &format!("{person} signed out (account {account})"),
        );
        tell(door, metrics, account, text);
    }

    /// A sign-in failed. `account`: `None` when there is none of the name that was given.
    pub fn failed(
        &self,
        door: &Door,
        metrics: &Metrics,
        account: Option<&str>,
        address: &str,
        at: Timestamp,
    ) {
        let account = account.unwrap_or(NO_ACCOUNT);
        let mut tallies = self.lock();
        if let Some(tally) = tallies.get_mut(account) {
            tally.waiting += 1;
            address.clone_into(&mut tally.address);
            return;
        }
        if tallies.len() < ACCOUNTS_MAX {
            let tally = Tally { written_at: at, waiting: 0, address: address.to_owned() };
            tallies.insert(account.to_owned(), tally);
            drop(tallies);
            tell(door, metrics, account, failures(account, 1, address));
        }
    }

    /// Writes the failures that have waited long enough, and forgets accounts without any. To be called every few seconds.
    pub fn settle(&self, door: &Door, metrics: &Metrics, now: Timestamp) {
        let mut due = Vec::new();
        self.lock().retain(|account, tally| {
            let age = now.since(tally.written_at);
            // A clock that was stepped back makes the age negative: then nobody knows, and writing is safe.
            if (Span::ZERO..FAILURES_EVERY).contains(&age) {
                return true;
            }
            if tally.waiting == 0 {
                return false;
            }
            due.push((account.clone(), failures(account, tally.waiting, &tally.address)));
            (tally.waiting, tally.written_at) = (0, now);
            true
        });
        for (account, text) in due {
            tell(door, metrics, &account, text);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Tally>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

fn failures(account: &str, count: u64, address: &str) -> Text {
    let (zh, en) = match account {
        NO_ACCOUNT => ("账号不存在".to_owned(), "no such account".to_owned()),
        known => (format!("账号 {known}"), format!("account {known}")),
    };
    match count {
        1 => Text::new(
            &format!("登录失败（{zh}，来自 {address}）"),
            &format!("a sign-in failed ({en}, from {address})"),
        ),
        _ => Text::new(
            &format!("登录失败 {count} 次（{zh}，最近来自 {address}）"),
            &format!("{count} sign-ins failed ({en}, last from {address})"),
        ),
    }
}

fn tell(door: &Door, metrics: &Metrics, account: &str, text: Text) {
    if let Err(refused) = door.tell(Access { account: account.into(), text }) {
        metrics.web_access_lost.inc();
        tracing::warn!(account, reason = %refused, "a sign-in or sign-out is missing from the duty log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{Request, door};

    #[test]
    fn a_flood_of_failures_is_one_line_a_minute_with_a_count() {
        let (door, mut requests) = door();
        let (log, metrics) = (AccessLog::default(), Metrics::new());
        let mut lines = || {
            let mut texts = Vec::new();
            while let Ok(Request::Access(access)) = requests.try_recv() {
                texts.push(access.text.zh.to_string());
            }
            texts
        };
        let at = |secs: i64| Timestamp::from_secs(1_800_000_000 + secs);
        for second in 0..600 {
            for _ in 0..20 {
                log.failed(&door, &metrics, Some("duty"), "192.0.2.7", at(second));
                log.failed(&door, &metrics, None, "192.0.2.8", at(second));
            }
            log.settle(&door, &metrics, at(second));
        }
        let told = lines();
        assert_eq!(told.len(), 20, "{told:?}");
        assert_eq!(told[0], "登录失败（账号 duty，来自 192.0.2.7）");
        assert!(told.iter().any(|line| line.contains("次（账号 duty，最近来自 192.0.2.7）")), "{told:?}");
        assert!(told.iter().any(|line| line.contains("次（账号不存在，最近来自 192.0.2.8）")), "{told:?}");
        // The rest is told too, and then the accounts are forgotten.
        log.settle(&door, &metrics, at(700));
        assert_eq!(lines().len(), 2);
        log.settle(&door, &metrics, at(800));
        assert!(log.lock().is_empty() && lines().is_empty());
        assert_eq!(metrics.web_access_lost.get(), 0);
    }
}
