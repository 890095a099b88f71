//! Headers and records come back as they were written, or not at all.

use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Epoch, Timestamp};

use super::*;

fn header() -> FileHeader {
    FileHeader {
        lane: Durability::Fsync,
        incarnation: 7,
        salt: 11,
        capacity: 1 << 20,
        start: Start::Process { cut: Sequence(5), first: Sequence(9) },
        node: Uuid::from_u128(13),
    }
}

fn append() -> Entry {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), Some(b"key"), Some(b"value"), &[]);
    let mut batch = builder.build().expect("nothing is compressed");
    batch.header.base_offset = Offset(42);
    batch.header.leader_epoch = Epoch(3);
    Entry::Append { log: LogId(4), batch }
}

#[test]
fn a_file_header_comes_back_as_it_was_written() {
    let continues = FileHeader { lane: Durability::Os, start: Start::Continues, ..header() };
    for header in [header(), continues] {
        let mut block = vec![0; 4096];
        header.encode(&mut block);
        assert_eq!(FileHeader::parse(&block), Ok(header));
    }
}

#[test]
fn any_flipped_bit_of_a_file_header_is_noticed() {
    let mut block = vec![0; 4096];
    header().encode(&mut block);
    for bit in 0..FILE_HEADER_LEN * 8 {
        let mut damaged = block.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(FileHeader::parse(&damaged).is_err(), "bit {bit}");
    }
    assert!(FileHeader::parse(&block[..FILE_HEADER_LEN - 1]).is_err());
}

#[test]
fn an_unknown_version_is_named() {
    let mut block = vec![0; 4096];
    header().encode(&mut block);
    block[8] = 99;
    assert_eq!(FileHeader::parse(&block), Err(HeaderError::Version(99)));
}

#[test]
fn records_come_back_as_they_were_written() {
    let truncate = Entry::Truncate { log: LogId(9), end: Offset(17) };
    for entry in [Some(append()), Some(truncate), None] {
        let mut out = vec![0xff; 1024];
        let seed = header().seed();
        let len = put_record(&mut out, seed, Sequence(8), Sequence(6), entry.as_ref());
        assert_eq!(len, record_bytes(entry.as_ref()));
        let found = RecordHeader::parse(&out, seed).expect("it was just written");
        assert_eq!((found.sequence, found.durable), (Sequence(8), Sequence(6)));
        assert_eq!(padded(found.len()), len as u64);
        let record = &out[..found.len()];
        assert!(found.vouches_for(record, seed));
        assert_eq!(found.entry(&record[RECORD_HEADER_LEN..]), Ok(entry));
        assert!(out[found.len()..len].iter().all(|byte| *byte == 0), "padding is zero");
    }
}

#[test]
fn any_flipped_bit_of_a_record_is_noticed() {
    let mut out = vec![0; 1024];
    let seed = header().seed();
    put_record(&mut out, seed, Sequence(8), Sequence(6), Some(&append()));
    let len = RecordHeader::parse(&out, seed).expect("it was just written").len();
    for bit in 0..len * 8 {
        let mut damaged = out.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let vouched = RecordHeader::parse(&damaged, seed).is_some_and(|found| {
            damaged.get(..found.len()).is_some_and(|record| found.vouches_for(record, seed))
        });
        assert!(!vouched, "bit {bit}");
    }
}

#[test]
fn a_record_of_another_incarnation_or_salt_is_none() {
    let mut out = vec![0; 1024];
    put_record(&mut out, header().seed(), Sequence(8), Sequence(6), Some(&append()));
    let found = RecordHeader::parse(&out, header().seed()).expect("it was just written");
    let record = &out[..found.len()];
    for other in [FileHeader { incarnation: 8, ..header() }, FileHeader { salt: 12, ..header() }] {
        assert!(!found.vouches_for(record, other.seed()));
        // Its header alone tells, whatever length it claims: nothing else of it is read.
        assert_eq!(RecordHeader::parse(&out, other.seed()), None);
    }
}

#[test]
fn arbitrary_bytes_are_never_more_than_refused() {
    bolero::check!().for_each(|bytes: &[u8]| {
        FileHeader::parse(bytes).ok();
        if let Some(found) = RecordHeader::parse(bytes, header().seed()) {
            found.vouches_for(bytes, header().seed());
            found.entry(bytes).ok();
        }
    });
}
