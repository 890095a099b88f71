//! What is known of producers, and what is made of their batches.

use super::*;
use crate::batch::BatchBuilder;
use crate::compression::Compression;

fn batch(epoch: i16, sequence: i32, records: usize, base_offset: i64) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(ProducerId(7), ProducerEpoch(epoch), sequence);
    for _ in 0..records {
        builder.push(Timestamp(1000), None, Some(b"v"), &[]);
    }
    let mut batch = builder.build().expect("no codec");
    batch.header.base_offset = Offset(base_offset);
    batch
}

fn table() -> ProducerTable {
    let mut table = ProducerTable::default();
    for index in 0..7 {
        let next = batch(1, index * 2, 2, i64::from(index) * 10);
        assert_eq!(table.check(&next.header), Ok(Verdict::Append));
        table.note(&next, Timestamp(2000));
    }
    table
}

#[test]
fn any_of_the_last_five_batches_is_answered_with_its_first_offset() {
    for index in 2..7 {
        let verdict = table().check(&batch(1, index * 2, 2, 999).header);
        let base = Offset(i64::from(index) * 10);
        assert!(matches!(verdict, Ok(Verdict::Duplicate(entry)) if entry.base_offset == base));
    }
}

#[test]
fn gaps_old_repeats_and_old_epochs_are_refused() {
    let check = |epoch, sequence, records, expected| {
        assert_eq!(table().check(&batch(epoch, sequence, records, 0).header), expected);
    };
    check(1, 14, 1, Ok(Verdict::Append));
    check(1, 15, 1, Err(ErrorCode::OutOfOrderSequenceNumber));
    check(1, 0, 2, Err(ErrorCode::OutOfOrderSequenceNumber));
    check(1, 12, 1, Err(ErrorCode::OutOfOrderSequenceNumber));
    check(0, 14, 1, Err(ErrorCode::InvalidProducerEpoch));
    check(2, 0, 1, Ok(Verdict::Append));
    check(2, 14, 1, Err(ErrorCode::OutOfOrderSequenceNumber));
    check(1, -1, 1, Err(ErrorCode::InvalidRecord));
}

#[test]
fn sequences_wrap_at_the_largest_number() {
    let mut table = ProducerTable::default();
    table.note(&batch(0, i32::MAX - 1, 3, 0), Timestamp(0));
    assert_eq!(table.check(&batch(0, 1, 1, 3).header), Ok(Verdict::Append));
}

#[test]
fn a_producer_survives_its_row_and_damage_is_an_error() {
    let mut restored = ProducerTable::default();
    for (id, row) in table().rows() {
        assert_eq!(ProducerTable::is_row_before(&row, Timestamp(2000)), Ok(false));
        assert_eq!(ProducerTable::is_row_before(&row, Timestamp(2001)), Ok(true));
        restored.restore(id, &row).expect("sound");
        restored.restore(id, &row).expect("sound");
        for len in 0..row.len() {
            assert!(ProducerTable::default().restore(id, &row[..len]).is_err(), "{len}");
        }
        let newer = [&[row::VERSION + 1], &row[1..]].concat();
        assert!(ProducerTable::default().restore(id, &newer).is_err());
    }
    assert_eq!(restored, table());
}

#[test]
fn who_wrote_longest_ago_is_forgotten_first_and_nobody_before_its_age() {
    let mut table = ProducerTable::default();
    let write = |table: &mut ProducerTable, id: i64, at: i64| {
        let mut batch = batch(0, 0, 1, 0);
        (batch.header.producer_id, batch.header.max_timestamp) = (ProducerId(id), Timestamp(at));
        table.note(&batch, Timestamp(at));
    };
    for (id, at) in [(1, 10), (2, 20), (3, 30), (1, 40)] {
        write(&mut table, id, at);
    }
    let ids =
        |table: &ProducerTable| -> Vec<i64> { table.last_batches().map(|(id, _)| id.0).collect() };
    assert_eq!(table.seen_at().collect::<Vec<_>>(), [20, 30, 40].map(Timestamp));
    assert_eq!(table.forget_before(Timestamp(20)), 0);
    assert!(table.forget_oldest());
    assert_eq!(ids(&table), [1, 3]);
    assert_eq!(table.forget_before(Timestamp(31)), 1);
    assert_eq!(ids(&table), [1]);
    assert!(table.contains(ProducerId(1)) && !table.contains(ProducerId(3)));
}

fn transactional(id: i64, epoch: i16, sequence: i32, base_offset: i64) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    builder.transactional();
    builder.push(Timestamp(1000), None, Some(b"v"), &[]);
    let mut batch = builder.build().expect("no codec");
    batch.header.base_offset = Offset(base_offset);
    batch
}

fn marker(id: i64, epoch: i16, (outcome, coordinator): (Outcome, i32), offset: i64) -> Batch {
    let marker = EndMarker { outcome, coordinator_epoch: Epoch(coordinator) };
    let mut batch = marker.to_batch(ProducerId(id), ProducerEpoch(epoch), Timestamp(1000));
    batch.header.base_offset = Offset(offset);
    batch
}

