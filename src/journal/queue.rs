//! The writer's queue: appends go before everything else. Bounded; the thread sleeps while it is empty.

use super::{AppendError, Write};
use rusqlite::Connection;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Semaphore, oneshot};

/// Jobs that may wait. The pipeline has one append under way, the series one step, the web a few documents:
/// 64 is reached only when the disk stands still, and then callers wait here rather than memory growing.
const WAITING_MAX: usize = 64;

/// Something for the writer to do.
pub(super) enum Job {
    /// An append, answered when it is durable.
    Append(Box<Write>, oneshot::Sender<Result<(), AppendError>>),
    /// Anything else that writes.
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
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

    /// The next job; `None` when the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.appends.pop_front() {
                self.room.add_permits(1);
                return Some(job);
            }
            if let Some(job) = waiting.others.pop_front() {
                self.room.add_permits(1);
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.ready.wait(waiting).expect("no holder of this lock panics");
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
