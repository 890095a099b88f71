//! The bytes are Kafka's, and no bytes do harm.

use super::*;
use crate::group::record as outer;

fn group_id() -> GroupId {
    GroupId::new("g1").expect("the id is valid")
}

fn share() -> Share {
    let id = TopicId(Uuid::from_bytes([7; 16]));
    BTreeMap::from([(id, BTreeSet::from([PartitionIndex(1), PartitionIndex(2)]))])
}

const SHARE: &[u8] = b"\x02\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
    \x03\0\0\0\x01\0\0\0\x02\0";

fn names(names: &[&str]) -> BTreeSet<TopicName> {
    names.iter().map(|name| TopicName::new(name).expect("the name is valid")).collect()
}

fn profile() -> Profile {
    Profile {
        instance: Some("i".into()),
        rack: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        rebalance_timeout: Duration::from_millis(5),
        topics: names(&["t", "u"]),
        regex: Some("p.*".to_owned()),
        assignor: Some(Assignor::Range),
        classic: None,
    }
}

fn sample_current() -> Current {
    Current {
        epoch: 4,
        previous_epoch: 3,
        progress: Progress::Revoking,
        assigned: share(),
        revoking: Share::new(),
    }
}

/// One record of each kind, with what it says.
fn samples() -> Vec<(Record, Entry)> {
    let (id, member_id, pattern) = (group_id(), "m".to_owned(), "p.*".to_owned());
    let matched = names(&["t"]);
    vec![
        (group(&id, Some((4, 258))), Entry::Group(Some((4, 258)))),
        (
            member(&id, "m", Some(&profile())),
            Entry::Member(member_id.clone(), Some(Box::new(Member(profile())))),
        ),
        (target_epoch(&id, Some(4)), Entry::TargetEpoch(Some(4))),
        (target(&id, "m", Some(&share())), Entry::Target(member_id.clone(), Some(share()))),
        (
            current(&id, "m", Some(&sample_current())),
            Entry::Current(member_id, Some(sample_current())),
        ),
        (
            regex(&id, "p.*", Some((&matched, 9, Timestamp(100)))),
            Entry::Regex(pattern, Some(matched)),
        ),
    ]
}

#[test]
fn records_are_written_as_kafka_writes_them() {
    let keys: [&[u8]; 6] = [
        b"\0\x03\0\x02g1",
        b"\0\x05\0\x02g1\0\x01m",
        b"\0\x06\0\x02g1",
        b"\0\x07\0\x02g1\0\x01m",
        b"\0\x08\0\x02g1\0\x01m",
        b"\0\x10\0\x02g1\0\x03p.*",
    ];
    let values = [
        b"\0\0\0\0\0\x04\x01\0\x08\0\0\0\0\0\0\x01\x02".to_vec(),
        b"\0\0\x02i\0\x02c\x02h\x03\x02t\x02u\x04p.*\0\0\0\x05\x06range\0".to_vec(),
        b"\0\0\0\0\0\x04\0".to_vec(),
        [b"\0\0", SHARE, b"\0"].concat(),
        [b"\0\0\0\0\0\x04\0\0\0\x03\x01", SHARE, b"\x01\0"].concat(),
        b"\0\0\x02\x02t\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x64\0".to_vec(),
    ];
    for ((record, _), (key, value)) in samples().into_iter().zip(keys.into_iter().zip(values)) {
        assert_eq!(record.key, key);
        assert_eq!(record.value.map(|value| value.to_vec()), Some(value));
    }
}

#[test]
fn what_is_written_is_read_and_so_is_that_it_is_gone() {
    for (record, expected) in samples() {
        let read = |value: Option<&Bytes>| match outer::decode(Some(&record.key), value) {
            Ok(outer::Entry::Consumer { group, entry }) => (group, entry),
            other => panic!("{other:?}"),
        };
        let gone = match expected.clone() {
            Entry::Group(_) => Entry::Group(None),
            Entry::Member(id, _) => Entry::Member(id, None),
            Entry::TargetEpoch(_) => Entry::TargetEpoch(None),
            Entry::Target(id, _) => Entry::Target(id, None),
            Entry::Current(id, _) => Entry::Current(id, None),
            Entry::Regex(pattern, _) => Entry::Regex(pattern, None),
        };
        assert_eq!(read(record.value.as_ref()), (group_id(), expected));
        assert_eq!(read(None), (group_id(), gone));
    }
}

#[test]
fn a_member_that_speaks_the_classic_protocol_is_written_with_what_it_supports() {
    let protocol = Protocol { name: "range".to_owned(), metadata: Bytes::from_static(b"sub") };
    let classic = Classic { session_timeout: Duration::from_millis(6), protocols: vec![protocol] };
    let profile = Profile { classic: Some(classic), ..profile() };
    let record = member(&group_id(), "m", Some(&profile));
    let value = record.value.expect("it is there");
    let start = b"\0\0\x02i\0\x02c\x02h\x03\x02t\x02u\x04p.*\0\0\0\x05\x06range";
    let field = b"\x01\0\0\0\x06\x02\x06range\x04sub\0\0";
    let tagged: &[u8] = &[b"\x01\0\x12".as_slice(), field].concat();
    assert_eq!(value, [start.as_slice(), tagged].concat());
    let entry = Entry::Member("m".to_owned(), Some(Box::new(Member(profile))));
    let expected = outer::Entry::Consumer { group: group_id(), entry };
    assert_eq!(outer::decode(Some(&record.key), Some(&value)), Ok(expected));
}

#[test]
fn what_later_versions_add_is_passed_over() {
    let read = |key: &'static [u8], value: &[u8]| {
        let (key, value) = (Bytes::from_static(key), Bytes::copy_from_slice(value));
        outer::decode(Some(&key), Some(&value))
    };
    // A group with its time of creation, and without a digest.
    let created = b"\0\0\0\0\0\x04\x01\x01\x08\0\0\0\0\0\0\x01\x02";
    let entry = Entry::Group(Some((4, 0)));
    let expected = outer::Entry::Consumer { group: group_id(), entry };
    assert_eq!(read(b"\0\x03\0\x02g1", created), Ok(expected));
    // The epochs in which partitions were assigned.
    let mut epochs = SHARE.to_vec();
    epochs.truncate(SHARE.len() - 1);
    epochs.extend(b"\x01\0\x09\x03\0\0\0\x01\0\0\0\x01");
    let entry = Entry::Target("m".to_owned(), Some(share()));
    let expected = outer::Entry::Consumer { group: group_id(), entry };
    assert_eq!(read(b"\0\x07\0\x02g1\0\x01m", &[b"\0\0", &*epochs, b"\0"].concat()), Ok(expected));
}

#[test]
fn damaged_bytes_never_panic() {
    for (record, _) in samples() {
        let value = record.value.expect("samples are no tombstones");
        for position in 0..value.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = value.to_vec();
                changed[position] = byte;
                let whole = Bytes::from(changed);
                let cut = whole.slice(..position);
                for bytes in [whole, cut] {
                    // Read or refused: either will do.
                    outer::decode(Some(&record.key), Some(&bytes)).ok();
                }
            }
        }
    }
}
