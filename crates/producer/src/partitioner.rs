//! Pure: which partition a record goes to.

use std::fmt;
use std::sync::Arc;

use rafka_core::partitioner::partition_of_key;
use rafka_core::rng::{Rng, RngExt as _};

use crate::record::Record;

/// A choice of partition made by the user: the record and the number of partitions to an index.
pub type Choose = dyn Fn(&Record, u32) -> u32 + Send + Sync;

/// How partitions are chosen for records that do not name theirs.
#[derive(Clone, Default)]
pub enum Partitioner {
    /// By Kafka's hash of the key; without a key, one partition after the other is filled for a
    /// batch's worth of bytes, so that batches become full. The default.
    #[default]
    Default,
    /// As the function says. Answers beyond the last partition are refused by `send`.
    Custom(Arc<Choose>),
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "Default",
            Self::Custom(_) => "Custom",
        })
    }
}

/// The partition that records without a key go to at the moment (KIP-794).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sticky {
    current: Option<u32>,
    bytes: usize,
}

impl Partitioner {
    /// The partition of a record that names none.
    pub(crate) fn choose(
        &self,
        record: &Record,
        partition_count: u32,
        sticky: &mut Sticky,
        rng: &mut Rng,
    ) -> u32 {
        match (self, &record.key) {
            (Self::Custom(choose), _) => choose(record, partition_count),
            (Self::Default, Some(key)) => partition_of_key(key, partition_count),
            (Self::Default, None) => sticky.current(partition_count, rng),
        }
    }
}

impl Sticky {
    fn current(&mut self, partition_count: u32, rng: &mut Rng) -> u32 {
        if let Some(current) = self.current.filter(|current| *current < partition_count) {
            return current;
        }
        let chosen = rng.random_range(0..partition_count);
        *self = Self { current: Some(chosen), bytes: 0 };
        chosen
    }

    /// Notes `bytes` sent to the current partition; after a batch's worth it moves on.
    pub(crate) fn note(&mut self, bytes: usize, batch_bytes: usize, partition_count: u32) {
        self.bytes += bytes;
        if batch_bytes <= self.bytes {
            // The next in turn: as even as a random one, and no partition is starved by chance.
            self.current = self.current.map(|current| (current + 1) % partition_count);
            self.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use rafka_core::rng;

    use super::*;

    #[test]
    fn a_key_always_goes_where_kafkas_hash_says() {
        let (mut sticky, mut rng) = (Sticky::default(), rng::from_seed(1));
        let record = Record::new("t").key("customer-7");
        for _ in 0..10 {
            let chosen = Partitioner::Default.choose(&record, 8, &mut sticky, &mut rng);
            assert_eq!(chosen, partition_of_key(b"customer-7", 8));
        }
    }

    #[test]
    fn records_without_key_stay_for_a_batch_and_reach_all_partitions_evenly() {
        let (mut sticky, mut rng) = (Sticky::default(), rng::from_seed(1));
        let mut counts = [0_u32; 4];
        let mut switches = 0;
        let mut last = None;
        for _ in 0..400 {
            let chosen = Partitioner::Default.choose(&Record::new("t"), 4, &mut sticky, &mut rng);
            counts[usize::try_from(chosen).expect("small")] += 1;
            switches += u32::from(last.is_some_and(|last| last != chosen));
            last = Some(chosen);
            sticky.note(10, 100, 4);
        }
        assert_eq!(counts, [100; 4]);
        assert_eq!(switches, 39);
    }

    #[test]
    fn the_users_function_decides_keys_or_not() {
        let last = Partitioner::Custom(Arc::new(|_record: &Record, count| count - 1));
        let (mut sticky, mut rng) = (Sticky::default(), rng::from_seed(1));
        let record = Record::new("t").key("k");
        assert_eq!(last.choose(&record, 5, &mut sticky, &mut rng), 4);
    }
}
