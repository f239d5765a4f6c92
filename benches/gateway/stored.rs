//! The witness: what the journal of a stopped gateway really holds.

use fengsui::journal::{Journal, Limits};
use fengsui::metrics::Metrics;
use fengsui::model::{Reading, Value};
use std::collections::HashSet;
use std::path::Path;

/// Readings of devices in the journal (the gateway's own are not counted).
pub(crate) fn readings(dir: &Path) -> u64 {
    let mut count = 0;
    each(dir, |_| count += 1);
    count
}

/// Temperatures of numbered messages: different ones, and all of them.
pub(crate) fn numbered(dir: &Path) -> (u64, u64) {
    let (mut seen, mut all) = (HashSet::new(), 0);
    each(dir, |reading| {
        if let ("temperature", Value::Number(number)) = (reading.point.name(), &reading.value)
            // The messages of the warm-up bear no number.
            && number.get() != 23.4
        {
            all += 1;
            seen.insert((reading.point.clone(), number.get().to_bits()));
        }
    });
    (seen.len() as u64, all)
}

fn each(dir: &Path, mut take: impl FnMut(&Reading)) {
    let (journal, _) = Journal::open(dir, Limits::default(), Metrics::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut after = 0;
    loop {
        let entries = runtime.block_on(journal.read_recorded_after(after, 64)).unwrap();
        let Some(last) = entries.last() else { return };
        after = last.no;
        let is_device = |device: &str| matches!(device.as_bytes(), [b'b' | b'd', b'0'..=b'9', ..]);
        let readings = entries.iter().flat_map(|entry| &entry.readings);
        readings.filter(|reading| is_device(reading.point.device())).for_each(&mut take);
    }
}
