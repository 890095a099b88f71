//! How raw batches are split, kept and refused.

use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Timestamp, TopicName};

use super::*;

fn batch(value: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), None, Some(value), &[]);
    builder.build().expect("memory does not fail")
}

fn topic() -> TopicRef {
    TopicRef::Name(TopicName::new("orders").expect("valid"))
}

#[test]
fn batches_come_out_as_they_went_in() {
    let sent = [batch(b"a"), batch(b"bb"), batch(&[7; 300])];
    let bytes: Bytes = sent.iter().flat_map(Batch::to_bytes).collect();
    let frame = bytes.len();
    assert_eq!(batches(&topic(), 0, bytes, frame).expect("sound"), sent);
}

#[test]
fn a_small_batch_does_not_keep_its_frame_alive() {
    let bytes = batch(b"small").to_bytes();
    let within = bytes.as_ptr_range();
    let own = batches(&topic(), 0, bytes.clone(), bytes.len()).expect("sound");
    assert!(within.contains(&own[0].records.as_ptr()), "most of the frame is the batch: no copy");
    let copied = batches(&topic(), 0, bytes.clone(), bytes.len() / 4 * 5).expect("sound");
    assert!(
        !within.contains(&copied[0].records.as_ptr()),
        "a fifth of the frame is something else"
    );
    assert_eq!(own, copied);
}

#[test]
fn malformed_batches_are_refused_with_their_position() {
    let good = batch(b"good").to_bytes();
    let check = |damage: fn(&mut Vec<u8>), code, reason: &str| {
        let mut bad = batch(b"bad").to_bytes().to_vec();
        damage(&mut bad);
        let bytes: Bytes = good.iter().copied().chain(bad).collect();
        let (at, total) = (good.len(), bytes.len());
        let error = batches(&topic(), 3, bytes, total).expect_err(reason);
        let expected = format!(
            "topic orders, partition 3: batch 1, at byte {at} of {total}, is malformed: {reason}"
        );
        assert!(error.message.starts_with(&expected), "{error}");
        assert_eq!(error.code, code, "{error}");
    };
    check(|bytes| bytes[70] ^= 1, ErrorCode::CorruptMessage, "CRC-32C is");
    check(|bytes| bytes[16] = 1, ErrorCode::UnsupportedForMessageFormat, "magic 1");
    check(|bytes| bytes[8] = 0x7f, ErrorCode::CorruptMessage, "the batch needs 21");
    check(|bytes| bytes[8] = 0xff, ErrorCode::CorruptMessage, "batch length -");
    check(|bytes| bytes.truncate(60), ErrorCode::CorruptMessage, "the batch needs 61 bytes, 60");
    check(|bytes| bytes[60] = 9, ErrorCode::InvalidRecord, "a record count of 9");
}

#[test]
fn acks_and_refusals_meet_in_the_order_of_the_entries() {
    let slot = |entry, refused| Slot {
        answer: ProducedPartition { entry, ..ProducedPartition::default() },
        refused,
    };
    let refused = Error::new(ErrorCode::CorruptMessage, "bad");
    let ack = |base_offset| PartitionAck {
        topic: topic(),
        partition: PartitionIndex(0),
        result: Ok(produce::Appended {
            base_offset: rafka_core::Offset(base_offset),
            append_time: None,
            log_start: rafka_core::Offset(0),
        }),
    };
    let slots = vec![slot(0, None), slot(1, Some(refused)), slot(2, None)];
    let found = answers(slots, vec![ack(10), ack(20)]);
    let seen: Vec<(u32, i64, Option<i32>)> = found
        .iter()
        .map(|answer| (answer.entry, answer.base_offset, answer.error.as_ref().map(|e| e.code)))
        .collect();
    assert_eq!(seen, [(0, 10, None), (1, -1, Some(2)), (2, 20, None)]);
}

mod arbitrary {
    use super::*;
    use rafka_core::rng::{self, RngExt as _};

    /// A panic here is the failure: whatever comes is split or refused.
    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic() {
        for seed in 0..2000 {
            let mut rng = rng::from_seed(seed);
            let mut bytes = batch(&[3; 40]).to_bytes().to_vec();
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes.truncate(rng.random_range(0..=bytes.len()));
            let total = bytes.len();
            let outcome = batches(&topic(), 0, bytes.clone().into(), total);
            if let Ok(split) = outcome {
                let again: Vec<u8> = split.iter().flat_map(Batch::to_bytes).collect();
                assert_eq!(again, bytes, "seed {seed}: what is accepted is kept as it was");
            }
        }
    }
}
