//! Who leads a classic group, and what only a leader is told.

use bytes::Bytes;
use rafka_core::ErrorCode;
use rafka_kafka_wire::{heartbeat, join_group, sync_group};

use crate::support::{Client, LIMIT, Node, ask, body, header};

struct Member {
    client: Client,
    /// What it says that it wants.
    wants: &'static str,
    id: String,
    generation: i32,
}

/// The leader, and the members that were told of with what they want.
type Told = (String, Vec<(String, Bytes)>);

impl Member {
    /// Is given an id.
    async fn new(node: &Node, wants: &'static str) -> Self {
        let client = node.connect().await;
        let mut member = Self { client, wants, id: String::new(), generation: -1 };
        member.id = ask!(member.client, 9, member.joining(9) => join_group::Response<'_>, |r| {
            assert_eq!(r.error_code, ErrorCode::MemberIdRequired.code());
            r.member_id.to_string()
        });
        member
    }

    fn joining(&self, version: i16) -> join_group::Request<'static> {
        join_group::Request {
            group_id: "g".into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: if version < 1 { -1 } else { 60_000 },
            member_id: self.id.clone().into(),
            protocol_type: "consumer".into(),
            protocols: vec![join_group::RequestProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(self.wants.as_bytes()),
            }],
            ..join_group::Request::default()
        }
    }

    async fn ask_to_join(&mut self, version: i16) {
        let request = self.joining(version);
        self.client.send(version, &request).await;
    }

    async fn joined(&mut self, version: i16) -> Told {
        let mut frame = self.client.frame().await.expect("answered");
        header::<join_group::Response<'_>>(version, &mut frame);
        let response: join_group::Response<'_> = body(version, &frame);
        assert_eq!((response.error_code, &*response.member_id), (0, &*self.id));
        self.generation = response.generation_id;
        let members = response.members.iter();
        let members = members.map(|one| (one.member_id.to_string(), one.metadata.clone()));
        let mut members: Vec<_> = members.collect();
        members.sort();
        (response.leader.to_string(), members)
    }

    async fn sync(&mut self) -> i16 {
        let request = sync_group::Request {
            group_id: "g".into(),
            generation_id: self.generation,
            member_id: self.id.clone().into(),
            ..sync_group::Request::default()
        };
        ask!(self.client, 3, request => sync_group::Response<'_>, |r| r.error_code)
    }

    /// Shows life until the group asks its members to join again.
    async fn await_rebalance(&mut self) {
        let request = heartbeat::Request {
            group_id: "g".into(),
            generation_id: self.generation,
            member_id: self.id.clone().into(),
            ..heartbeat::Request::default()
        };
        let awaited = async {
            loop {
                let code = ask!(self.client, 3, request => heartbeat::Response, |r| r.error_code);
                if code == ErrorCode::RebalanceInProgress.code() {
                    return;
                }
                assert_eq!(code, 0);
            }
        };
        tokio::time::timeout(LIMIT, awaited).await.expect("the group turns to the next generation");
    }
}

#[tokio::test]
async fn only_the_leader_is_told_who_the_members_are() {
    let node = Node::start().await;
    let mut leader = Member::new(&node, "this").await;
    leader.ask_to_join(9).await;
    let alone = vec![(leader.id.clone(), Bytes::from_static(b"this"))];
    assert_eq!(leader.joined(9).await, (leader.id.clone(), alone));
    assert_eq!(leader.sync().await, 0);
    let mut other = Member::new(&node, "that").await;
    let mut all = vec![
        (leader.id.clone(), Bytes::from_static(b"this")),
        (other.id.clone(), Bytes::from_static(b"that")),
    ];
    all.sort();
    for version in 0..=9 {
        // First by a member that is new, then by the leader, who may ask for another round.
        if version == 0 {
            other.ask_to_join(version).await;
            leader.await_rebalance().await;
            leader.ask_to_join(version).await;
        } else {
            leader.ask_to_join(version).await;
            other.await_rebalance().await;
            other.ask_to_join(version).await;
        }
        assert_eq!(leader.joined(version).await, (leader.id.clone(), all.clone()));
        let told = other.joined(version).await;
        assert_eq!(told, (leader.id.clone(), vec![]), "version {version}");
        assert_eq!(leader.generation, other.generation);
        assert_eq!((leader.sync().await, other.sync().await), (0, 0));
    }
}
