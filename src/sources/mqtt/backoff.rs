//! How long to wait before the next attempt: doubling, with jitter, and short again after a connection that lasted.

use std::time::Duration;

/// The first wait. A broker that restarts is back within a second.
pub(super) const FIRST: Duration = Duration::from_millis(250);

/// The longest wait: after an outage of hours the link is back within half a minute.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// A connection that lasted so long was a good one. One that breaks at once again and again (a packet that is too
/// large, two gateways with one client id) must not start from the first wait every time.
pub(super) const LASTED: Duration = Duration::from_secs(20);

/// The waits after failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure, the connection having lasted `lived`: between half and all of
    /// 250 ms × 2ⁿ, so that a hundred gateways do not come back in the same instant.
    pub(super) fn next(&mut self, lived: Duration) -> Duration {
        if lived >= LASTED {
            self.failures = 0;
        }
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_never_reach_zero() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next(Duration::ZERO)).collect();
        for (n, wait) in waits.iter().enumerate() {
            let whole = FIRST.saturating_mul(1 << n.min(10)).min(LONGEST);
            assert!(*wait >= whole / 2 && *wait <= whole, "wait {n} was {wait:?}, of {whole:?}");
        }
    }

    #[test]
    fn only_a_connection_that_lasted_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..8 {
            backoff.next(Duration::from_secs(1));
        }
        assert!(backoff.next(Duration::from_secs(1)) >= LONGEST / 2);
        assert!(backoff.next(LASTED) <= FIRST);
    }
}
