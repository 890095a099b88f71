//! The bytes are Kafka's, and no bytes do harm.

use super::*;

fn group_id() -> GroupId {
    GroupId::new("g1").expect("the id is valid")
}

fn partition() -> Partition {
    (TopicName::new("t").expect("the name is valid"), PartitionIndex(7))
}

fn committed() -> CommittedOffset {
    CommittedOffset { offset: Offset(42), leader_epoch: Some(Epoch(3)), metadata: "m".to_owned() }
}

const OFFSET_KEY: &[u8] = b"\0\x01\0\x02g1\0\x01t\0\0\0\x07";
const OFFSET_VALUE: &[u8] = b"\0\x03\0\0\0\0\0\0\0\x2a\0\0\0\x03\0\x01m\0\0\0\0\0\0\0\x64";
const GROUP_KEY: &[u8] = b"\0\x02\0\x02g1";

fn value() -> GroupValue {
    let member = MemberValue {
        id: "a".to_owned(),
        instance: Some("i".to_owned()),
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        rebalance_timeout: 5,
        session_timeout: 6,
        metadata: Bytes::from_static(b"sub"),
        assignment: Bytes::from_static(b"as"),
    };
    GroupValue {
        protocol_type: "consumer".to_owned(),
        generation: 9,
        protocol: Some("range".to_owned()),
        leader: Some("a".to_owned()),
        since: Timestamp(100),
        members: vec![member],
    }
}

/// A group value of each version, written field by field as Kafka's schemas have it.
fn group_value(version: u8) -> Bytes {
    let mut out: Vec<&[u8]> = vec![b"\0"];
    let version_byte = [version];
    out.push(&version_byte);
    out.push(b"\0\x08consumer\0\0\0\x09\0\x05range\0\x01a");
    if 2 <= version {
        out.push(b"\0\0\0\0\0\0\0\x64");
    }
    out.push(b"\0\0\0\x01\0\x01a");
    if 3 <= version {
        out.push(b"\0\x01i");
    }
    out.push(b"\0\x01c\0\x01h");
    if 1 <= version {
        out.push(b"\0\0\0\x05");
    }
    out.push(b"\0\0\0\x06\0\0\0\x03sub\0\0\0\x02as");
    Bytes::from(out.concat())
}

fn read(key: &[u8], value: Option<&[u8]>) -> Result<Entry, Malformed> {
    let value = value.map(Bytes::copy_from_slice);
    decode(Some(&Bytes::copy_from_slice(key)), value.as_ref())
}

#[test]
fn records_are_written_as_kafka_writes_them() {
    let check = |record: Record, key: &'static [u8], value: Option<Bytes>| {
        assert_eq!(record, Record { key: Bytes::from_static(key), value });
    };
    let (group_id, partition) = (group_id(), partition());
    check(
        offset(&group_id, &partition, &committed(), Timestamp(100)),
        OFFSET_KEY,
        Some(Bytes::from_static(OFFSET_VALUE)),
    );
    check(offset_tombstone(&group_id, &partition), OFFSET_KEY, None);
    check(group(&group_id, &value()), GROUP_KEY, Some(group_value(3)));
    check(group_tombstone(&group_id), GROUP_KEY, None);
}

#[test]
fn offsets_of_every_version_are_read() {
    let check = |key: &[u8], bytes: &[u8], leader_epoch| {
        let committed = CommittedOffset { leader_epoch, ..committed() };
        let value = Some(OffsetValue { committed, committed_at: Timestamp(100) });
        let expected = Entry::Offset { group: group_id(), partition: partition(), value };
        assert_eq!(read(key, Some(bytes)), Ok(expected));
    };
    check(OFFSET_KEY, OFFSET_VALUE, Some(Epoch(3)));
    let older_key = b"\0\0\0\x02g1\0\x01t\0\0\0\x07";
    check(older_key, b"\0\0\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\0\x64", None);
    let with_expiry = b"\0\x01\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\0\x64\0\0\0\0\0\0\x01\0";
    check(OFFSET_KEY, with_expiry, None);
    check(OFFSET_KEY, b"\0\x02\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\0\x64", None);
    let without_epoch = b"\0\x03\0\0\0\0\0\0\0\x2a\xff\xff\xff\xff\0\x01m\0\0\0\0\0\0\0\x64";
    check(OFFSET_KEY, without_epoch, None);
    let gone = Entry::Offset { group: group_id(), partition: partition(), value: None };
    assert_eq!(read(OFFSET_KEY, None), Ok(gone));
}

