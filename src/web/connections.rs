//! WEB · connections: taken one by one, bounded in number and in how long a client may dawdle, so that a few hundred
//! half-open requests cannot keep the duty officer out.
//!
//! Built on hyper-util because `axum::serve` has neither a time-out for request heads nor a limit.

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::add_extension::AddExtension;

/// Connections open at once; the next ones wait in the system's queue. A browser opens six, a duty room has a handful of
/// screens; half of the 1024 files that a process may usually open, the rest is for devices and the journal.
pub const CONNECTIONS_MAX: usize = 512;

/// How long a client may take to send the head of a request, and how long an idle connection is kept. A radio link in
/// the countryside needs a second; a client that dawdles on purpose frees its place within this.
pub const HEAD_MAX: Duration = Duration::from_secs(10);

/// What was sent and is not confirmed by the other machine for so long: that screen is gone, switched off or out of the
/// radio's reach, and its place and its live stream are free. The system itself waits a quarter of an hour; a screen
/// behind a bad link that dials anew every ten seconds would have used up all 64 streams after eleven minutes. Three
/// times the 10 s after which a page believes itself cut off.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(30);

/// The largest request head. Cookies and a long address are below 2 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long requests in progress may go on after a stop. `app` gives all of us ten seconds.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when the system refuses a connection, for example because too many files are open.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Serves a router until cancelled.
pub async fn serve(listener: TcpListener, router: Router, cancel: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    let accepting = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                // That one client is gone; the next may be fine.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset
                            | ErrorKind::ConnectionAborted
                            | ErrorKind::ConnectionRefused
                    ) =>
                {
                    continue;
                }
                Err(error) => {
                    tracing::error!(error = %error, "the duty room cannot take connections; trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
            };
            if let Err(error) = forget_the_gone(&stream) {
                tracing::debug!(%address, %error, "a connection without a limit for what is not confirmed");
            }
            let service = TowerToHyperService::new(AddExtension::new(router.clone(), ConnectInfo(address)));
            let (http, watcher) = (http.clone(), graceful.watcher());
            tokio::spawn(async move {
                let connection = http.serve_connection(TokioIo::new(stream), service);
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%address, error, "a connection ended early");
                }
                drop(place);
            });
        }
    };
    cancel.run_until_cancelled(accepting).await;
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time; they are cut off");
    }
}

fn forget_the_gone(stream: &TcpStream) -> std::io::Result<()> {
    let unconfirmed = u32::try_from(UNCONFIRMED_MAX.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, unconfirmed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That the system keeps to it needs a cable to pull; that it was told can be seen.
    #[tokio::test]
    async fn a_screen_that_is_gone_is_forgotten_long_before_the_system_would() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _screen = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        forget_the_gone(&stream).unwrap();
        assert_eq!(rustix::net::sockopt::tcp_user_timeout(&stream).unwrap(), 30_000);
    }
}
