//! The journal, as many tests read it.

use fengsui::journal::{Entry, Journal};
use std::sync::Arc;

/// Every recorded entry, oldest first.
pub(crate) async fn everything(journal: &Journal) -> Vec<Arc<Entry>> {
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.no);
        let more = journal.read_recorded_after(after, 1000).await.unwrap();
        if more.is_empty() {
            return entries;
        }
        entries.extend(more);
    }
}
