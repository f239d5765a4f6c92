//! WEB · who may sign in: the accounts, their password hashes, and the lock after too many failures.

use crate::clock::Clock;
use crate::journal::Journal;
use crate::model::{Span, Timestamp};
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// The one account of a first start.
pub const FIRST_ACCOUNT: &str = "duty";

/// The journal's kind of document that an account is.
const DOCUMENT: &str = "account";

/// Argon2id with 12 MiB and three passes, one of the parameter sets of OWASP's password storage cheat sheet: half
/// the memory of the usual 19 MiB, because the gateway runs on a small box.
const MEMORY_KIB: u32 = 12 * 1024;
const PASSES: u32 = 3;

/// Blocks of 1 KiB asked of the system for one hash. glibc gives an allocation of 32 MiB or more a mapping of its own
/// and returns it at once; a smaller one stays in the heap of the thread that hashed, and ten sign-ins left 48 MB
/// behind. Only the blocks in use ever become memory.
const BLOCKS_RESERVED: usize = 33 * 1024;

/// Hashes computed at the same time. One: so signing in can take [`MEMORY_KIB`] and one core, never more.
const HASHING_MAX: usize = 1;

/// Sign-ins that may wait for their hash (about 50 ms each): the eighth waits under half a second on a small box.
const WAITING_MAX: usize = 8;

/// The longest password: a bound on the work, far above any pass phrase.
const PASSWORD_BYTES_MAX: usize = 256;

/// The longest account name: a bound on what is remembered of failed sign-ins.
const ACCOUNT_BYTES_MAX: usize = 64;

/// Failures before an account is locked for an address, and for how long: 5 in 15 minutes.
pub const FAILURES_MAX: usize = 5;
/// See [`FAILURES_MAX`].
pub const LOCKED_FOR: Span = Span::from_secs(15 * 60);

/// Pairs of account and address whose failures are remembered; the oldest is forgotten first. 1024 × ~200 bytes.
const REMEMBERED_MAX: usize = 1024;

/// Characters of a generated password: no `0 o 1 l`, which look alike on a printed line. 32 of them, 5 bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Why the first account could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The journal could not be read or written.
    #[error("the accounts cannot be kept in the journal: {0}")]
    Journal(String),
    /// The system gave no random bytes, or refused the memory of the hash.
    #[error("a password cannot be made: {0}")]
    Secret(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Account {
    hash: String,
    created_at: i64,
}

/// At the first start, makes the account `duty` and returns its password: print it once; only its hash is kept.
/// `None` when there is an account already.
pub async fn ensure_first_account(journal: &Journal, clock: &Clock) -> Result<Option<String>, AccountError> {
    let in_journal = |error: &dyn std::fmt::Display| AccountError::Journal(error.to_string());
    if !journal.documents(DOCUMENT).await.map_err(|error| in_journal(&error))?.is_empty() {
        return Ok(None);
    }
    let password = new_password()?;
    set_password(journal, clock, FIRST_ACCOUNT, &password).await?;
    Ok(Some(password))
}

/// Sets an account's password, making the account when there is none of that name.
pub async fn set_password(
    journal: &Journal,
    clock: &Clock,
    account: &str,
    password: &str,
) -> Result<(), AccountError> {
    let password = password.to_owned();
    let hash = tokio::task::spawn_blocking(move || hash(&password))
        .await
        .map_err(|error| AccountError::Secret(error.to_string()))??;
    let now = clock.now();
    let body = serde_json::to_string(&Account { hash, created_at: now.as_millis() })
        .map_err(|error| AccountError::Secret(error.to_string()))?;
    journal
        .put_document(DOCUMENT, account, Some(&body), now)
        .await
        .map_err(|error| AccountError::Journal(error.to_string()))
}

/// Whether there is an account of that name; an unreadable journal knows none.
pub async fn exists(journal: &Journal, account: &str) -> bool {
    journal.document(DOCUMENT, account).await.is_ok_and(|found| found.is_some())
}

/// Sixteen characters in four groups: 80 bits.
fn new_password() -> Result<String, AccountError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| AccountError::Secret(error.to_string()))?;
    let mut password = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 && i % 4 == 0 {
            password.push('-');
        }
        password.push(char::from(ALPHABET[usize::from(byte & 31)]));
    }
    Ok(password)
}

fn argon2() -> Result<Argon2<'static>, AccountError> {
    let params =
        Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| AccountError::Secret(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &str) -> Result<String, AccountError> {
    let secret = |error: &dyn std::fmt::Display| AccountError::Secret(error.to_string());
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| secret(&error))?;
    let salt = Salt::new(&bytes).map_err(|error| secret(&error))?;
    let argon2 = argon2()?;
    let output = digest(&argon2, password, &salt).map_err(|error| secret(&error))?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(argon2.params()).map_err(|error| secret(&error))?,
        salt: Some(salt),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

