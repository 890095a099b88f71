//! What reading promises: every record once, in order, from the position on.

use bytes::Bytes;
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, PartitionIndex, Timestamp, TopicName};

use super::*;
use crate::budget::Budget;

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").expect("sound"), PartitionIndex(partition))
}

fn batch(base: i64, count: i64) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    for offset in base..base + count {
        builder.push(Timestamp(offset), None, Some(offset.to_string().as_bytes()), &[]);
    }
    let mut batch = builder.build().expect("no codec");
    batch.header.base_offset = Offset(base);
    batch
}

fn share() -> Share {
    Budget::new(ByteSize(1)).take(1)
}

/// Partitions 0 and 1, to be read from offset 0.
fn partitions() -> Partitions {
    let mut partitions = Partitions::new(ByteSize::mib(1));
    partitions.assign(&[name(0), name(1)], Need::Committed);
    for sought in partitions.needs() {
        partitions.locate(&sought.partition, sought.version, Offset(0));
    }
    partitions
}

fn version(partitions: &Partitions, partition: i32) -> u64 {
    let wanted = partitions.wanted(Time(0));
    wanted.iter().find(|wanted| wanted.partition == name(partition)).expect("wanted").version
}

fn offer(partitions: &mut Partitions, partition: i32, batches: &[Batch]) {
    let version = version(partitions, partition);
    let next = batches.last().expect("some").next_offset();
    let bytes: Vec<u8> = batches.iter().flat_map(|batch| batch.to_bytes().to_vec()).collect();
    partitions.offer(&name(partition), version, bytes.into(), next, share());
}

fn taken(partitions: &mut Partitions, max: usize) -> Vec<(i32, i64)> {
    let records = partitions.take(max).expect("sound batches");
    records.iter().map(|record| (record.partition.partition.0, record.offset.0)).collect()
}

fn offsets(partition: i32, range: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    range.map(|offset| (partition, offset)).collect()
}

#[test]
fn records_come_once_in_order_over_batches_and_polls() {
    let mut partitions = partitions();
    offer(&mut partitions, 0, &[batch(0, 3), batch(3, 4)]);
    offer(&mut partitions, 0, &[batch(7, 2)]);
    assert_eq!(taken(&mut partitions, 2), offsets(0, 0..2));
    assert_eq!(partitions.position(&name(0)), Some(Offset(2)));
    assert_eq!(taken(&mut partitions, 100), offsets(0, 2..9));
    assert_eq!(taken(&mut partitions, 100), []);
    // A broken connection fetches from the end of what was taken, or from before it.
    offer(&mut partitions, 0, &[batch(7, 2), batch(9, 1)]);
    assert_eq!(taken(&mut partitions, 100), offsets(0, 9..10));
}

#[test]
fn reading_from_the_middle_of_a_batch_begins_there() {
    let mut partitions = partitions();
    partitions.seek(&name(0), Offset(5)).expect("assigned");
    offer(&mut partitions, 0, &[batch(3, 4)]);
    assert_eq!(taken(&mut partitions, 100), offsets(0, 5..7));
}

#[test]
fn partitions_take_turns() {
    let mut partitions = partitions();
    offer(&mut partitions, 0, &[batch(0, 10)]);
    offer(&mut partitions, 1, &[batch(0, 10)]);
    assert_eq!(taken(&mut partitions, 3), offsets(0, 0..3));
    assert_eq!(taken(&mut partitions, 3), offsets(1, 0..3));
    assert_eq!(taken(&mut partitions, 3), offsets(0, 3..6));
}

#[test]
fn what_was_fetched_before_a_seek_is_not_given_after_it() {
    let mut partitions = partitions();
    let old = version(&partitions, 0);
    offer(&mut partitions, 0, &[batch(0, 3)]);
    partitions.seek(&name(0), Offset(1)).expect("assigned");
    assert_eq!(taken(&mut partitions, 100), []);
    let late = batch(3, 1).to_bytes();
    partitions.offer(&name(0), old, late, Offset(4), share());
    assert_eq!(taken(&mut partitions, 100), []);
    offer(&mut partitions, 0, &[batch(0, 3)]);
    assert_eq!(taken(&mut partitions, 100), offsets(0, 1..3));
}

#[test]
fn a_paused_partition_gives_nothing_and_goes_on_where_it_was() {
    let mut partitions = partitions();
    let before = version(&partitions, 0);
    offer(&mut partitions, 0, &[batch(0, 4)]);
    assert_eq!(taken(&mut partitions, 1), offsets(0, 0..1));
    partitions.pause(&name(0)).expect("assigned");
    assert_eq!(partitions.paused(), [name(0)]);
    assert_eq!(taken(&mut partitions, 100), []);
    assert!(partitions.wanted(Time(0)).iter().all(|wanted| wanted.partition != name(0)));
    partitions.resume(&name(0)).expect("assigned");
    let wanted = partitions.wanted(Time(0));
    assert_eq!(wanted[0].from, Offset(1));
    // The stream of before goes on behind what was dropped.
    partitions.offer(&name(0), before, batch(4, 1).to_bytes(), Offset(5), share());
    assert_eq!(taken(&mut partitions, 100), []);
    offer(&mut partitions, 0, &[batch(0, 4)]);
    assert_eq!(taken(&mut partitions, 100), offsets(0, 1..4));
}

