//! Record data passes through without a copy, in both directions.

use bytes::{Buf as _, Bytes};

use super::encode;
use crate::{Message as _, Reader, Records, ResponseHeader, Writer, fetch, produce};

/// Whether `part` lies in the memory of `whole`.
fn lies_in(part: &Bytes, whole: &Bytes) -> bool {
    whole.as_ptr_range().contains(&part.as_ptr())
}

#[test]
fn records_of_a_request_are_a_slice_of_its_frame() {
    for version in produce::Request::VERSIONS {
        let batch = Bytes::from(vec![3; 5000]);
        let partition =
            produce::PartitionProduceData { index: 4, records: Some(Records::from(batch.clone())) };
        let topic = produce::TopicProduceData {
            name: if version < 13 { "orders".into() } else { "".into() },
            partition_data: vec![partition],
            ..Default::default()
        };
        let request = produce::Request { topic_data: vec![topic], ..Default::default() };
        let frame = encode(&request, version).expect("it fits the version");
        let read = produce::Request::decode(version, &mut Reader::new(&frame)).expect("fresh");
        assert_eq!(read, request);
        let records = read.topic_data[0].partition_data[0].records.clone().expect("sent");
        assert_eq!(records.pieces().len(), 1);
        assert!(lies_in(&records.pieces()[0], &frame));
    }
}

/// A response with records in these pieces.
fn response(pieces: &[Bytes]) -> fetch::Response<'static> {
    let partition = |records| fetch::PartitionData { records: Some(records), ..Default::default() };
    let partitions = vec![
        partition(pieces.iter().cloned().collect::<Records>()),
        partition(Records::default()),
        partition(pieces.iter().cloned().collect::<Records>()),
    ];
    let topic = fetch::FetchableTopicResponse { partitions, ..Default::default() };
    fetch::Response { responses: vec![topic], ..Default::default() }
}

#[test]
fn records_of_a_response_are_pointed_to_and_not_copied() {
    let pieces = [Bytes::from(vec![1; 4096]), Bytes::from(vec![2; 70_000])];
    for version in fetch::Response::VERSIONS {
        let mut out = Writer::new();
        ResponseHeader { correlation_id: 9 }.encode(crate::ApiKey::Fetch, version, &mut out);
        response(&pieces).encode(version, &mut out).expect("it fits the version");
        let mut frame = out.finish().expect("short enough");
        for piece in &pieces {
            let same = frame.pieces().filter(|sent| sent.as_ptr() == piece.as_ptr());
            assert_eq!(same.count(), 2, "version {version}");
        }

        // What arrives is the same message.
        let len = usize::try_from(frame.get_i32()).expect("a length");
        assert_eq!(len, frame.remaining());
        let received = frame.copy_to_bytes(len);
        let mut input = Reader::new(&received);
        ResponseHeader::decode(crate::ApiKey::Fetch, version, &mut input).expect("a header");
        let read = fetch::Response::decode(version, &mut input).expect("a response");
        assert_eq!(read, response(&pieces));
    }
}

#[test]
fn small_pieces_are_joined_with_what_is_around_them() {
    let mut out = Writer::new();
    response(&[Bytes::from(vec![1; 100])]).encode(12, &mut out).expect("it fits the version");
    assert_eq!(out.finish().expect("short").pieces().count(), 1);
}
