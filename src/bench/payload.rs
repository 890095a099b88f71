//! Pure: what benchmarks send: values half random and half text, in batches encoded beforehand.

use bytes::Bytes;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::rng::RngCore as _;
use rafka_core::{ByteSize, Rng, Timestamp};

/// How many different batches are re-sent in turn: enough that no cache of the machine helps.
const BATCHES: usize = 16;
const TEXT: &[u8] = b"The quick brown fox jumps over the lazy dog while nobody measures it. ";

/// A value of `len` bytes: the first half random, the second half text.
pub(super) fn value(len: usize, rng: &mut Rng) -> Vec<u8> {
    let mut value = vec![0; len / 2];
    rng.fill_bytes(&mut value);
    value.extend(TEXT.iter().copied().cycle().take(len - len / 2));
    value
}

/// Batches to be sent again and again.
#[derive(Debug, Clone)]
pub(super) struct Batches {
    encoded: Vec<Bytes>,
    /// Records in each.
    pub(super) records: u64,
}

impl Batches {
    /// Batches of about `bytes` with values of `size`; at least one record each.
    pub(super) fn new(
        size: ByteSize,
        bytes: ByteSize,
        now: Timestamp,
        rng: &mut Rng,
    ) -> anyhow::Result<Self> {
        let records = (bytes.0 / size.0.max(1)).max(1);
        let encoded = (0..BATCHES)
            .map(|_| {
                let mut builder = BatchBuilder::new(Compression::None);
                for _ in 0..records {
                    builder.push(now, None, Some(&value(size.as_usize(), rng)), &[]);
                }
                Ok(builder.build()?.to_bytes())
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { encoded, records })
    }

    /// The batch for the request of this number.
    pub(super) fn encoded(&self, number: u64) -> Bytes {
        let index = number % self.encoded.len() as u64;
        self.encoded[usize::try_from(index).expect("it is below a length")].clone()
    }
}

#[cfg(test)]
mod tests {
    use rafka_core::{Batch, rng};

    use super::*;

    #[test]
    fn batches_hold_as_many_records_as_fit_and_differ() {
        let mut rng = rng::from_seed(1);
        let batches = Batches::new(ByteSize(100), ByteSize::kib(1), Timestamp(5), &mut rng)
            .expect("no codec");
        assert_eq!(batches.records, 10);
        let first = Batch::parse(batches.encoded(0)).expect("it is sound");
        assert_eq!(first.header.record_count, 10);
        assert_ne!(batches.encoded(0), batches.encoded(1));
        assert_eq!(batches.encoded(0), batches.encoded(16));
        let lone = Batches::new(ByteSize::kib(16), ByteSize(1), Timestamp(5), &mut rng);
        assert_eq!(lone.expect("no codec").records, 1);
    }
}
