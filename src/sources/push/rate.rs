//! WIRE → FRAMES, HTTP: how often a token may be used. A leaky bucket: so many at once, then so many a second.

use std::time::Duration;
use tokio::time::Instant;

/// One token's account.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    at_once: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: u32, at_once: u32, now: Instant) -> Self {
        let at_once = f64::from(at_once.max(1));
        Self { per_second: f64::from(per_second.max(1)), at_once, left: at_once, at: now }
    }

    /// Takes one; or says after how long there will be one.
    pub(super) fn take(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.at_once);
        self.at = now;
        if self.left < 1.0 {
            return Some(Duration::from_secs_f64((1.0 - self.left) / self.per_second));
        }
        self.left -= 1.0;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_then_so_many_a_second() {
        let mut bucket = Bucket::new(10, 3, Instant::now());
        for _ in 0..3 {
            assert_eq!(bucket.take(Instant::now()), None);
        }
        let wait = bucket.take(Instant::now()).unwrap();
        assert_eq!(wait.as_millis(), 100);
        tokio::time::advance(Duration::from_millis(101)).await;
        assert_eq!(bucket.take(Instant::now()), None);
        assert!(bucket.take(Instant::now()).is_some());
        tokio::time::advance(Duration::from_secs(3600)).await;
        let taken = (0..100).filter(|_| bucket.take(Instant::now()).is_none()).count();
        assert_eq!(taken, 3, "a pause is not saved up beyond the burst");
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_the_burst_and_the_rate(waits in prop::collection::vec(0..500u64, 1..200)) {
            let begun = Instant::now();
            let mut bucket = Bucket::new(20, 5, begun);
            let (mut now, mut taken) = (begun, 0.0);
            for wait in waits {
                now += Duration::from_millis(wait);
                if bucket.take(now).is_none() {
                    taken += 1.0;
                }
                let most = 5.0 + 20.0 * now.duration_since(begun).as_secs_f64();
                prop_assert!(taken <= most + 0.001, "{taken} of {most}");
            }
        }
    }
}
