//! The node's memory for records: one byte budget for what must stay and for what is worth keeping.
//!
//! *Pinned* batches are those that no segment holds yet; they live in the [`Tail`](crate::tail::Tail)
//! of their log and are only counted here. What is left of the budget is a cache of batches that are
//! on disk too. The sidecar is a view of the logs, never a second source of truth: dropping all of
//! it costs reads, not data.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use rafka_core::{Batch, ByteSize, Offset};

use crate::LogId;
use crate::tail::{Taken, weight};

/// Appends should wait from this share of the budget pinned (one half) ...
const FULL_NUMERATOR: u64 = 4;
/// ... until this share is left (three eighths), so that waiters are not woken for one batch each.
const ROOM_NUMERATOR: u64 = 3;
const SHARE_DENOMINATOR: u64 = 8;

/// The cache is resized in steps of this share of the budget, since resizing locks all of it.
const CACHE_STEPS: u64 = 32;

/// The share of the cache for what was read more than once. Lower than the library's default,
/// because consumers that lag a little read everything exactly once, soon after it was written.
const HOT_SHARE: f64 = 0.6;

/// How many independently locked parts the cache has. A batch must fit into one of them.
const CACHE_SHARDS: usize = 4;

/// Used to size the cache's table of recently evicted keys.
const BATCH_BYTES_TYPICAL: u64 = 16 << 10;

/// Which batch: the log, how often the log's past was rewritten, and the batch's first offset.
///
/// A truncation or a compaction raises the generation, so that nothing cached before can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) log: LogId,
    pub(crate) generation: u32,
    pub(crate) base: Offset,
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Batch> for ByBytes {
    fn weight(&self, _: &Key, batch: &Batch) -> u64 {
        weight(batch)
    }
}

