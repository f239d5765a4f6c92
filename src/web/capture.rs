//! WEB · capture: the frames of a running gateway as a file that is written while they arrive. For a person who is signed
//! in, and for whoever may read the gateway's own token on the box.

use super::api::Problem;
use super::sessions::COOKIE;
use super::{Shared, auth, quarantine};
use crate::capture::{End, Filter, Listening};
use crate::model::{DeviceId, LinkId};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::convert::Infallible;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a capture lasts when nobody says: long enough for a device that reports once a minute.
const SECONDS: u64 = 60;
/// The longest capture: a day, for a device that reports once a day.
const SECONDS_MAX: u64 = 86_400;
/// Frames of a capture when nobody says, and at most: at 300 bytes each 300 MB.
const FRAMES_MAX: u64 = 1_000_000;
/// Bytes of a capture when nobody says: it fits into an e-mail.
const BYTES: u64 = 16 << 20;
/// The largest capture: what may safely be written on a box with 1 GiB free.
const BYTES_MAX: u64 = 512 << 20;
/// While no frame comes an empty line is written this often, so that a reader who has gone away is noticed.
const EMPTY_LINE_EVERY: Duration = Duration::from_secs(5);
/// Bytes of the token before they are written as hex: as many as a session has.
const TOKEN_BYTES: usize = 32;

/// The file with the token, in the data directory: whoever may read that directory may read everything else as well.
pub const TOKEN_FILE: &str = "capture.token";

/// What is captured.
#[derive(Debug, Deserialize)]
pub(super) struct Order {
    seconds: Option<u64>,
    frames: Option<u64>,
    bytes: Option<u64>,
    link: Option<String>,
    device: Option<String>,
    topic: Option<String>,
}

/// Makes a new token and writes it where only the gateway's own account can read it.
pub fn make_token(dir: &Path) -> io::Result<Arc<str>> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = token_file(dir);
    let part = path.with_extension("part");
    // A file of another time may have other rights.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(token.as_bytes())?;
    fs::rename(&part, &path)?;
    Ok(token.into())
}

/// Where the token of a data directory is.
pub fn token_file(dir: &Path) -> PathBuf {
    dir.join(TOKEN_FILE)
}

/// `GET /api/v1/capture`: JSON lines until one of the limits is reached.
pub(super) async fn capture(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Query(order): Query<Order>,
) -> Result<Response, Problem> {
    if !may(&shared, &headers).await {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "signed_out", "请先登录", "sign in first"));
    }
    let wrong = |_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "wrong_filter",
            "链路或设备的名字写错了",
            "the name of the link or the device is not well formed",
        )
    };
    let filter = Filter {
        link: order.link.as_deref().map(LinkId::parse).transpose().map_err(wrong)?,
        device: order.device.as_deref().map(DeviceId::parse).transpose().map_err(wrong)?,
        topic: order.topic,
    };
    let listening = shared.room.tap.listen(filter).ok_or_else(quarantine::too_many)?;
    let seconds = order.seconds.unwrap_or(SECONDS).min(SECONDS_MAX);
    let writing = Writing {
        shared,
        listening,
        until: Instant::now() + Duration::from_secs(seconds),
        frames_left: order.frames.unwrap_or(FRAMES_MAX).min(FRAMES_MAX),
        bytes_left: order.bytes.unwrap_or(BYTES).min(BYTES_MAX),
        frames: 0,
        ended: false,
    };
    let lines = futures::stream::unfold(writing, |mut writing| async move {
        let line = writing.next().await?;
        Some((Ok::<_, Infallible>(line), writing))
    });
    let head = [
        (header::CONTENT_TYPE.as_str(), "application/x-ndjson; charset=utf-8"),
        (header::CONTENT_DISPOSITION.as_str(), "attachment; filename=\"capture.jsonl\""),
        // nginx must not hold lines back, nor must they be packed.
        ("x-accel-buffering", "no"),
        (header::CONTENT_ENCODING.as_str(), "identity"),
    ];
    Ok((head, Body::from_stream(lines)).into_response())
}

/// Somebody who is signed in, or who holds the token.
async fn may(shared: &Shared, headers: &HeaderMap) -> bool {
    let room = &shared.room;
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((given, token)) =
        bearer.and_then(|value| value.strip_prefix("Bearer ")).zip(room.token.as_ref())
    {
        return same(given.as_bytes(), token.as_bytes());
    }
    match auth::cookie(headers, COOKIE) {
        Some(cookie) => shared.sessions.find(&room.journal, &room.clock, cookie).await.is_some(),
        None => false,
    }
}

/// Compares in a time that says nothing about where they differ.
fn same(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len() && given.iter().zip(token).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// A file that is being written.
struct Writing {
    shared: Shared,
    listening: Listening,
    until: Instant,
    frames_left: u64,
    bytes_left: u64,
    frames: u64,
    ended: bool,
}

impl Writing {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if self.frames_left == 0 {
            return Some(self.end("frames"));
        }
        // A timer that is over may say so a little later.
        if Instant::now() >= self.until {
            return Some(self.end("seconds"));
        }
        tokio::select! {
            biased;
            () = self.shared.cancel.cancelled() => Some(self.end("stopped")),
            () = tokio::time::sleep_until(self.until) => Some(self.end("seconds")),
            frame = self.listening.next() => {
                let line = frame.to_line() + "\n";
                // The frame that does not fit is not begun.
                let Some(left) = self.bytes_left.checked_sub(line.len() as u64) else {
                    return Some(self.end("bytes"));
                };
                self.bytes_left = left;
                self.frames_left -= 1;
                self.frames += 1;
                Some(line.into())
            }
            () = tokio::time::sleep(EMPTY_LINE_EVERY) => Some(Bytes::from_static(b"\n")),
        }
    }

    fn end(&mut self, why: &str) -> Bytes {
        self.ended = true;
        let end = End { end: why.to_owned(), frames: self.frames, dropped: self.listening.dropped() };
        (end.to_line() + "\n").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_token_is_the_owners_alone_and_another_one_each_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(token_file(dir.path()), "old").unwrap();
        fs::set_permissions(token_file(dir.path()), fs::Permissions::from_mode(0o644)).unwrap();
        let first = make_token(dir.path()).unwrap();
        let mode = fs::metadata(token_file(dir.path())).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, first.len()), (0o600, 64));
        assert_eq!(*fs::read_to_string(token_file(dir.path())).unwrap(), *first);
        assert_ne!(make_token(dir.path()).unwrap(), first);
        assert!(same(first.as_bytes(), first.as_bytes()));
        assert!(!same(b"", first.as_bytes()) && !same(&first.as_bytes()[1..], first.as_bytes()));
    }
}