#[test]
fn a_transaction_lasts_from_its_first_batch_to_its_marker() {
    let mut table = ProducerTable::default();
    let at = Timestamp(1000);
    for batch in
        [transactional(1, 0, 0, 10), transactional(2, 0, 0, 11), transactional(1, 0, 1, 12)]
    {
        assert_eq!(table.check(&batch.header), Ok(Verdict::Append));
        assert_eq!(table.note(&batch, at), None);
    }
    assert_eq!(table.first_open(), Some(Offset(10)));
    assert!(table.is_open(ProducerId(1), ProducerEpoch(0)));
    assert!(!table.is_open(ProducerId(1), ProducerEpoch(1)));
    let ended = table.note(&marker(1, 0, (Outcome::Abort, 3), 13), at).expect("it was open");
    assert_eq!((ended.producer, ended.outcome), (ProducerId(1), Outcome::Abort));
    assert_eq!((ended.first_offset, ended.last_offset), (Offset(10), Offset(13)));
    assert_eq!(ended.last_stable_offset, Offset(11));
    assert_eq!(table.note(&marker(1, 0, (Outcome::Abort, 3), 14), at), None, "it has ended");
    let ended = table.note(&marker(2, 0, (Outcome::Commit, 3), 15), at).expect("it was open");
    assert_eq!((ended.outcome, ended.last_stable_offset), (Outcome::Commit, Offset(16)));
    assert_eq!(table.first_open(), None);
    // The sequence goes on behind the marker.
    assert_eq!(table.check(&transactional(1, 0, 2, 16).header), Ok(Verdict::Append));
    let described: Vec<_> = table.describe().map(|d| (d.id.0, d.coordinator_epoch)).collect();
    assert_eq!(described, [(1, Some(Epoch(3))), (2, Some(Epoch(3)))]);
}

#[test]
fn markers_of_the_past_are_refused() {
    use TransactionVersion::{V1, V2};
    let mut table = ProducerTable::default();
    table.note(&transactional(1, 4, 0, 0), Timestamp(0));
    table.note(&marker(1, 4, (Outcome::Commit, 7), 1), Timestamp(0));
    let check = |table: &ProducerTable, epoch, coordinator, version, expected| {
        let marker = EndMarker { outcome: Outcome::Abort, coordinator_epoch: Epoch(coordinator) };
        let found = table.check_marker(ProducerId(1), ProducerEpoch(epoch), marker, version);
        assert_eq!(found, expected, "epoch {epoch} by coordinator {coordinator}, {version:?}");
    };
    check(&table, 3, 7, V1, Err(ErrorCode::InvalidProducerEpoch));
    check(&table, 4, 6, V1, Err(ErrorCode::TransactionCoordinatorFenced));
    check(&table, 4, 7, V1, Ok(MarkerVerdict::Append));
    check(&table, 5, 8, V2, Ok(MarkerVerdict::Append));
    // The end that raised the epoch to 5 comes again, and once more when the next has begun.
    table.note(&marker(1, 5, (Outcome::Commit, 7), 2), Timestamp(0));
    check(&table, 5, 7, V2, Ok(MarkerVerdict::Duplicate));
    table.note(&transactional(1, 5, 0, 3), Timestamp(0));
    check(&table, 5, 7, V2, Err(ErrorCode::InvalidProducerEpoch));
    check(&table, 6, 7, V2, Ok(MarkerVerdict::Append));
    let marker = EndMarker { outcome: Outcome::Abort, coordinator_epoch: Epoch(0) };
    let unknown = table.check_marker(ProducerId(2), ProducerEpoch(0), marker, V1);
    assert_eq!(unknown, Ok(MarkerVerdict::Append));
}

#[test]
fn a_marker_under_a_new_epoch_fences_the_old_and_lets_the_new_begin_at_zero() {
    let mut table = ProducerTable::default();
    table.note(&transactional(1, 0, 0, 0), Timestamp(0));
    table.note(&marker(1, 1, (Outcome::Abort, 0), 1), Timestamp(0));
    let check = |epoch, sequence| table.check(&transactional(1, epoch, sequence, 2).header);
    assert_eq!(check(0, 1), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(check(0, 0), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(check(1, 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(check(1, 0), Ok(Verdict::Append));
}

#[test]
fn who_has_an_open_transaction_is_not_forgotten_and_writes_nothing_beside_it() {
    let mut table = ProducerTable::default();
    table.note(&transactional(1, 0, 0, 5), Timestamp(10));
    let mut beside = transactional(1, 0, 1, 6);
    beside.header.attributes = crate::batch::Attributes::default();
    assert_eq!(table.check(&beside.header), Err(ErrorCode::InvalidTxnState));
    let restored = {
        let mut restored = ProducerTable::default();
        for (id, row) in table.rows() {
            assert_eq!(ProducerTable::is_row_before(&row, Timestamp(i64::MAX)), Ok(false));
            restored.restore(id, &row).expect("sound");
        }
        restored
    };
    assert_eq!(restored, table);
    assert_eq!((table.forget_before(Timestamp(i64::MAX)), table.forget_oldest()), (0, false));
    assert_eq!(table.first_open(), Some(Offset(5)));
    table.note(&marker(1, 0, (Outcome::Commit, 0), 6), Timestamp(20));
    assert_eq!(table.forget_before(Timestamp(1001)), 1);
}
