//! Frames that lie about what follows get an error that says where, and no memory.

use bytes::Bytes;

use crate::{ApiKey, DecodeError, Message as _, Problem, Reader, RequestHeader, metadata, produce};

/// What is wrong with the body of a Metadata request.
fn metadata(version: i16, body: &[u8]) -> DecodeError {
    let frame = Bytes::copy_from_slice(body);
    metadata::Request::decode(version, &mut Reader::new(&frame)).expect_err("the frame lies")
}

/// The same for Produce.
fn produce(version: i16, body: &[u8]) -> DecodeError {
    let frame = Bytes::copy_from_slice(body);
    produce::Request::decode(version, &mut Reader::new(&frame)).expect_err("the frame lies")
}

#[test]
fn a_count_beyond_the_frame_is_refused_before_memory_is_taken() {
    let check = |version: i16, body: &[u8], count: usize, left: usize| {
        let error = metadata(version, body);
        assert_eq!(error.problem, Problem::Count { count, left }, "{body:?}");
        assert_eq!(error.field, "topics");
    };
    check(7, &[0x7f, 0xff, 0xff, 0xff, 0], 0x7fff_ffff, 1);
    // Topics of plain versions take two bytes at least, and two do not fit into three.
    check(4, &[0, 0, 0, 2, 0, 0, 0], 2, 3);
    // The compact form of the same, with the largest number that fits.
    check(9, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 0xffff_fffe, 1);
    let forty = [&[0x81, 0x80, 0x80, 0x80, 0x08][..], &[0; 35]].concat();
    check(9, &forty, 1 << 31, 35);
}

#[test]
fn a_count_of_nested_elements_is_held_against_the_same_frame() {
    // One topic with a name of one byte, and 2^20 partitions in the two bytes that are left.
    let body = b"\xff\xff\0\x01\0\0\0\0\0\0\0\x01\0\x01t\0\x10\0\0\0\0";
    let error = produce(3, body);
    assert_eq!(error.field, "topic_data.partition_data");
    assert_eq!(error.problem, Problem::Count { count: 1 << 20, left: 2 });
    assert_eq!(error.at, body.len() - 2);
}

#[test]
fn a_frame_of_countless_empty_elements_is_refused_before_they_grow() {
    // What is empty in version 9 of Produce: a topic with neither a name nor partitions.
    let flood = |count: usize| {
        let stated = u32::try_from(count + 1).expect("a count");
        let mut body = vec![0, 0, 1, 0, 0, 0, 0];
        for shift in [0, 7, 14, 21] {
            body.push(u8::try_from(stated >> shift & 0x7f).expect("seven bits") | 0x80);
        }
        body.push(0);
        body.extend([1, 1, 0].repeat(count));
        body.push(0);
        let frame = Bytes::from(body);
        produce::Request::decode(9, &mut Reader::new(&frame)).map(|read| read.topic_data.len())
    };
    assert_eq!(flood(1000), Ok(1000));
    let error = flood(1_000_000).expect_err("64 bytes of memory for each 3 bytes of the frame");
    assert_eq!(error.problem, Problem::Memory { count: 1_000_000 });
}

#[test]
fn a_request_about_countless_short_names_is_read() {
    let topic = |index: u32| metadata::RequestTopic {
        name: Some(format!("{index:04}").into()),
        ..Default::default()
    };
    let topics = (0..100_000).map(topic).collect();
    let request = metadata::Request { topics: Some(topics), ..Default::default() };
    for version in metadata::Request::VERSIONS {
        let frame = super::encode(&request, version).expect("it fits the version");
        let read = metadata::Request::decode(version, &mut Reader::new(&frame));
        assert!(read.as_ref() == Ok(&request), "version {version}: {:?}", read.err());
    }
}

#[test]
fn tagged_fields_beyond_the_frame_are_refused() {
    let tags = |tail: &[u8]| metadata(9, &[&[0, 0, 0, 0][..], tail].concat()).problem;
    let count = 1 << 28;
    assert_eq!(tags(&[0x80, 0x80, 0x80, 0x80, 0x01, 0, 0]), Problem::Count { count, left: 2 });
    // One field, longer than the frame.
    let needed = 0x7fff_ffff;
    let long = [1, 0, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
    assert_eq!(tags(&long), Problem::Truncated { needed, left: 1 });
    // And in a header, which is read before anybody is known.
    let header = b"\0\x12\0\x03\0\0\0\x07\xff\xff\x80\x80\x80\x80\x01";
    let frame = Bytes::from_static(header);
    let error = RequestHeader::decode(&mut Reader::new(&frame)).expect_err("the frame lies");
    assert_eq!(error.problem, Problem::Count { count, left: 0 });
}

#[test]
fn a_length_below_zero_is_null_or_refused() {
    assert_eq!(metadata(1, &[0xff, 0xff, 0xff, 0xfe]).problem, Problem::Negative(-2));
    assert_eq!(metadata(0, &[0xff, 0xff, 0xff, 0xff]).problem, Problem::Null);
    assert_eq!(metadata(1, &[0, 0, 0, 1, 0xff, 0xff]).problem, Problem::Null);
    assert_eq!(metadata(1, &[0, 0, 0, 1, 0x80, 0]).problem, Problem::Negative(-32768));
    let frame = Bytes::from_static(&[0xff; 4]);
    let all = metadata::Request::decode(1, &mut Reader::new(&frame)).expect("null is allowed");
    assert_eq!(all.topics, None);
}

#[test]
fn a_number_of_variable_length_ends_within_32_bits() {
    assert_eq!(metadata(9, &[0xff, 0xff, 0xff, 0xff, 0x10]).problem, Problem::Endless);
    assert_eq!(metadata(9, &[0x80; 40]).problem, Problem::Endless);
}

#[test]
fn what_is_no_text_or_follows_the_end_is_refused() {
    let error = metadata(1, &[0, 0, 0, 1, 0, 2, 0xc3, 0x28]);
    assert_eq!((error.field, error.at, error.problem), ("topics.name", 6, Problem::NotUtf8));
    let error = metadata(1, &[0, 0, 0, 0, 1, 2, 3]);
    assert_eq!((error.at, error.problem), (4, Problem::Trailing(3)));
}

#[test]
fn a_frame_cut_anywhere_is_refused() {
    let body = b"\0\xff\xff\0\0\x13\x88\x02\x02t\x02\0\0\0\x01\x03ab\0\0\0";
    let decode = |len: usize| {
        let frame = Bytes::copy_from_slice(&body[..len]);
        produce::Request::decode(9, &mut Reader::new(&frame)).map(|read| read.acks)
    };
    assert_eq!(decode(body.len()), Ok(-1));
    for len in 0..body.len() {
        assert!(decode(len).is_err(), "{len} bytes");
    }
}

#[test]
fn a_version_that_is_not_known_is_named() {
    let error = metadata(14, &[]);
    assert_eq!((error.field, error.problem), ("Metadata", Problem::UnknownVersion(14)));
    assert_eq!(produce(2, &[]).problem, Problem::UnknownVersion(2));
    assert_eq!(ApiKey::from_code(4), None);
}