// A fixed hasher: which batches are evicted must repeat itself when a simulation is replayed. Keys
// are ours (ids and offsets that we assign), so nobody can choose them to collide.
type FixedHasher = BuildHasherDefault<DefaultHasher>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sidecar {
    budget: u64,
    pinned: AtomicU64,
    full: AtomicBool,
    cache_step: AtomicU64,
    cache: Cache<Key, Batch, ByBytes, FixedHasher>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What the sidecar holds, and how often it helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SidecarStats {
    /// The bytes that it may hold.
    pub budget: ByteSize,
    /// The bytes that no segment holds yet.
    pub pinned: ByteSize,
    /// The bytes that are kept beside that.
    pub cached: ByteSize,
    /// Reads answered from memory.
    pub hits: u64,
    /// Reads that had to ask the disk.
    pub misses: u64,
}

impl Sidecar {
    pub(crate) fn new(budget: ByteSize) -> Self {
        let options = OptionsBuilder::new()
            .shards(CACHE_SHARDS)
            .hot_allocation(HOT_SHARE)
            .weight_capacity(budget.0)
            .estimated_items_capacity(ByteSize((budget.0 / BATCH_BYTES_TYPICAL).max(64)).as_usize())
            .build()
            .expect("capacity and estimate are set");
        let cache = Cache::with_options(
            options,
            ByBytes,
            FixedHasher::default(),
            DefaultLifecycle::default(),
        );
        Self {
            budget: budget.0,
            pinned: AtomicU64::new(0),
            full: AtomicBool::new(false),
            cache_step: AtomicU64::new(CACHE_STEPS),
            cache,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    pub(crate) fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::SeqCst)
    }

    /// Counts bytes that must stay from now on.
    pub(crate) fn pin(&self, bytes: u64) {
        let pinned = self.pinned.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if self.share(FULL_NUMERATOR) <= pinned {
            self.full.store(true, Ordering::SeqCst);
        }
        self.resize_cache(pinned);
    }

    /// Counts bytes that need not stay any more. True if that made room for appends again.
    #[must_use]
    pub(crate) fn unpin(&self, bytes: u64) -> bool {
        let before = self.pinned.fetch_sub(bytes, Ordering::SeqCst);
        debug_assert!(bytes <= before, "{bytes} bytes were unpinned of {before}");
        let pinned = before.saturating_sub(bytes);
        self.resize_cache(pinned);
        pinned < self.share(ROOM_NUMERATOR) && self.full.swap(false, Ordering::SeqCst)
    }

    /// Whether appends should go on.
    pub(crate) fn has_room(&self) -> bool {
        // The count decides, not the flag alone: the flag may be raised late, after the bytes that
        // raised it have gone.
        !self.full.load(Ordering::SeqCst) || self.pinned() < self.share(ROOM_NUMERATOR)
    }

    fn share(&self, numerator: u64) -> u64 {
        self.budget / SHARE_DENOMINATOR * numerator
    }

    /// Leaves to the cache what is not pinned, but never nothing.
    fn resize_cache(&self, pinned: u64) {
        let step_bytes = (self.budget / CACHE_STEPS).max(1);
        let steps = (self.budget.saturating_sub(pinned) / step_bytes).clamp(1, CACHE_STEPS);
        if self.cache_step.swap(steps, Ordering::Relaxed) != steps {
            self.cache.set_capacity(steps * step_bytes);
        }
    }

    /// Keeps a batch that is on disk too. It is copied into memory of its own: a slice would keep
    /// the whole frame or read buffer alive that it came in.
    pub(crate) fn keep(&self, key: Key, batch: &Batch) {
        if self.fits(batch) {
            self.cache.insert(key, batch.detached());
        }
    }

    /// Keeps a batch that is on disk too and has memory of its own, as those of a tail have.
    pub(crate) fn keep_own(&self, key: Key, batch: &Batch) {
        if self.fits(batch) {
            self.cache.insert(key, batch.clone());
        }
    }

    /// What would take most of a shard would only push everything else out.
    fn fits(&self, batch: &Batch) -> bool {
        weight(batch) < self.cache.shard_capacity() / 2
    }

    /// Adds to `taken` what is cached from the batch on that begins at `key.base`, in one unbroken
    /// row of batches that end at or below `below`. Returns where the row ended.
    pub(crate) fn read(&self, mut key: Key, below: Offset, taken: &mut Taken) -> Offset {
        while key.base < below {
            let Some(batch) = self.cache.get(&key) else { break };
            if below < batch.next_offset() || !taken.take(&batch) {
                break;
            }
            key.base = batch.next_offset();
        }
        key.base
    }

    pub(crate) fn note_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> SidecarStats {
        SidecarStats {
            budget: ByteSize(self.budget),
            pinned: ByteSize(self.pinned()),
            cached: ByteSize(self.cache.weight()),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use rafka_core::Timestamp;
    use rafka_core::batch::BatchBuilder;
    use rafka_core::compression::Compression;

    use super::*;

    fn batch(base: i64, value: &[u8]) -> Batch {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp(0), None, Some(value), &[]);
        let mut batch = builder.build().expect("no codec can fail");
        batch.header.base_offset = Offset(base);
        batch
    }

    fn key(base: i64) -> Key {
        Key { log: LogId(1), generation: 0, base: Offset(base) }
    }

    #[test]
    fn appends_wait_from_half_the_budget_until_three_eighths() {
        let sidecar = Sidecar::new(ByteSize(800));
        sidecar.pin(399);
        assert!(sidecar.has_room());
        sidecar.pin(1);
        assert!(!sidecar.has_room());
        assert!(!sidecar.unpin(100), "300 of 800 is not yet below three eighths");
        assert!(!sidecar.has_room());
        assert!(sidecar.unpin(1), "the change is told");
        assert!(sidecar.has_room());
        assert!(!sidecar.unpin(1), "and told once");
    }

    #[test]
    fn pinned_and_cached_together_stay_within_the_budget() {
        let budget = ByteSize::mib(4);
        let sidecar = Sidecar::new(budget);
        let value = vec![7; 8 << 10];
        for base in 0..1000 {
            sidecar.keep(key(base), &batch(base, &value));
        }
        let full = sidecar.stats().cached.0;
        assert!(budget.0 / 2 < full && full <= budget.0, "{full}");
        sidecar.pin(budget.0 * 3 / 4);
        let stats = sidecar.stats();
        assert!(stats.cached.0 + stats.pinned.0 <= budget.0, "{stats:?}");
        assert!(0 < stats.cached.0, "{stats:?}");
    }

    #[test]
    fn a_scan_does_not_evict_what_is_read_again_and_again() {
        let sidecar = Sidecar::new(ByteSize::mib(4));
        let value = vec![7; 8 << 10];
        let warm = || {
            (0..32).filter(|base| {
                let mut taken = Taken::new(ByteSize(1));
                sidecar.read(key(*base), Offset(i64::MAX), &mut taken);
                !taken.batches.is_empty()
            })
        };
        for base in 0..32 {
            sidecar.keep(key(base), &batch(base, &value));
        }
        for base in 1000..6000 {
            sidecar.keep(key(base), &batch(base, &value));
            if base % 50 == 0 {
                warm().count();
            }
        }
        assert!(28 <= warm().count(), "only {} of 32 are left", warm().count());
    }

    #[test]
    fn readers_share_the_bytes_of_a_cached_batch() {
        let sidecar = Sidecar::new(ByteSize::mib(1));
        sidecar.keep(key(0), &batch(0, b"value"));
        let read = || {
            let mut taken = Taken::new(ByteSize(1));
            sidecar.read(key(0), Offset(1), &mut taken);
            taken.batches.remove(0).records
        };
        let (one, two) = (read(), read());
        assert_eq!(one.as_ptr(), two.as_ptr());
    }

    #[test]
    fn a_batch_of_the_tail_is_kept_without_a_copy() {
        let sidecar = Sidecar::new(ByteSize::mib(1));
        let original = batch(0, b"value");
        sidecar.keep_own(key(0), &original);
        let mut taken = Taken::new(ByteSize(1));
        sidecar.read(key(0), Offset(1), &mut taken);
        assert_eq!(taken.batches[0].records.as_ptr(), original.records.as_ptr());
    }

    #[test]
    fn a_cached_batch_does_not_keep_its_frame_alive() {
        let sidecar = Sidecar::new(ByteSize::mib(1));
        let original = batch(0, b"value");
        sidecar.keep(key(0), &original);
        let mut taken = Taken::new(ByteSize(1));
        sidecar.read(key(0), Offset(1), &mut taken);
        assert_eq!(taken.batches, std::slice::from_ref(&original));
        assert_ne!(taken.batches[0].records.as_ptr(), original.records.as_ptr());
    }
}
