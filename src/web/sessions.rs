//! WEB · who is signed in: random tokens, kept as SHA-256 in the journal so that a restart signs nobody out.

use crate::clock::Clock;
use crate::journal::Journal;
use crate::model::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::Mutex;
use tokio::time::Instant;

/// The cookie's name.
pub const COOKIE: &str = "fengsui_session";

/// A session that nobody used for this long ends. An open live stream counts as use: a duty screen stays signed in.
pub const IDLE_MAX: Span = Span::from_secs(12 * 3600);

/// A session ends after this long whatever happens; a live stream that is open then keeps showing alarms, for a
/// screen that goes dark at night hides a fire, but commands and new pages ask for a sign-in.
pub const AGE_MAX: Span = Span::from_secs(30 * 86_400);

/// How often a session's last use is written down: a write wears the flash, so once an hour, a twelfth of [`IDLE_MAX`].
const KEEP_EVERY: Span = Span::from_secs(3600);

/// Sessions kept; the one unused for longest ends first. A township's duty room has a handful of screens.
const SESSIONS_MAX: usize = 256;

/// The longest name of a person, in characters.
pub const NAME_CHARS_MAX: usize = 32;

const DOCUMENT: &str = "session";

/// Who sits before the screen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// The account he signed in with.
    pub account: String,
    /// His name, as it is written into the duty log.
    pub person: String,
    /// Where the fire brigade can call him back; may be empty.
    pub phone: String,
    created_at: i64,
    seen_at: i64,
}

impl Session {
    fn is_over(&self, at: Timestamp) -> bool {
        let (created, seen) = (Timestamp::from_millis(self.created_at), Timestamp::from_millis(self.seen_at));
        at.since(created) > AGE_MAX || at.since(seen) > IDLE_MAX
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    kept: Mutex<HashMap<String, Kept>>,
    /// The keys of those that a person ended, the newest first.
    ended: Mutex<VecDeque<String>>,
    /// The last look at the clock, and when that was.
    looked: Mutex<Option<(Timestamp, Instant)>>,
}

/// A step of the clock that the sessions' times take part in: nobody is longer away because a clock was set.
const STEP_MIN: Span = Span::from_secs(60);

#[derive(Debug)]
struct Kept {
    session: Session,
    written_at: Timestamp,
}

impl Sessions {
    /// Those that the journal holds. One that cannot be read is as good as signed out.
    pub async fn load(journal: &Journal) -> Self {
        let documents = match journal.documents(DOCUMENT).await {
            Ok(documents) => documents,
            Err(error) => {
                tracing::warn!(error = %error, "sessions could not be read; everybody signs in again");
                Vec::new()
            }
        };
        let kept = documents.into_iter().filter_map(|(key, body)| {
            let session: Session = serde_json::from_str(&body).ok()?;
            let written_at = Timestamp::from_millis(session.seen_at);
            Some((key, Kept { session, written_at }))
        });
        Self { kept: Mutex::new(kept.collect()), ..Self::default() }
    }

    /// Signs a person in; the token goes into his cookie and is not kept. `None`: the system gave no random bytes.
    pub async fn begin(
        &self,
        journal: &Journal,
        clock: &Clock,
        account: &str,
        person: &str,
        phone: &str,
    ) -> Option<String> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).ok()?;
        let token = hex(&bytes);
        let now = self.look(clock);
        let session = Session {
            account: account.into(),
            person: person.into(),
            phone: phone.into(),
            created_at: now.as_millis(),
            seen_at: now.as_millis(),
        };
        let key = key(&token);
        let ended = {
            let mut all = self.lock();
            all.insert(key.clone(), Kept { session: session.clone(), written_at: now });
            sweep(&mut all, now)
        };
        keep(journal, &key, Some(&session), now).await;
        for ended in ended {
            keep(journal, &ended, None, now).await;
        }
        Some(token)
    }

    /// Whose token this is, and that he is here now.
    pub async fn find(&self, journal: &Journal, clock: &Clock, token: &str) -> Option<Session> {
        let (now, key) = (self.look(clock), key(token));
        let (session, write) = {
            let mut all = self.lock();
            let kept = all.get_mut(&key)?;
            if kept.session.is_over(now) {
                all.remove(&key);
                (None, true)
            } else {
                kept.session.seen_at = now.as_millis();
                let write = now.since(kept.written_at) >= KEEP_EVERY;
                if write {
                    kept.written_at = now;
                }
                (Some(kept.session.clone()), write)
            }
        };
        if write {
            keep(journal, &key, session.as_ref(), now).await;
        }
        session
    }

    /// Signs out; whose session it was.
    pub async fn end(&self, journal: &Journal, clock: &Clock, token: &str) -> Option<Session> {
        let key = key(token);
        let kept = self.lock().remove(&key)?;
        {
            let mut ended = self.ended.lock().expect("no holder of this lock panics");
            ended.truncate(SESSIONS_MAX - 1);
            ended.push_front(key.clone());
        }
        keep(journal, &key, None, clock.now()).await;
        Some(kept.session)
    }

    /// Whether a person signed this session out, as opposed to its age; only the last `SESSIONS_MAX` are known.
    pub fn was_ended(&self, token: &str) -> bool {
        self.ended.lock().expect("no holder of this lock panics").contains(&key(token))
    }

    /// The time. Where it jumped since the last look, all sessions' times jump with it: a duty screen that is signed out
    /// because a clock was set shows no fire until somebody comes.
    fn look(&self, clock: &Clock) -> Timestamp {
        let (now, instant) = (clock.now(), Instant::now());
        let before = self.looked.lock().expect("no holder of this lock panics").replace((now, instant));
        let Some((then, since)) = before else { return now };
        let passed = instant.saturating_duration_since(since).as_millis();
        let step = now.since(then + Span::from_millis(i64::try_from(passed).unwrap_or(i64::MAX)));
        if step.abs() >= STEP_MIN {
            for kept in self.lock().values_mut() {
                let Session { created_at, seen_at, .. } = &mut kept.session;
                (*created_at, *seen_at) =
                    (created_at.saturating_add(step.as_millis()), seen_at.saturating_add(step.as_millis()));
                // Written down again with its next use.
                kept.written_at = Timestamp::EPOCH;
            }
        }
        now
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().expect("no holder of this lock panics")
    }
}

/// Ends what is over, and the least used when there are too many; returns their keys.
fn sweep(all: &mut HashMap<String, Kept>, now: Timestamp) -> Vec<String> {
    let mut ended: Vec<String> =
        all.iter().filter(|(_, kept)| kept.session.is_over(now)).map(|(key, _)| key.clone()).collect();
    ended.iter().for_each(|key| {
        all.remove(key);
    });
    while all.len() > SESSIONS_MAX {
        let Some(oldest) =
            all.iter().min_by_key(|(_, kept)| kept.session.seen_at).map(|(key, _)| key.clone())
        else {
            break;
        };
        all.remove(&oldest);
        ended.push(oldest);
    }
    ended
}

async fn keep(journal: &Journal, key: &str, session: Option<&Session>, at: Timestamp) {
    let body = session.and_then(|session| serde_json::to_string(session).ok());
    if let Err(error) = journal.put_document(DOCUMENT, key, body.as_deref(), at).await {
        tracing::warn!(error = %error, "a session could not be kept; it ends with the next restart");
    }
}

fn key(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
