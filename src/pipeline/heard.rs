//! When each device was heard last, so that no two of its frames have the same time. Pure.
//!
//! A store keeps one value a point and time, to the millisecond in VictoriaMetrics: of a burst without times of its own only
//! the last reading would be left there. So each frame of a device is received a millisecond after the one before, if that
//! is later than the clock. What the journal has from before a restart counts as well.

use crate::model::{DeviceId, Reading, Span, Timestamp};
use std::collections::HashMap;

/// How far a burst's times may run ahead of the clock: 60 000 frames that a broker kept for one device while we were away.
/// As much later the device's silence may be noticed.
pub const AHEAD_MAX: Span = Span::from_secs(60);

/// When each device was heard last, as it was written.
#[derive(Debug, Clone, Default)]
pub struct Heard(HashMap<DeviceId, Timestamp>);

impl Heard {
    /// From every point's newest reading.
    pub fn of(newest: &[Reading]) -> Self {
        let mut heard = Self::default();
        for reading in newest {
            let Ok(device) = DeviceId::parse(reading.point.device()) else { continue };
            let last = heard.0.entry(device).or_insert(reading.received_at);
            *last = reading.received_at.max(*last);
        }
        heard
    }

    /// The time of a frame that is received now; `Err`: a burst is further ahead than [`AHEAD_MAX`], and the frame shares the
    /// time of the one before.
    pub(super) fn receive(&mut self, device: &DeviceId, now: Timestamp) -> Result<Timestamp, Timestamp> {
        let Some(last) = self.0.get_mut(device) else {
            self.0.insert(device.clone(), now);
            return Ok(now);
        };
        let next = *last + Span::from_millis(1);
        if next.since(now) <= AHEAD_MAX {
            *last = now.max(next);
        } else if last.since(now) <= AHEAD_MAX {
            return Err(*last);
        } else {
            // That is no burst: it was heard under another clock.
            *last = now;
        }
        Ok(*last)
    }

    /// The clock was moved.
    pub(super) fn shift(&mut self, by: Span) {
        self.0.values_mut().for_each(|at| *at = *at + by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PointId, Quality, Value};
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    fn device() -> DeviceId {
        DeviceId::parse("sd-1").unwrap()
    }

    proptest! {
        #[test]
        fn frames_in_their_order_have_times_of_their_own_and_none_runs_too_far_ahead(
            waits in prop::collection::vec(prop_oneof![8 => Just(0), 2 => 0i64..3, 1 => 0i64..100_000], 1..400),
            before in 0i64..AHEAD_MAX.as_millis()
        ) {
            let reading = Reading {
                point: PointId::parse("sd-1/temperature").unwrap(),
                value: Value::Flag(true),
                quality: Quality::Good,
                flaw: None,
                sampled_at: None,
                received_at: at(before),
                late: false,
            };
            let mut heard = Heard::of(&[reading]);
            let (mut now, mut last) = (0, at(before));
            for wait in waits {
                now += wait;
                match heard.receive(&device(), at(now)) {
                    Ok(own) => {
                        prop_assert!(own > last && own >= at(now));
                        prop_assert!(own.since(at(now)) <= AHEAD_MAX);
                        last = own;
                    }
                    Err(shared) => {
                        prop_assert_eq!(shared, last);
                        prop_assert!(shared.since(at(now)) == AHEAD_MAX, "there was room");
                    }
                }
            }
        }
    }

    #[test]
    fn a_burst_has_as_many_times_as_the_limit_allows() {
        let mut heard = Heard::default();
        let room = AHEAD_MAX.as_millis() + 1;
        let own = (0..room + 100).filter(|_| heard.receive(&device(), at(0)).is_ok()).count();
        assert_eq!(i64::try_from(own), Ok(room));
    }

    #[test]
    fn a_clock_that_is_set_back_is_no_burst() {
        let mut heard = Heard::default();
        heard.receive(&device(), at(0)).unwrap();
        heard.shift(Span::from_millis(-30_000));
        assert_eq!(heard.receive(&device(), at(-29_000)), Ok(at(-29_000)));
        // Nor is a journal from another time.
        assert_eq!(
            heard.receive(&device(), at(-10 * AHEAD_MAX.as_millis())),
            Ok(at(-10 * AHEAD_MAX.as_millis()))
        );
    }
}
