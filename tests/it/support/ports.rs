//! Ports and waiting.

use std::future::Future;
use std::time::Duration;

/// How long a test waits for a state before it fails. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A TCP port of 127.0.0.1 that nobody used a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until it is so, and fails naming what did not come.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    soon(what, async {
        while !so() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
}

/// Waits for the future, and fails naming what did not come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("did not come within {PATIENCE:?}: {what}"),
    }
}
