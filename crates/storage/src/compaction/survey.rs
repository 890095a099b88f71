//! Pure: what a compaction pass must know before it drops anything: each key's latest offset and
//! each producer's last batch.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};

use rafka_core::producer_state::Ended;
use rafka_core::{Batch, ByteSize, Offset, ProducerId};

use crate::segment::INFLATE_MAX;

/// What a key takes in memory: hash, offset and the table around them, while the table grows.
const KEY_BYTES: u64 = 64;

/// The keys and producers of a part of a log, in bounded memory.
///
/// Keys are known by 128-bit hashes, seeded so that nobody can prepare two that collide.
#[derive(Debug)]
pub(crate) struct Survey {
    seed: u128,
    keys_max: usize,
    latest: HashMap<u128, Offset>,
    producers: HashMap<ProducerId, Offset>,
    /// Where aborted transactions begin and end.
    aborted: HashMap<ProducerId, Vec<(Offset, Offset)>>,
}

impl Survey {
    /// Knows nothing yet, and will remember keys in about this much memory.
    pub(crate) fn new(seed: u128, bytes_max: ByteSize) -> Self {
        let keys_max = usize::try_from(bytes_max.0 / KEY_BYTES).unwrap_or(usize::MAX);
        let (latest, producers, aborted) = Default::default();
        Self { seed, keys_max, latest, producers, aborted }
    }

    /// Notes the aborted transactions of what is to be compacted, before any batch.
    pub(crate) fn note_aborted(&mut self, ended: &Ended) {
        let of_producer = self.aborted.entry(ended.producer).or_default();
        of_producer.push((ended.first_offset, ended.last_offset));
    }

    /// Whether the records of a batch are those of an aborted transaction.
    pub(super) fn is_aborted(&self, batch: &Batch) -> bool {
        let header = &batch.header;
        let of_producer = self.aborted.get(&header.producer_id).map_or(&[][..], Vec::as_slice);
        let after = of_producer.partition_point(|(_, last)| *last < header.base_offset);
        let transaction = of_producer.get(after);
        header.attributes.is_transactional()
            && transaction.is_some_and(|(first, _)| *first <= header.base_offset)
    }

    /// Whether no further batch should be noted. A batch is noted whole, so that each pass gets on
    /// by at least one.
    pub(crate) fn is_full(&self) -> bool {
        self.keys_max <= self.latest.len()
    }

    /// Notes the keys of a batch. Batches come in order of their offsets.
    pub(crate) fn note_keys(&mut self, batch: &Batch) {
        if batch.header.attributes.is_control() || self.is_aborted(batch) {
            return;
        }
        // A batch that cannot be read hides no key: its records stay, and so do older ones.
        let Ok(mut records) = batch.records(INFLATE_MAX) else { return };
        while let Some(Ok(view)) = records.next_view() {
            let Some(key) = view.key.and_then(|range| records.bytes().get(range)) else { continue };
            let offset = batch.base_offset() + i64::from(view.offset_delta);
            self.latest.insert(self.hash(key), offset);
        }
    }

    /// Notes the batch of a producer. Batches come in order of their offsets.
    pub(crate) fn note_producer(&mut self, producer: ProducerId, base_offset: Offset) {
        if producer.is_some() {
            self.producers.insert(producer, base_offset);
        }
    }

    /// Whether there is a later record with this key.
    pub(super) fn is_superseded(&self, key: &[u8], offset: Offset) -> bool {
        self.latest.get(&self.hash(key)).is_some_and(|latest| offset < *latest)
    }

    /// Whether this is the last batch of its producer.
    pub(super) fn is_last_of_producer(&self, batch: &Batch) -> bool {
        let last = self.producers.get(&batch.header.producer_id);
        last.is_some_and(|last| *last <= batch.base_offset())
    }

    fn hash(&self, key: &[u8]) -> u128 {
        let half = |seed: u128| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u128(seed);
            hasher.write(key);
            u128::from(hasher.finish())
        };
        half(self.seed) << 64 | half(!self.seed)
    }
}
