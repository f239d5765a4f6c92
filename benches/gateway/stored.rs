//! The witness: what the journal of a stopped gateway really holds.

use fengsui::journal::{Journal, Limits};
use fengsui::metrics::Metrics;
use std::path::Path;

/// Readings of devices in the journal (the gateway's own are not counted).
pub(crate) fn readings(dir: &Path) -> u64 {
    let (journal, _) = Journal::open(dir, Limits::default(), Metrics::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut after, mut count) = (0, 0);
    loop {
        let entries = runtime.block_on(journal.read_recorded_after(after, 64)).unwrap();
        let Some(last) = entries.last() else { return count };
        after = last.no;
        let is_device = |device: &str| matches!(device.as_bytes(), [b'b' | b'd', b'0'..=b'9', ..]);
        let readings = entries.iter().flat_map(|entry| &entry.readings);
        count += readings.filter(|reading| is_device(reading.point.device())).count() as u64;
    }
}
