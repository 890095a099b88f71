//! The memory that the producers known to all partitions may take together.

use std::sync::atomic::{AtomicUsize, Ordering};

use rafka_core::ByteSize;
use rafka_core::producer_state::PRODUCER_BYTES;
use tokio::sync::Notify;

/// From this share of the bound on, those who wrote longest ago are forgotten: down to half of it,
/// so that each look at all of them makes room for many.
const CROWDED: (usize, usize) = (7, 8);

/// Counts producers. A producer is counted once for each partition that knows it.
#[derive(Debug)]
pub(crate) struct ProducerBudget {
    count_max: AtomicUsize,
    count: AtomicUsize,
    crowded: Notify,
}

impl Default for ProducerBudget {
    /// Without a bound, until one is set.
    fn default() -> Self {
        Self {
            count_max: AtomicUsize::new(usize::MAX),
            count: AtomicUsize::new(0),
            crowded: Notify::new(),
        }
    }
}

impl ProducerBudget {
    pub(crate) fn set_max(&self, max: ByteSize) {
        self.count_max.store(max.as_usize() / PRODUCER_BYTES, Ordering::Relaxed);
        self.look();
    }

    /// A partition that knew `before` producers knows `after` now.
    pub(crate) fn changed(&self, before: usize, after: usize) {
        if before < after {
            self.count.fetch_add(after - before, Ordering::Relaxed);
            self.look();
        } else {
            self.count.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Whether a partition that learns of a producer has to forget another one for it.
    pub(crate) fn is_full(&self) -> bool {
        self.count_max.load(Ordering::Relaxed) <= self.count.load(Ordering::Relaxed)
    }

    fn look(&self) {
        if self.is_crowded() {
            self.crowded.notify_one();
        }
    }

    fn is_crowded(&self) -> bool {
        let (part, whole) = CROWDED;
        let limit = self.count_max.load(Ordering::Relaxed) / whole * part;
        limit < self.count.load(Ordering::Relaxed)
    }

    /// How many should be left when it has become crowded.
    pub(crate) fn goal(&self) -> usize {
        self.count_max.load(Ordering::Relaxed) / 2
    }

    /// How many are known.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Completes when it has become crowded.
    pub(crate) async fn crowded(&self) {
        self.crowded.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn it_is_crowded_before_it_is_full() {
        let budget = ProducerBudget::default();
        budget.changed(0, 7);
        budget.set_max(ByteSize::of_len(9 * PRODUCER_BYTES));
        assert_eq!((budget.crowded().now_or_never(), budget.is_full()), (None, false));
        budget.changed(7, 8);
        assert_eq!((budget.crowded().now_or_never(), budget.is_full()), (Some(()), false));
        budget.changed(8, 9);
        assert!(budget.is_full());
        budget.changed(9, budget.goal());
        assert_eq!((budget.count(), budget.is_full(), budget.is_crowded()), (4, false, false));
    }
}
