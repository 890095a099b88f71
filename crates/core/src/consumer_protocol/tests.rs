//! The bytes are Kafka's, and no bytes do harm.

use super::*;

fn partitions(topic: &str, partitions: &[i32]) -> TopicPartitions {
    TopicPartitions {
        topic: topic.to_owned(),
        partitions: partitions.iter().copied().map(PartitionIndex).collect(),
    }
}

/// Two topics `a` and `bc`, user data `u`, written field by field as Kafka's schema has it.
const SUBSCRIPTION: &[u8] = b"\x00\x00\x00\x02\x00\x01a\x00\x02bc\x00\x00\x00\x01u";
const OWNED: &[u8] = b"\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x05";
const GENERATION: &[u8] = b"\x00\x00\x00\x07";
const RACK: &[u8] = b"\x00\x02r1";

fn bytes(version: i16, parts: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version);
    for part in parts {
        out.put_slice(part);
    }
    out.freeze()
}

fn full() -> Subscription {
    Subscription {
        topics: vec!["a".to_owned(), "bc".to_owned()],
        user_data: Some(Bytes::from_static(b"u")),
        owned: vec![partitions("a", &[0, 5])],
        generation: 7,
        rack: Some("r1".to_owned()),
    }
}

#[test]
fn subscriptions_of_every_version_are_read() {
    let check = |version: i16, parts: &[&[u8]], expected: Subscription| {
        assert_eq!(Subscription::decode(&bytes(version, parts)), Ok(expected), "v{version}");
    };
    let mut expected = Subscription::new(vec!["a".to_owned(), "bc".to_owned()]);
    expected.user_data = Some(Bytes::from_static(b"u"));
    check(0, &[SUBSCRIPTION], expected.clone());
    expected.owned = vec![partitions("a", &[0, 5])];
    check(1, &[SUBSCRIPTION, OWNED], expected.clone());
    expected.generation = 7;
    check(2, &[SUBSCRIPTION, OWNED, GENERATION], expected);
    check(3, &[SUBSCRIPTION, OWNED, GENERATION, RACK], full());
    check(9, &[SUBSCRIPTION, OWNED, GENERATION, RACK, b"more to come"], full());
    let nothing = b"\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff";
    check(3, &[nothing], Subscription::new(Vec::new()));
}

#[test]
fn subscriptions_are_written_as_kafka_writes_them() {
    assert_eq!(full().encode(), Ok(bytes(3, &[SUBSCRIPTION, OWNED, GENERATION, RACK])));
}

#[test]
fn assignments_are_read_and_written_as_kafka_does() {
    let assignment = Assignment {
        partitions: vec![partitions("a", &[0, 5])],
        user_data: Some(Bytes::from_static(b"x")),
    };
    let body: &[&[u8]] = &[OWNED, b"\x00\x00\x00\x01x"];
    for version in [0, 1, 2, 3, 12] {
        assert_eq!(Assignment::decode(&bytes(version, body)), Ok(assignment.clone()));
    }
    assert_eq!(assignment.encode(), Ok(bytes(3, body)));
}

#[test]
fn malformed_messages_are_refused_with_the_field() {
    let check = |input: &[u8], expected: Error| {
        let input = Bytes::copy_from_slice(input);
        assert_eq!(Subscription::decode(&input), Err(expected));
    };
    check(b"", truncated("version"));
    check(b"\xff\xff", Error::Negative { field: "version", value: -1 });
    check(b"\0\0\x80\0\0\0", Error::Negative { field: "topic", value: i32::MIN });
    check(b"\0\0\x7f\xff\xff\xff\0\x01a", truncated("topic"));
    check(b"\0\0\0\0\0\x01\xff\xff", Error::Negative { field: "topic", value: -1 });
    check(b"\0\0\0\0\0\x01\0\x01\xff", Error::NotUtf8 { field: "topic" });
    check(b"\0\0\0\0\0\0\0\0\0\x09u", truncated("user data"));
}

#[test]
fn texts_beyond_the_length_prefix_are_refused() {
    let long = Subscription::new(vec!["x".repeat(1 << 15)]);
    assert_eq!(long.encode(), Err(Error::TooLong { field: "topic", len: 1 << 15 }));
}

#[test]
fn arbitrary_bytes_never_panic_and_what_is_read_survives_a_round_trip() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|input| {
        let input = Bytes::copy_from_slice(input);
        if let Ok(read) = Subscription::decode(&input) {
            let written = read.encode().expect("what fitted the protocol fits again");
            assert_eq!(Subscription::decode(&written), Ok(read));
        }
        if let Ok(read) = Assignment::decode(&input) {
            let written = read.encode().expect("what fitted the protocol fits again");
            assert_eq!(Assignment::decode(&written), Ok(read));
        }
    });
}