#[test]
fn groups_of_every_version_are_read() {
    let check = |version: u8, change: fn(&mut GroupValue)| {
        let mut value = value();
        change(&mut value);
        let expected = Entry::Group { group: group_id(), value: Some(value) };
        assert_eq!(read(GROUP_KEY, Some(&group_value(version))), Ok(expected), "v{version}");
    };
    check(3, |_| {});
    check(2, |value| value.members[0].instance = None);
    check(1, |value| {
        value.members[0].instance = None;
        value.since = Timestamp::NONE;
    });
    check(0, |value| {
        value.members[0].instance = None;
        value.since = Timestamp::NONE;
        value.members[0].rebalance_timeout = 6;
    });
    assert_eq!(read(GROUP_KEY, None), Ok(Entry::Group { group: group_id(), value: None }));
}

#[test]
fn kinds_to_come_are_passed_over_and_broken_records_are_named() {
    assert_eq!(read(b"\0\x04\0\x02g1", None), Ok(Entry::Unknown { key_version: 4 }));
    let check = |key: &[u8], value: &[u8], field| {
        assert_eq!(read(key, Some(value)), Err(Malformed { field }));
    };
    assert_eq!(decode(None, None), Err(Malformed { field: "key" }));
    check(b"\0", b"", "key version");
    check(b"\0\x01\0\x09g1", b"", "group");
    check(b"\0\x01\0\0\0\x01t\0\0\0\0", b"", "group");
    check(b"\0\x01\0\x01g\0\x01/\0\0\0\0", b"", "topic");
    check(OFFSET_KEY, b"", "value version");
    check(OFFSET_KEY, b"\0\x04", "value version");
    check(GROUP_KEY, b"\xff\xff", "value version");
    let endless = b"\0\x03\0\0\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0\x7f\xff\xff\xff";
    check(GROUP_KEY, endless, "member id");
}

#[test]
fn arbitrary_bytes_never_panic_and_what_is_read_survives_a_round_trip() {
    let survives = |entry: Entry| {
        let written = match &entry {
            Entry::Offset { group, partition, value: Some(value) } => {
                offset(group, partition, &value.committed, value.committed_at)
            }
            Entry::Offset { group, partition, value: None } => offset_tombstone(group, partition),
            Entry::Group { group: id, value: Some(value) } => group(id, value),
            Entry::Group { group, value: None } => group_tombstone(group),
            // Its bytes are tested beside it.
            Entry::Consumer { .. } | Entry::Unknown { .. } => return,
        };
        assert_eq!(decode(Some(&written.key), written.value.as_ref()), Ok(entry));
    };
    // Whole records with one byte changed and the end cut off reach deeper than chance does.
    let samples = [
        offset(&group_id(), &partition(), &committed(), Timestamp(100)),
        group(&group_id(), &value()),
    ];
    for Record { key, value } in samples {
        let value = value.expect("samples are no tombstones");
        for position in 0..value.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = value.to_vec();
                changed[position] = byte;
                read(&key, Some(&changed)).map(survives).ok();
                read(&key, Some(&changed[..position])).map(survives).ok();
            }
        }
        for end in 0..key.len() {
            assert!(read(&key[..end], Some(&value)).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn groups_find_their_partition_as_in_kafka() {
    let check = |id: &str, count: u32, expected: i32| {
        let id = GroupId::new(id).expect("the id is valid");
        assert_eq!(partition_of(&id, count), PartitionIndex(expected), "{id}");
    };
    // Java: Utils.abs("…".hashCode()) % n.
    check("a", 50, 97 % 50);
    check("group", 50, 98_629_247 % 50);
    check("test-group", 50, 12);
    check("hello", 50, 99_162_322 % 50);
    // The hash is -2147483648, whose absolute value Kafka takes for 0.
    check("polygenelubricants", 50, 0);
    // One character, two UTF-16 units: 0xd83d * 31 + 0xde00.
    check("\u{1f600}", 50, (0xd83d * 31 + 0xde00) % 50);
    check("anything", 1, 0);
}
