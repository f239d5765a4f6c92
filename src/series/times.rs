//! The tail while the clock is unset: it is kept unsealed, and read anew once the journal has dated its entries anew.

use super::{RETRY_AFTER, Series};

impl Series {
    /// Follows what the journal holds back for want of a time. Never ends.
    pub(super) async fn keep_times(&self) {
        let mut held_back = self.0.journal.held_back_after();
        let mut was_held = false;
        loop {
            let held = held_back.borrow_and_update().is_some();
            if held {
                self.hold_sealing(true);
            } else if was_held {
                while let Err(error) = self.rebuild_tail().await {
                    tracing::error!(%error, "the series could not take the right times over; it will try again");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                self.hold_sealing(false);
            }
            was_held = held;
            if held_back.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
