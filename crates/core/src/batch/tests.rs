//! What a record batch promises.

use super::*;
use crate::compression::Compression;
use crate::{Epoch, ProducerEpoch, ProducerId};

const LIMIT: ByteSize = ByteSize::mib(1);

type Header = (Bytes, Option<Bytes>);

fn headers() -> Vec<Header> {
    vec![
        (Bytes::from_static(b"trace"), Some(Bytes::from_static(b"1"))),
        (Bytes::from_static(b"trace"), None),
    ]
}

fn batch(compression: Compression) -> Batch {
    let mut builder = BatchBuilder::new(compression);
    builder.producer(ProducerId(5), ProducerEpoch(1), 40);
    builder.push(Timestamp(1000), Some(b"k"), Some(b"first"), &headers());
    builder.push(Timestamp(900), None, Some(b""), &[]);
    builder.push(Timestamp(1100), Some(b""), None, &[]);
    builder.build().expect("memory does not fail")
}

#[test]
fn records_come_back_as_they_went_in() {
    for compression in Compression::ALL {
        let sent = batch(compression);
        let mut read = Batch::parse(sent.to_bytes()).expect("we wrote it");
        assert_eq!(read, sent);
        read.header.base_offset = Offset(70);
        let records: Vec<Record> =
            read.records(LIMIT).expect("it inflates").collect::<Result<_, _>>().expect("sound");
        let expected = [
            (70, 1000, Some("k"), Some("first"), headers()),
            (71, 900, None, Some(""), vec![]),
            (72, 1100, Some(""), None, vec![]),
        ];
        assert_eq!(records.len(), expected.len());
        for (record, (offset, timestamp, key, value, headers)) in records.iter().zip(expected) {
            assert_eq!((record.offset, record.timestamp), (Offset(offset), Timestamp(timestamp)));
            assert_eq!(record.key.as_deref(), key.map(str::as_bytes));
            assert_eq!(record.value.as_deref(), value.map(str::as_bytes));
            assert_eq!(record.headers, headers);
        }
        assert_eq!(read.max_timestamp(), Timestamp(1100));
        assert_eq!(read.next_offset(), Offset(73));
    }
}

#[test]
fn the_bytes_are_those_of_kafka() {
    // Laid out by hand after Kafka's documentation of the format.
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1000), Some(b"k"), Some(b"v"), &[]);
    let mut batch = builder.build().expect("no codec");
    batch.header.leader_epoch = Epoch(0);
    let bytes = batch.to_bytes();
    assert_eq!(bytes.len(), 61 + 9);
    assert_eq!(&bytes[..17], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 58, 0, 0, 0, 0, 2]);
    assert_eq!(&bytes[61..], &[16, 0, 0, 0, 2, b'k', 2, b'v', 0]);
}

#[test]
fn offset_and_epoch_lie_outside_the_checksum_and_all_else_inside() {
    let mut patched = batch(Compression::None);
    patched.header.base_offset = Offset(1 << 40);
    patched.header.leader_epoch = Epoch(9);
    assert_eq!(Batch::parse(patched.to_bytes()), Ok(patched.clone()));
    for position in 21..patched.len() {
        let mut bytes = patched.to_bytes().to_vec();
        bytes[position] ^= 1;
        assert!(Batch::parse(bytes.into()).is_err(), "flip at {position}");
    }
}

#[test]
fn bad_batches_are_refused_with_their_reason() {
    let good = batch(Compression::None).to_bytes();
    let with = |position: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[position] = byte;
        Batch::parse(bytes.into())
    };
    assert_eq!(Batch::parse(good.slice(..60)), Err(Error::Truncated { needed: 61, found: 60 }));
    assert!(matches!(Batch::parse(good.slice(..70)), Err(Error::Truncated { .. })));
    assert_eq!(with(16, 1), Err(Error::Magic(1)));
    assert!(matches!(with(8, 0x80), Err(Error::Length(_))));
    assert!(matches!(with(11, 10), Err(Error::Length(10))));
    assert!(matches!(with(60, 77), Err(Error::Count { count: 77, .. })));
    assert!(matches!(with(22, 7), Err(Error::UnknownCompression(7))));
    let two: Bytes = [good.as_ref(), good.as_ref()].concat().into();
    assert_eq!(Batch::parse(two.clone()), Err(Error::Trailing(good.len())));
    let mut rest = two;
    assert!(Batch::split_first(&mut rest).is_ok_and(|batch| batch.is_some()));
    assert!(Batch::split_first(&mut rest).is_ok_and(|batch| batch.is_some()));
    assert_eq!(Batch::split_first(&mut rest), Ok(None));
}

#[test]
fn the_append_time_replaces_every_timestamp_and_keeps_the_checksum_right() {
    let mut stamped = batch(Compression::Lz4);
    stamped.stamp_append_time(Timestamp(5000));
    let read = Batch::parse(stamped.to_bytes()).expect("the checksum was renewed");
    let timestamps: Vec<Timestamp> = read
        .records(LIMIT)
        .expect("it inflates")
        .map(|record| record.expect("sound").timestamp)
        .collect();
    assert_eq!(timestamps, [Timestamp(5000); 3]);
}

#[test]
fn arbitrary_bytes_never_panic() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
        if let Ok(batch) = Batch::parse_trusted(bytes.clone().into()) {
            read_all(&batch);
        }
        // Behind a sound header the fuzzer reaches the records themselves.
        let mut framed = batch(Compression::None);
        framed.records = bytes.clone().into();
        read_all(&framed);
        for compression in Compression::ALL {
            framed.header.attributes = Attributes::compressed(compression);
            read_all(&framed);
        }
    });
}

fn read_all(batch: &Batch) {
    let Ok(records) = batch.records(LIMIT) else { return };
    let count = records.take_while(Result::is_ok).count();
    assert!(count <= usize::try_from(batch.header.record_count).unwrap_or(0));
}
