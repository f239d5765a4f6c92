//! The writer's queue: appends go before everything else. Bounded; the thread sleeps while it is empty.

use super::{AppendError, Write};
use rusqlite::Connection;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Jobs that may wait. The pipeline has one append under way, the series one step, the web a few documents:
/// 64 is reached only when the disk stands still, and then callers wait here rather than memory growing.
const WAITING_MAX: usize = 64;

/// Something for the writer to do.
pub(super) enum Job {
    /// An append, answered when it is durable.
    Append(Box<Write>, oneshot::Sender<Result<(), AppendError>>),
    /// Anything else that writes, or is told why it cannot.
    Run(Box<Work>),
}

/// What is done on the writer's connection, or told why it cannot be.
pub(super) type Work = dyn FnOnce(Result<&mut Connection, AppendError>) + Send;

/// What the writer has to do next.
pub(super) enum Taken {
    /// This.
    Job(Job),
    /// Nothing now.
    Idle,
    /// Nothing any more.
    Closed,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    room: Semaphore,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<Job>,
    others: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), ready: Condvar::new(), room: Semaphore::new(WAITING_MAX) }
    }

    /// Hands a job in; waits while the queue is full.
    pub(super) async fn put(&self, job: Job) -> Result<(), AppendError> {
        self.room.acquire().await.map_err(|_| AppendError::Closed)?.forget();
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(AppendError::Closed);
        }
        match job {
            Job::Append(..) => waiting.appends.push_back(job),
            Job::Run(_) => waiting.others.push_back(job),
        }
        self.ready.notify_one();
        Ok(())
    }

    /// The next job, or that there was none for so long.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let mut waiting = self.lock();
        loop {
            let job = waiting.appends.pop_front().or_else(|| waiting.others.pop_front());
            if let Some(job) = job {
                self.room.add_permits(1);
                return Taken::Job(job);
            }
            if waiting.closed {
                return Taken::Closed;
            }
            let (woken, waited) =
                self.ready.wait_timeout(waiting, patience).expect("no holder of this lock panics");
            waiting = woken;
            if waited.timed_out()
                && waiting.appends.is_empty()
                && waiting.others.is_empty()
                && !waiting.closed
            {
                return Taken::Idle;
            }
        }
    }

    /// No more jobs are taken in; those that wait are still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.ready.notify_all();
    }

    /// Drops what waits, so that nobody waits for an answer that will never come.
    pub(super) fn abandon(&self) {
        self.close();
        let mut waiting = self.lock();
        waiting.appends.clear();
        waiting.others.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of this lock panics")
    }
}