/// The work itself, in memory that is given back at once: see [`BLOCKS_RESERVED`].
fn digest(argon2: &Argon2<'_>, password: &str, salt: &[u8]) -> argon2::password_hash::Result<Output> {
    let blocks = argon2.params().block_count();
    let mut memory = Vec::with_capacity(BLOCKS_RESERVED.max(blocks));
    memory.resize(blocks, Block::new());
    let mut out = [0u8; Params::DEFAULT_OUTPUT_LEN];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut out, &mut memory[..])?;
    Ok(Output::new(&out)?)
}

/// What a sign-in attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right.
    Welcome,
    /// Wrong account or password: one answer for both.
    Wrong,
    /// Too many failures from this address.
    Locked,
    /// Too many sign-ins at once.
    Busy,
}

/// Checks passwords, slowly on purpose and a bounded number at a time.
#[derive(Debug)]
pub struct Gate {
    waiting: Arc<Semaphore>,
    hashing: Arc<Semaphore>,
    failures: Mutex<HashMap<(String, String), Vec<Timestamp>>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            hashing: Arc::new(Semaphore::new(HASHING_MAX)),
            failures: Mutex::default(),
        }
    }
}

impl Gate {
    /// Whether this account may sign in with this password from this address.
    pub async fn check(
        &self,
        journal: &Journal,
        account: &str,
        password: &str,
        address: &str,
        at: Timestamp,
    ) -> Verdict {
        if account.len() > ACCOUNT_BYTES_MAX {
            return Verdict::Wrong; // Not even remembered: there is no such account.
        }
        let key = (account.to_owned(), address.to_owned());
        if self.is_locked(&key, at) {
            return Verdict::Locked;
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Verdict::Wrong;
        }
        let Ok(waiting) = self.waiting.clone().try_acquire_owned() else {
            return Verdict::Busy;
        };
        let Ok(hashing) = self.hashing.clone().acquire_owned().await else {
            return Verdict::Busy;
        };
        let stored = journal.document(DOCUMENT, account).await.ok().flatten();
        let stored = stored.and_then(|body| serde_json::from_str::<Account>(&body).ok());
        let password = password.to_owned();
        // The permits go with the work: a client that hangs up frees neither memory nor core.
        let right = tokio::task::spawn_blocking(move || {
            let _permits = (waiting, hashing);
            match stored {
                Some(account) => verify(&account.hash, &password),
                // The same work for an unknown account, so that the time does not tell which accounts exist.
                None => {
                    let _unused = hash(&password);
                    false
                }
            }
        })
        .await
        .unwrap_or(false);
        if right {
            self.lock().remove(&key);
            Verdict::Welcome
        } else {
            self.remember(key, at);
            Verdict::Wrong
        }
    }

    fn is_locked(&self, key: &(String, String), at: Timestamp) -> bool {
        self.lock().get_mut(key).is_some_and(|failures| {
            failures.retain(|failed| at.since(*failed) < LOCKED_FOR);
            failures.len() >= FAILURES_MAX
        })
    }

    fn remember(&self, key: (String, String), at: Timestamp) {
        let mut failures = self.lock();
        if failures.len() >= REMEMBERED_MAX && !failures.contains_key(&key) {
            let oldest =
                failures.iter().min_by_key(|(_, times)| times.last().copied()).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| failures.remove(&oldest));
        }
        failures.entry(key).or_default().push(at);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Vec<Timestamp>>> {
        self.failures.lock().expect("no holder of this lock panics")
    }
}

fn verify(stored: &str, password: &str) -> bool {
    let Ok(stored) = PasswordHash::new(stored) else { return false };
    let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else { return false };
    let Ok(params) = Params::try_from(&stored) else { return false };
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    // Outputs are compared in constant time.
    digest(&argon2, password, salt).is_ok_and(|output| output == *expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_is_long_and_never_the_same() {
        let (one, two) = (new_password().unwrap(), new_password().unwrap());
        assert_eq!(one.len(), 19, "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn a_hash_says_its_parameters_and_accepts_its_password_only() {
        let stored = hash("烽燧-2026").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=12288,t=3,p=1$"), "{stored}");
        assert!(verify(&stored, "烽燧-2026"));
        assert!(!verify(&stored, "烽燧-2027") && !verify("", "烽燧-2026"));
    }
}
