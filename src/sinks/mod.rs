//! JOURNAL → WORLD: each sink reads from its own cursor and moves it when the far side has confirmed.
//!
//! After the journal in the flow. A sink takes no data from a channel: it is told that there are new entries, and reads
//! them. So its start, its catching up after an outage and its normal running are the same code, and back-pressure is
//! a cursor that lags.
//!
//! # A new sink
//! 1. One file here with a struct that implements [`Worker`]. [`folder`] is the shorter example. `step()` reads
//!    [`Journal::read_settled_after`] from its cursor, gives the entries to the far side, waits for its confirmation, and
//!    only then calls [`Journal::move_cursor`]. What cannot be delivered now is [`Progress::BackOff`] with words for a
//!    person in both languages; what never can be is counted and kept where a person sees it, before it is given up. A step
//!    that is repeated must do no harm: after a crash the newest entries come once more.
//! 2. Everything that may wait on a disk goes through `spawn_blocking`, everything on a network has a time-out, every
//!    buffer a limit.
//! 3. Its settings in `config::gateway`, read in `config/sinks_file.rs`.
//! 4. In `app`: the cursor's name among the followers (a cursor that is not named there is forgotten at start), and
//!    `start_sink`. The health page then shows it by itself; `metrics.sink_lag`, `sink_lines` and `sink_failing` carry
//!    its name.
//! 5. A test with the real far side, down and up again, that counts what arrived.
//!
//! [`Journal::read_settled_after`]: crate::journal::Journal::read_settled_after
//! [`Journal::move_cursor`]: crate::journal::Journal::move_cursor

pub mod influx;
pub mod folder;
mod ndjson;

use crate::model::Text;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What one step of a worker came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The far side has confirmed this much, and the cursor stands behind it.
    Delivered {
        /// Journal entries.
        entries: usize,
        /// What the far side counts: lines, messages.
        lines: usize,
    },
    /// Nothing is waiting.
    Idle,
    /// The far side cannot or does not want to take it now. Everything is kept.
    BackOff {
        /// How long to leave it in peace.
        wait: Duration,
        /// Why and, where a person can do something, what. The log has the English.
        reason: Text,
    },
}

/// A follower of the journal that delivers to somebody.
pub trait Worker: Send {
    /// Delivers what is waiting, up to a limit. Cancel-safe: what was not confirmed is delivered again.
    fn step(&mut self) -> impl Future<Output = Progress> + Send;

    /// Waits until there may be something to deliver.
    fn woken(&mut self) -> impl Future<Output = ()> + Send;

    /// What a person should know although it works.
    fn notice(&self) -> Option<Text> {
        None
    }
}

/// The journal could not be read or written.
fn of_journal(error: &dyn std::fmt::Display) -> Text {
    Text::new(&format!("日志无法读写：{error}"), &format!("the journal: {error}"))
}

/// Steps a worker until it is cancelled. `trouble` says why it backs off, for the health page; `None`: it works.
pub async fn run(mut worker: impl Worker, trouble: watch::Sender<Option<Text>>, cancel: CancellationToken) {
    let work = async {
        loop {
            match worker.step().await {
                Progress::Delivered { .. } => {
                    trouble.send_replace(worker.notice());
                }
                Progress::Idle => worker.woken().await,
                Progress::BackOff { wait, reason } => {
                    trouble.send_replace(Some(reason));
                    tokio::time::sleep(wait).await;
                }
            }
        }
    };
    cancel.run_until_cancelled(work).await;
}