#[test]
fn a_batch_that_cannot_be_read_is_reported_and_blocks_only_its_partition() {
    let mut partitions = partitions();
    let mut damaged = batch(2, 2);
    damaged.header.crc ^= 1;
    offer(&mut partitions, 0, &[batch(0, 2), damaged]);
    offer(&mut partitions, 1, &[batch(0, 2)]);
    let mut given = taken(&mut partitions, 100);
    given.sort_unstable();
    assert_eq!(given, [offsets(0, 0..2), offsets(1, 0..2)].concat());
    for _ in 0..2 {
        let error = partitions.take(100).expect_err("it cannot be read");
        assert!(matches!(error, Error::Corrupt { offset: Offset(2), .. }), "{error}");
    }
    offer(&mut partitions, 1, &[batch(2, 1)]);
    assert_eq!(taken(&mut partitions, 100), offsets(1, 2..3));
    partitions.seek(&name(0), Offset(4)).expect("assigned");
    offer(&mut partitions, 0, &[batch(4, 1)]);
    assert_eq!(taken(&mut partitions, 100), offsets(0, 4..5));
}

#[test]
fn a_damaged_record_in_a_sound_batch_does_not_skip_the_rest_of_it() {
    let mut partitions = partitions();
    let mut header = batch(0, 3).header;
    header.record_count = 3;
    let damaged = Batch::seal(header, Bytes::from_static(&[9; 30])).expect("no codec");
    offer(&mut partitions, 0, &[damaged, batch(3, 2)]);
    for _ in 0..3 {
        let error = partitions.take(100).expect_err("it cannot be read");
        assert!(matches!(error, Error::Corrupt { offset: Offset(0), .. }), "{error}");
    }
}

#[test]
fn one_by_one_records_come_as_they_do_many_at_a_time() {
    let mut partitions = partitions();
    offer(&mut partitions, 0, &[batch(0, 2), batch(2, 1)]);
    offer(&mut partitions, 1, &[batch(0, 2)]);
    let mut given = Vec::new();
    while let Some(record) = partitions.take_one().expect("sound batches") {
        given.push((record.partition.partition.0, record.offset.0));
    }
    assert_eq!(given, [offsets(0, 0..2), offsets(1, 0..2), offsets(0, 2..3)].concat());
}

#[test]
fn a_partition_without_a_position_is_named_until_the_user_seeks() {
    let mut partitions = partitions();
    partitions.relocate(&name(1), Need::Nowhere(Nowhere::OutOfRange(Offset(9)))).expect("assigned");
    assert_eq!(partitions.needs(), []);
    let error = partitions.nowhere().expect("it has no position");
    assert!(error.to_string().contains("t/1") && error.to_string().contains("offset 9"), "{error}");
    partitions.seek(&name(1), Offset(0)).expect("assigned");
    assert!(partitions.nowhere().is_none());
}

#[test]
fn control_batches_move_the_position_and_are_not_given() {
    let mut partitions = partitions();
    let mut control = batch(0, 1);
    control.header.attributes.set_control();
    let control = Batch::seal(control.header, control.records).expect("no codec");
    offer(&mut partitions, 0, &[control, batch(1, 1)]);
    assert_eq!(taken(&mut partitions, 100), offsets(0, 1..2));
}

#[test]
fn only_what_moved_is_left_to_commit() {
    let mut partitions = partitions();
    partitions.note_committed(&[(name(0), Offset(0)), (name(1), Offset(0))]);
    assert_eq!(partitions.uncommitted(), []);
    offer(&mut partitions, 0, &[batch(0, 3)]);
    assert_eq!(partitions.uncommitted(), [], "fetched is not given");
    taken(&mut partitions, 2);
    assert_eq!(partitions.uncommitted(), [(name(0), Offset(2))]);
}

#[test]
fn lag_counts_what_was_not_given_yet() {
    let mut partitions = partitions();
    assert_eq!(partitions.lag(&name(0)), None);
    partitions.note_end(&name(0), Offset(10));
    offer(&mut partitions, 0, &[batch(0, 4)]);
    taken(&mut partitions, 3);
    assert_eq!(partitions.lag(&name(0)), Some(7));
    assert_eq!(partitions.total_lag(), 7);
}

#[test]
fn a_position_that_is_found_late_does_not_undo_a_seek() {
    let mut partitions = Partitions::new(ByteSize::mib(1));
    partitions.assign(&[name(0)], Need::Committed);
    let sought = partitions.needs().remove(0);
    partitions.seek(&name(0), Offset(7)).expect("assigned");
    partitions.locate(&name(0), sought.version, Offset(3));
    partitions.locate_nowhere(&name(0), sought.version);
    assert_eq!(partitions.position(&name(0)), Some(Offset(7)));
    // Nor does it count for a later assignment, whose committed offset may be another.
    partitions.assign(&[name(0)], Need::Committed);
    partitions.locate(&name(0), sought.version, Offset(3));
    assert_eq!(partitions.position(&name(0)), None);
    let stranger = partitions.seek(&name(5), Offset(0));
    assert!(matches!(stranger, Err(Error::NotAssigned { .. })));
}
