//! The memory for what was fetched and not yet given to the user.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rafka_core::ByteSize;
use tokio::sync::Notify;

/// Counts bytes. Who reads from a connection waits here for room first.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    taken: AtomicUsize,
    freed: Notify,
}

/// Bytes that were taken, given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: ByteSize) -> Arc<Self> {
        let limit = limit.as_usize();
        Arc::new(Self { limit, taken: AtomicUsize::new(0), freed: Notify::new() })
    }

    /// Waits until less than the limit is taken.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before the look, so that what is freed after it is heard.
            freed.as_mut().enable();
            if self.taken.load(Ordering::Acquire) < self.limit {
                return;
            }
            freed.await;
        }
    }

    /// Takes `bytes`, also beyond the limit: they are in memory already.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Share {
        self.taken.fetch_add(bytes, Ordering::AcqRel);
        Share { budget: Arc::clone(self), bytes }
    }

    pub(crate) fn taken(&self) -> ByteSize {
        ByteSize::of_len(self.taken.load(Ordering::Acquire))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_waits_until_some_is_freed() {
        let budget = Budget::new(ByteSize(100));
        let first = budget.take(60);
        budget.room().await;
        let second = budget.take(60);
        assert_eq!(budget.taken(), ByteSize(120));
        let waits = budget.room();
        tokio::pin!(waits);
        assert!(futures_util::poll!(waits.as_mut()).is_pending());
        drop(first);
        waits.await;
        drop(second);
        assert_eq!(budget.taken(), ByteSize(0));
    }
}
