//! Consumer groups: a member's life in every version of every request.

use std::ops::RangeInclusive;

use bytes::Bytes;
use rafka_core::ErrorCode;
use rafka_kafka_wire::{
    Message, delete_groups, describe_groups, heartbeat, join_group, leave_group, list_groups,
    offset_commit, offset_fetch, sync_group,
};

use uuid::Uuid;

use crate::support::{Client, Node, body};

/// The newest version of any of the requests of groups.
const VERSIONS: RangeInclusive<i16> = 0..=10;

/// A member, and the version in which it speaks as far as a request has it.
struct Member {
    client: Client,
    version: i16,
    group: String,
    id: String,
    generation: i32,
    /// The id of the topic `orders`.
    topic: Uuid,
}

/// The version of a request that is nearest to this one and served.
fn near(version: i16, served: RangeInclusive<i16>) -> i16 {
    version.clamp(*served.start(), *served.end())
}

macro_rules! ask {
    ($client:expr, $version:expr, $request:expr => $Response:ty, $read:expr) => {{
        let frame = $client.ask($version, &$request).await.expect("answered");
        let response: $Response = body($version, &frame);
        let read: fn(&$Response) -> _ = $read;
        read(&response)
    }};
}

impl Member {
    async fn new(node: &Node, version: i16) -> Self {
        let group = format!("g{version}");
        let (client, topic) = (node.connect().await, node.topic_id("orders"));
        Self { client, version, group, id: String::new(), generation: -1, topic }
    }

