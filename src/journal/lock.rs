//! The lock of a data directory, for those who must keep a gateway out of it (a restore) or want to know who is in it.

use super::OpenError;
use super::store::Place;
use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;

/// Keeps every gateway out of a data directory as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _held: File,
}

impl DirectoryLock {
    /// Takes the lock; the directory is made if need be.
    ///
    /// Errors: a gateway runs on it, or it cannot be used.
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        Ok(Self { _held: Place::new(dir).lock()? })
    }

    /// The process that runs on a directory, as its lock says; `None`: nobody does. Only looks.
    pub fn holder(dir: &Path) -> Option<String> {
        let mut file = File::open(dir.join("lock")).ok()?;
        // Shared, and given back at once: a gateway that starts in this instant is refused and started again.
        let Err(TryLockError::WouldBlock) = file.try_lock_shared() else { return None };
        let mut told = String::new();
        let read = file.read_to_string(&mut told);
        Some(if read.is_ok() && !told.trim().is_empty() { told.trim().to_owned() } else { "?".to_owned() })
    }
}
