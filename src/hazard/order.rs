//! READINGS → TRANSITIONS: is this reading news, or was it overtaken?

use super::board::Seen;
use crate::model::{Reading, Span};

/// A live reading that is this much older than the newest of its point was not overtaken on the wire (redelivery
/// after a reconnect takes seconds to a few minutes): its device's clock went back. It counts as late, so a fire
/// still alarms, and what follows is ordered by the new time. 本系统默认值.
pub const REORDER_MAX: Span = Span::from_secs(10 * 60);

/// Where a reading stands among those of its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Live,
    /// It tells of the past: kept by the broker, or stored in the device and sent later.
    Late,
    /// Late by its device's clock only: the device speaks as it goes along, and its clock is slow.
    Slow,
    /// A duplicate, or overtaken by a newer one.
    Stale,
}

impl Order {
    /// Shown as 迟报, and never a reason to call something over.
    pub(super) fn is_late(self) -> bool {
        matches!(self, Self::Late | Self::Slow)
    }
}

/// Where a reading stands among those of its point. A device's clock ahead of ours never makes its later readings
/// look old: its newest time counts as no later than we received it. Same time and another value is not a
/// duplicate: many devices stamp whole seconds.
pub(super) fn order(seen: Option<&Seen>, reading: &Reading) -> Order {
    let live_or_late = match (reading.late, seen) {
        (false, _) => Order::Live,
        (true, Some(seen)) if keeps_pace(seen, reading) => Order::Slow,
        (true, _) => Order::Late,
    };
    let Some(seen) = seen else { return live_or_late };
    match (seen.sample.sampled_at, reading.sampled_at) {
        // Kept by the broker, without a time: news only if it says something else than we know.
        (_, None) if reading.late && seen.says_the_same(reading) => Order::Stale,
        (_, None) => live_or_late,
        (None, Some(time)) if reading.late && time <= seen.received_at => Order::Stale,
        (None, Some(_)) => live_or_late,
        (Some(newest), Some(time)) => {
            let reached = newest.min(seen.received_at);
            if time == newest && seen.says_the_same(reading) {
                Order::Stale
            } else if time >= reached {
                live_or_late
            } else if !reading.late && reached.since(time) > REORDER_MAX {
                Order::Late
            } else {
                Order::Stale
            }
        }
    }
}

/// Whether a device whose readings are all late speaks as it goes along: its time runs no faster than twice ours. One
/// that sends what it had stored runs through hours in seconds. Without this a device with a slow clock, or a wrong
/// time zone, would be deaf for every rule but fire, and nobody would know.
fn keeps_pace(seen: &Seen, reading: &Reading) -> bool {
    let (Some(newest), Some(time)) = (seen.sample.sampled_at, reading.sampled_at) else { return false };
    let (by_its_clock, by_ours) = (time.since(newest), reading.received_at.since(seen.received_at));
    seen.sample.late && by_its_clock > Span::ZERO && by_its_clock.as_millis() / 2 <= by_ours.as_millis()
}
