//! What the buffer promises.

use std::time::Duration;

use rafka_client::Leadership;
use rafka_core::{ByteSize, Epoch, NodeId, TopicId, TopicName, rng};

use super::*;

fn accumulator(settings: Settings) -> Accumulator {
    let mut accumulator = Accumulator::new(settings, Partitioner::Default, rng::from_seed(1));
    let leadership = Leadership { leader: Some(NodeId(0)), epoch: Epoch(1) };
    accumulator.learn(&Topic {
        name: TopicName::new("t").expect("sound"),
        id: TopicId::from_random(1),
        partitions: vec![leadership; 3],
    });
    accumulator
}

fn small() -> Settings {
    Settings {
        batch_bytes: ByteSize(1000),
        linger: Duration::from_millis(5),
        ..Settings::default()
    }
}

fn record(partition: i32, len: usize) -> Record {
    Record::new("t").partition(PartitionIndex(partition)).value(vec![7; len])
}

fn append(accumulator: &mut Accumulator, record: &Record, now: Time) -> Appended {
    let cost = u32::try_from(cost_of(record)).expect("small");
    accumulator.append(record, cost, now, Timestamp(1)).expect("a sound record")
}

const MS: u64 = 1_000_000;

#[test]
fn a_batch_leaves_when_it_is_full_or_has_waited_long_enough() {
    let mut accumulator = accumulator(small());
    assert!(append(&mut accumulator, &record(0, 10), Time(0)).wake, "the timer must be set");
    assert!(!append(&mut accumulator, &record(0, 10), Time(MS)).wake);
    accumulator.end_linger(Time(4 * MS));
    assert_eq!(accumulator.due().count(), 0);
    accumulator.end_linger(Time(5 * MS));
    let due: Vec<Slot> = accumulator.due().collect();
    assert_eq!(due, [Slot(0)]);
    let taken = accumulator.take(Slot(0)).expect("it is due");
    assert_eq!(taken.builder.record_count(), 2);
    assert!(accumulator.take(Slot(0)).is_none());

    append(&mut accumulator, &record(1, 500), Time(6 * MS));
    let full = append(&mut accumulator, &record(1, 500), Time(6 * MS));
    assert!(full.wake, "the first batch is full");
    assert_eq!(accumulator.due().collect::<Vec<_>>(), [Slot(1)]);
    assert_eq!(accumulator.take(Slot(1)).expect("full").builder.record_count(), 1);
    assert!(accumulator.take(Slot(1)).is_none(), "the second still waits");
}

#[test]
fn a_batch_that_is_due_but_not_taken_still_grows() {
    let mut accumulator = accumulator(small());
    append(&mut accumulator, &record(0, 10), Time(0));
    accumulator.end_linger(Time(5 * MS));
    append(&mut accumulator, &record(0, 10), Time(6 * MS));
    assert_eq!(accumulator.take(Slot(0)).expect("due").builder.record_count(), 2);
}

#[test]
fn batches_of_a_partition_leave_in_the_order_of_their_records() {
    let mut accumulator = accumulator(small());
    for _ in 0..25 {
        append(&mut accumulator, &record(0, 300), Time(0));
    }
    accumulator.end_all_lingers();
    let mut numbers = Vec::new();
    let mut records = 0;
    while let Some(taken) = accumulator.take(Slot(0)) {
        assert!(taken.builder.len_estimate() <= 1000);
        numbers.push(taken.receipt.number);
        records += taken.builder.record_count();
    }
    assert_eq!(records, 25);
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn a_record_larger_than_a_batch_gets_one_of_its_own() {
    let mut accumulator = accumulator(small());
    append(&mut accumulator, &record(0, 10), Time(0));
    append(&mut accumulator, &record(0, 5000), Time(0));
    append(&mut accumulator, &record(0, 10), Time(0));
    accumulator.end_all_lingers();
    let counts: Vec<usize> = std::iter::from_fn(|| accumulator.take(Slot(0)))
        .map(|taken| taken.builder.record_count())
        .collect();
    assert_eq!(counts, [1, 1, 1]);
}

#[test]
fn unknown_topics_and_partitions_that_do_not_exist_are_refused() {
    let mut accumulator = accumulator(small());
    let mut refused = |record: Record| accumulator.append(&record, 1, Time(0), Timestamp(1));
    assert!(matches!(refused(Record::new("u")), Err(NotAppended::UnknownTopic)));
    for partition in [-1, 3, i32::MAX] {
        let outcome = refused(record(partition, 1));
        let Err(NotAppended::Invalid(error)) = outcome else { panic!("{partition} was taken") };
        assert!(error.to_string().contains("the topic has 3"), "{error}");
    }
}

#[test]
fn expiry_takes_the_old_and_leaves_the_young() {
    let mut accumulator = accumulator(small());
    let old = append(&mut accumulator, &record(0, 600), Time(MS));
    append(&mut accumulator, &record(0, 600), Time(2 * MS));
    append(&mut accumulator, &record(1, 10), Time(3 * MS));
    let expired = accumulator.expire(Time(MS));
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].records, old.delivery.index + 1);
    assert_eq!(accumulator.due().count(), 0);
    assert_eq!(accumulator.drain().len(), 2);
    assert!(accumulator.filled.is_empty());
}

#[test]
fn flushing_waits_for_what_was_there_and_for_nothing_later() {
    let mut accumulator = accumulator(small());
    append(&mut accumulator, &record(0, 10), Time(0));
    append(&mut accumulator, &record(1, 10), Time(0));
    let waiting = accumulator.unsettled();
    accumulator.end_all_lingers();
    append(&mut accumulator, &record(2, 10), Time(0));
    assert_eq!(waiting.len(), 2);
    let first = accumulator.take(Slot(0)).expect("due");
    accumulator.settled(first.receipt.number);
    assert_eq!(accumulator.unsettled().len(), 2);
    assert!(!accumulator.is_settled());
}