    fn request(&self) -> join_group::Request<'static> {
        join_group::Request {
            group_id: self.group.clone().into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: if 1 <= self.version { 10_000 } else { -1 },
            member_id: self.id.clone().into(),
            protocol_type: "consumer".into(),
            protocols: vec![join_group::RequestProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(b"wants"),
            }],
            ..join_group::Request::default()
        }
    }

    async fn join(&mut self) {
        loop {
            let version = near(self.version, 0..=9);
            let (code, generation, id) = ask!(self.client, version, self.request() =>
                join_group::Response<'_>,
                |r| (r.error_code, r.generation_id, r.member_id.to_string()));
            self.id = id;
            if code == ErrorCode::MemberIdRequired.code() {
                assert!(4 <= version && !self.id.is_empty());
                continue;
            }
            assert_eq!(code, 0);
            self.generation = generation;
            return;
        }
    }

    async fn sync(&mut self) -> (i16, Bytes) {
        let request = sync_group::Request {
            group_id: self.group.clone().into(),
            generation_id: self.generation,
            member_id: self.id.clone().into(),
            assignments: vec![sync_group::RequestAssignment {
                member_id: self.id.clone().into(),
                assignment: Bytes::from_static(b"gets"),
            }],
            ..sync_group::Request::default()
        };
        ask!(self.client, near(self.version, 0..=5), request => sync_group::Response<'_>,
            |r| (r.error_code, r.assignment.clone()))
    }

    async fn beat(&mut self, generation: i32) -> i16 {
        let request = heartbeat::Request {
            group_id: self.group.clone().into(),
            generation_id: generation,
            member_id: self.id.clone().into(),
            ..heartbeat::Request::default()
        };
        ask!(self.client, near(self.version, 0..=4), request => heartbeat::Response,
            |r| r.error_code)
    }

    /// The codes of an offset of 7 for a partition that is there and one whose topic cannot be.
    async fn commit(&mut self) -> Vec<i16> {
        let by_id = 10 <= self.version;
        let topic = |name: &'static str, id| offset_commit::RequestTopic {
            name: if by_id { "".into() } else { name.into() },
            topic_id: if by_id { id } else { Uuid::nil() },
            partitions: vec![offset_commit::RequestPartition {
                committed_offset: 7,
                committed_leader_epoch: -1,
                committed_metadata: Some("note".into()),
                ..offset_commit::RequestPartition::default()
            }],
        };
        let request = offset_commit::Request {
            group_id: self.group.clone().into(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone().into(),
            topics: vec![topic("no/topic", Uuid::max()), topic("orders", self.topic)],
            ..offset_commit::Request::default()
        };
        ask!(self.client, near(self.version, 2..=10), request => offset_commit::Response<'_>,
            |r| r.topics.iter().map(|topic| topic.partitions[0].error_code).collect())
    }

    /// What is committed for both partitions of `orders`.
    async fn fetch(&mut self, all: bool) -> Vec<(i64, String)> {
        let version = near(self.version, 1..=10);
        if version < 8 {
            let topics = vec![offset_fetch::RequestTopic {
                name: "orders".into(),
                partition_indexes: vec![0, 1],
            }];
            let request = offset_fetch::Request {
                group_id: self.group.clone().into(),
                topics: (!all).then_some(topics),
                ..offset_fetch::Request::default()
            };
            return ask!(self.client, version, request => offset_fetch::Response<'_>, |r| {
                assert_eq!(r.error_code, 0);
                let found = |p: &offset_fetch::ResponsePartition<'_>| {
                    (p.committed_offset, p.metadata.clone().unwrap_or_default().into_owned())
                };
                r.topics.iter().flat_map(|topic| topic.partitions.iter().map(found)).collect()
            });
        }
        let by_id = 10 <= version;
        let topics = vec![offset_fetch::RequestTopics {
            name: if by_id { "".into() } else { "orders".into() },
            topic_id: if by_id { self.topic } else { Uuid::nil() },
            partition_indexes: vec![0, 1],
        }];
        let group = offset_fetch::RequestGroup {
            group_id: self.group.clone().into(),
            member_epoch: -1,
            topics: (!all).then_some(topics),
            ..offset_fetch::RequestGroup::default()
        };
        let request =
            offset_fetch::Request { groups: vec![group], ..offset_fetch::Request::default() };
        ask!(self.client, version, request => offset_fetch::Response<'_>, |r| {
            assert_eq!(r.groups[0].error_code, 0);
            let found = |p: &offset_fetch::ResponsePartitions<'_>| {
                (p.committed_offset, p.metadata.clone().unwrap_or_default().into_owned())
            };
            r.groups[0].topics.iter().flat_map(|t| t.partitions.iter().map(found)).collect()
        })
    }

    /// In version 10, all that is committed, by topic id, and what is said of an id that no topic has.
    async fn fetch_by_id(&mut self) -> (Vec<(Uuid, i32, i64)>, i16) {
        let group = |topics| offset_fetch::RequestGroup {
            group_id: self.group.clone().into(),
            member_epoch: -1,
            topics,
            ..offset_fetch::RequestGroup::default()
        };
        let stranger = offset_fetch::RequestTopics {
            topic_id: Uuid::max(),
            partition_indexes: vec![0],
            ..offset_fetch::RequestTopics::default()
        };
        let request = |topics| offset_fetch::Request {
            groups: vec![group(topics)],
            ..offset_fetch::Request::default()
        };
        let (all, strange) = (request(None), request(Some(vec![stranger])));
        let all = ask!(self.client, 10, all => offset_fetch::Response<'_>, |r| {
            let topics = r.groups[0].topics.iter();
            let found = |t: &offset_fetch::ResponseTopics<'_>| {
                let first = &t.partitions[0];
                (t.topic_id, first.partition_index, first.committed_offset)
            };
            topics.map(found).collect()
        });
        let code = ask!(self.client, 10, strange => offset_fetch::Response<'_>, |r| {
            assert_eq!(r.groups[0].topics[0].topic_id, Uuid::max());
            r.groups[0].topics[0].partitions[0].error_code
        });
        (all, code)
    }

    async fn describe(&mut self, group: &str) -> (i16, String, usize) {
        let request = describe_groups::Request {
            groups: vec![group.to_owned().into()],
            ..describe_groups::Request::default()
        };
        ask!(self.client, near(self.version, 0..=6), request => describe_groups::Response<'_>,
        |r| {
            let group = &r.groups[0];
            (group.error_code, group.group_state.to_string(), group.members.len())
        })
    }

    async fn list(&mut self) -> Vec<String> {
        let request = list_groups::Request::default();
        ask!(self.client, near(self.version, 0..=5), request => list_groups::Response<'_>,
            |r| r.groups.iter().map(|group| group.group_id.to_string()).collect())
    }

    async fn leave(&mut self) -> i16 {
        let version = near(self.version, 0..=5);
        let alone = version < 3;
        let member = leave_group::MemberIdentity {
            member_id: self.id.clone().into(),
            ..leave_group::MemberIdentity::default()
        };
        let request = leave_group::Request {
            group_id: self.group.clone().into(),
            member_id: if alone { self.id.clone().into() } else { "".into() },
            members: if alone { vec![] } else { vec![member] },
        };
        ask!(self.client, version, request => leave_group::Response<'_>,
            |r| r.members.first().map_or(r.error_code, |member| member.error_code))
    }

    async fn delete(&mut self) -> i16 {
        let groups_names = vec![self.group.clone().into()];
        ask!(self.client, near(self.version, 0..=2), delete_groups::Request { groups_names } =>
            delete_groups::Response<'_>, |r| r.results[0].error_code)
    }
}

