//! Read connections, used on tokio's blocking threads: a question never waits for the writer, nor it for a question.

use super::store::Place;
use super::{ReadError, store};
use rusqlite::Connection;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Questions that are answered at the same time. Two pages, one sink, one chart; each connection keeps up to 2 MB.
const READERS_MAX: usize = 4;

pub(super) struct Readers {
    place: Place,
    idle: Mutex<Idle>,
    room: Arc<Semaphore>,
}

/// Connections that wait for a question.
#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// How often the database's file was changed for another: a connection of an earlier one is not kept.
    file: u64,
}

impl Readers {
    /// The database is another file now: connections to the old one are dropped.
    pub(super) fn forget(&self) {
        let mut idle = self.lock();
        idle.file += 1;
        idle.connections.clear();
    }

    pub(super) fn new(place: Place) -> Arc<Self> {
        Arc::new(Self { place, idle: Mutex::default(), room: Arc::new(Semaphore::new(READERS_MAX)) })
    }

    /// Asks the database, in one snapshot.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let permit = self.room.clone().acquire_owned().await.map_err(|_| ReadError::Closed)?;
        let readers = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let (idle, file) = {
                let mut idle = readers.lock();
                (idle.connections.pop(), idle.file)
            };
            let mut conn = match idle {
                Some(conn) => conn,
                None => store::connect_reader(&readers.place.database())?,
            };
            let answer = in_snapshot(&mut conn, question).inspect_err(|error| {
                if matches!(error, ReadError::Damaged(_)) {
                    readers.place.mark_suspect();
                }
            })?;
            // After an error the connection is dropped instead: the next question opens a new one.
            let mut idle = readers.lock();
            if idle.file == file {
                idle.connections.push(conn);
            }
            Ok(answer)
        });
        answer.await.map_err(|_| ReadError::Closed)?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().expect("no holder of this lock panics")
    }
}

fn in_snapshot<T>(
    conn: &mut Connection,
    question: impl FnOnce(&Connection) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let snapshot = conn.transaction()?;
    let answer = question(&snapshot)?;
    snapshot.finish()?;
    Ok(answer)
}
