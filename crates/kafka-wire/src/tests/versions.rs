//! What becomes of fields that a version does not have, and of defaults.

use super::encode;
use crate::{
    ApiKey, EncodeError, Message as _, Reader, api_versions, fetch, init_producer_id, join_group,
    metadata,
};

/// Clients before librdkafka 2.2 cannot skip tagged fields in this response.
#[test]
fn api_versions_writes_no_tagged_field_that_holds_its_default() {
    let api = api_versions::ApiVersion { api_key: 18, min_version: 0, max_version: 4 };
    let response = api_versions::Response { api_keys: vec![api], ..Default::default() };
    for version in [3, 4] {
        let bytes = encode(&response, version).expect("it fits");
        assert_eq!(bytes, b"\0\0\x02\0\x12\0\0\0\x04\0\0\0\0\0\0"[..]);
    }
    // What no longer holds its default is written, in the order of the tags.
    let feature = api_versions::FinalizedFeatureKey {
        name: "transaction.version".into(),
        max_version_level: 2,
        min_version_level: 1,
    };
    let response = api_versions::Response {
        finalized_features_epoch: 5,
        finalized_features: vec![feature],
        ..Default::default()
    };
    let expected =
        b"\0\0\x01\0\0\0\0\x02\x01\x08\0\0\0\0\0\0\0\x05\x02\x1a\x02\x14transaction.version\
                     \0\x02\0\x01\0";
    assert_eq!(encode(&response, 3).expect("it fits"), expected[..]);
}

/// Whoever asks in a version that is too new is answered in version 0.
#[test]
fn api_versions_in_version_0_is_plain() {
    let api = api_versions::ApiVersion { api_key: 18, min_version: 0, max_version: 4 };
    let response =
        api_versions::Response { error_code: 35, api_keys: vec![api], ..Default::default() };
    let bytes = encode(&response, 0).expect("it fits");
    assert_eq!(bytes, b"\0\x23\0\0\0\x01\0\x12\0\0\0\x04"[..]);
}

#[test]
fn a_field_that_the_version_lacks_is_left_out_only_if_kafka_says_so() {
    let request = join_group::Request { reason: Some("rest".into()), ..Default::default() };
    assert!(encode(&request, 7).is_ok(), "a reason may be left out");
    let request =
        join_group::Request { group_instance_id: Some("one".into()), ..Default::default() };
    let error = EncodeError::Absent { field: "group_instance_id", version: 4 };
    assert_eq!(encode(&request, 4), Err(error));
    assert!(encode(&request, 5).is_ok());
    let request = init_producer_id::Request { producer_id: 0, ..Default::default() };
    assert!(encode(&request, 2).is_err(), "0 is not the default of a producer id");
    let leader = fetch::LeaderIdAndEpoch { leader_id: 1, leader_epoch: 1 };
    let partition = fetch::PartitionData { current_leader: leader, ..Default::default() };
    let topic = fetch::FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
    let response = fetch::Response { responses: vec![topic], ..Default::default() };
    let field = "responses.partitions.current_leader";
    assert_eq!(encode(&response, 11), Err(EncodeError::Absent { field, version: 11 }));
    assert!(encode(&response, 12).is_ok());
}

#[test]
fn what_a_version_lacks_is_read_as_its_default() {
    let request = metadata::Request { topics: Some(Vec::new()), ..Default::default() };
    let bytes = encode(&request, 0).expect("it fits");
    let read = metadata::Request::decode(0, &mut Reader::new(&bytes)).expect("fresh");
    assert!(read.allow_auto_topic_creation, "clients of old rely on it");
    assert_eq!(metadata::Response::default().controller_id, -1);
    let partition = fetch::Partition::default();
    assert_eq!((partition.current_leader_epoch, partition.high_watermark), (-1, i64::MAX));
}

#[test]
fn null_is_written_only_where_the_version_allows_it() {
    let request = metadata::Request { topics: None, ..Default::default() };
    let error = EncodeError::Null { field: "topics", version: 0 };
    assert_eq!(encode(&request, 0), Err(error));
    assert_eq!(encode(&request, 1).expect("all topics"), b"\xff\xff\xff\xff"[..]);
}

#[test]
fn a_version_that_is_not_known_is_not_written() {
    let error = EncodeError::UnknownVersion { key: ApiKey::Metadata, version: 14 };
    assert_eq!(encode(&metadata::Request::default(), 14), Err(error));
}
