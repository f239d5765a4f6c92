//! A bad network on every TCP leg of the system: what must hold while it is bad, and that all is well when it is over.

#![expect(clippy::print_stdout, reason = "the figures, for whoever looks")]

mod devices;
mod bus;
mod mqtt_client;
mod platform;
mod screens;

use crate::support::fault_proxy::{Fault, FaultProxy, SLOW_NETWORK, Way};
use crate::support::ports::PATIENCE;
use crate::support::witness::{Pace, Witness};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// A fifth of what a broker's window of twenty lets through in commit windows of 100 ms, so that what waited is soon
/// caught up.
const PACE: Pace = Pace { in_flight: 4, rest: Duration::from_millis(25) };

/// Peers in these tests have no patience of their own. After so long without anything new the test hangs up for them.
const QUIET_MAX: Duration = Duration::from_millis(400);

/// The last byte is always a protected one: the version in the head of a record is, by RFC 8446, nobody's business.
const WRONG_BYTES_UNDER_TLS: [Fault; 4] =
    [Fault::HalveForGood, Fault::Duplicate, Fault::FlipBeforeEnd(0), Fault::Swallow];

/// 127.0.0.1 and that port.
fn here(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// One that writes slowly enough.
fn witness(to: SocketAddr) -> Witness {
    Witness::at_a_pace(to, "writer", PACE)
}

/// Waits until it is so. As long as it is not and nothing moves, what is open is reset.
async fn hanging_up_until(
    what: &str,
    proxy: &FaultProxy,
    moved: impl Fn() -> usize,
    mut so: impl FnMut() -> bool,
) {
    let begun = Instant::now();
    let (mut known, mut since) = (moved(), begun);
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "did not come: {what}; {}", proxy.account());
        tokio::time::sleep(Duration::from_millis(10)).await;
        if moved() != known {
            (known, since) = (moved(), Instant::now());
        } else if since.elapsed() > QUIET_MAX {
            proxy.sever();
            since = Instant::now();
        }
    }
}

/// One fault after the other, with a network that is slow before and after. Each costs the connection, and the peers get
/// on with another one.
async fn one_by_one(proxy: &FaultProxy, faults: &[(Way, Fault)], moved: impl Fn() -> usize + Copy) {
    for (way, fault) in faults {
        let (before, connections) = (proxy.did(*way, *fault), proxy.connections());
        proxy.once(*way, *fault);
        hanging_up_until("the fault", proxy, moved, || proxy.did(*way, *fault) > before).await;
        proxy.set(*way, &SLOW_NETWORK, 3);
        hanging_up_until("another connection", proxy, moved, || proxy.connections() > connections).await;
    }
}