#[tokio::test]
async fn a_member_lives_in_every_version() {
    let node = Node::start().await;
    for version in VERSIONS {
        let mut member = Member::new(&node, version).await;
        member.join().await;
        assert_eq!(member.generation, 1, "version {version}");
        assert_eq!(member.sync().await, (0, Bytes::from_static(b"gets")));
        assert_eq!(member.beat(1).await, 0);
        assert_eq!(member.beat(5).await, ErrorCode::IllegalGeneration.code());
        let unknown = match version {
            ..10 => ErrorCode::UnknownTopicOrPartition.code(),
            10.. => ErrorCode::UnknownTopicId.code(),
        };
        assert_eq!(member.commit().await, [unknown, 0], "version {version}");
        let committed = (7, "note".to_owned());
        assert_eq!(member.fetch(false).await, [committed.clone(), (-1, String::new())]);
        if 2 <= version {
            assert_eq!(member.fetch(true).await, [committed]);
        }
        if 10 <= version {
            let all = vec![(member.topic, 0, 7)];
            let unknown = ErrorCode::UnknownTopicId.code();
            assert_eq!(member.fetch_by_id().await, (all, unknown));
        }
        let own = member.group.clone();
        assert_eq!(member.describe(&own).await, (0, "Stable".to_owned(), 1));
        let missing = if version < 6 { 0 } else { ErrorCode::GroupIdNotFound.code() };
        assert_eq!(member.describe("nobody's").await, (missing, "Dead".to_owned(), 0));
        assert!(member.list().await.contains(&own));
        assert_eq!(member.delete().await, ErrorCode::NonEmptyGroup.code());
        assert_eq!(member.leave().await, 0);
        assert_eq!(member.leave().await, ErrorCode::UnknownMemberId.code());
        assert_eq!(member.delete().await, 0);
        assert_eq!(member.delete().await, ErrorCode::GroupIdNotFound.code());
    }
}

#[tokio::test]
async fn two_members_share_and_the_one_that_stays_takes_over() {
    let node = Node::start().await;
    let (mut first, mut second) = (Member::new(&node, 5).await, Member::new(&node, 5).await);
    first.join().await;
    assert_eq!(first.sync().await.0, 0);
    let joining = async {
        second.join().await;
        second
    };
    let rejoining = async {
        // It learns of the newcomer by its signs of life.
        while first.beat(first.generation).await != ErrorCode::RebalanceInProgress.code() {
            tokio::task::yield_now().await;
        }
        first.join().await;
        first
    };
    let (mut second, mut first) = tokio::join!(joining, rejoining);
    assert_eq!((first.generation, second.generation), (2, 2));
    let waiting = async { second.sync().await };
    let leading = async { first.sync().await };
    let (waiting, leading) = tokio::join!(waiting, leading);
    assert_eq!(leading, (0, Bytes::from_static(b"gets")));
    assert_eq!(waiting, (0, Bytes::new()), "the leader gave it nothing");
    assert_eq!(first.leave().await, 0);
    assert_eq!(second.beat(2).await, ErrorCode::RebalanceInProgress.code());
    second.join().await;
    assert_eq!(second.generation, 3);
}

/// The versions that this walk covers are those that the codec knows; `apis` sees to it that no more
/// are advertised.
#[test]
fn the_walk_covers_all_versions() {
    let newest = [
        *delete_groups::Request::VERSIONS.end(),
        *describe_groups::Request::VERSIONS.end(),
        *heartbeat::Request::VERSIONS.end(),
        *join_group::Request::VERSIONS.end(),
        *leave_group::Request::VERSIONS.end(),
        *list_groups::Request::VERSIONS.end(),
        *offset_commit::Request::VERSIONS.end(),
        *offset_fetch::Request::VERSIONS.end(),
        *sync_group::Request::VERSIONS.end(),
    ];
    assert_eq!(newest, [2, 6, 4, 9, 5, 5, 10, 10, 5]);
    assert_eq!(newest.into_iter().max(), Some(*VERSIONS.end()));
}
