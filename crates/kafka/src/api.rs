//! The APIs that are served: which, in which versions, and by whom.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod assignment;
mod common;
mod configs;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod describe_transactions;
mod elect_leaders;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod txn_offset_commit;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;

use rafka_broker::Room;
use rafka_kafka_wire::{ApiKey, Frame, Message, Reader, RequestHeader, ResponseHeader, Writer};

use tokio::sync::OwnedSemaphorePermit;

use crate::connection::Closed;
use crate::gateway::Gateway;
use crate::intake::Received;
use crate::session::Session;

/// An API that is served.
#[derive(Debug)]
pub(crate) struct Api {
    key: ApiKey,
    versions: RangeInclusive<i16>,
    /// What clients are told of the oldest version.
    advertised_min: i16,
}

impl Api {
    const fn new(key: ApiKey, versions: RangeInclusive<i16>) -> Self {
        let advertised_min = *versions.start();
        Self { key, versions, advertised_min }
    }
}

/// How many APIs are served.
pub(crate) const COUNT: usize = 41;

/// Everything that is served. What is not here is not advertised.
const APIS: [&Api; COUNT] = [
    &produce::API,
    &fetch::API,
    &list_offsets::API,
    &metadata::API,
    &offset_commit::API,
    &offset_fetch::API,
    &find_coordinator::API,
    &join_group::API,
    &heartbeat::API,
    &leave_group::API,
    &sync_group::API,
    &describe_groups::API,
    &list_groups::API,
    &api_versions::API,
    &create_topics::API,
    &delete_topics::API,
    &delete_records::API,
    &init_producer_id::API,
    &offset_for_leader_epoch::API,
    &add_partitions_to_txn::API,
    &add_offsets_to_txn::API,
    &end_txn::API,
    &txn_offset_commit::API,
    &describe_configs::API,
    &describe_log_dirs::API,
    &create_partitions::API,
    &delete_groups::API,
    &elect_leaders::API,
    &incremental_alter_configs::API,
    &alter_partition_reassignments::API,
    &list_partition_reassignments::API,
    &describe_cluster::API,
    &consumer_group_heartbeat::API,
    &consumer_group_describe::API,
    &alter_configs::API,
    &offset_delete::API,
    &describe_producers::API,
    &describe_transactions::API,
    &list_transactions::API,
    &list_config_resources::API,
    &describe_topic_partitions::API,
];

/// What a client gets.
pub(crate) enum Answer {
    Frame {
        frame: Frame,
        /// Room for what was read for it, until it is sent.
        room: Option<OwnedSemaphorePermit>,
    },
    /// A produce request that wants no acknowledgement gets no answer at all.
    Nothing,
}

/// A request that was begun.
pub(crate) enum Started {
    Answered(Answer),
    /// It has taken its place in the order of appends.
    Waits {
        /// Comes when it is acknowledged.
        answer: Pin<Box<dyn Future<Output = Result<Answer, Closed>> + Send>>,
        /// Of the request, until then.
        room: Room,
    },
}

/// Who asked what, in which version.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    /// What the client calls itself.
    client_id: String,
    peer: SocketAddr,
}

impl Context {
    /// Reads the request.
    fn read<'a, M: Message<'a>>(&self, reader: &mut Reader<'a>) -> Result<M, Closed> {
        let (api, version) = (self.key.name(), self.version);
        M::decode(version, reader).map_err(|cause| Closed::Malformed { api, version, cause })
    }

    /// Writes the answer.
    fn answer<'a, M: Message<'a>>(&self, response: &M) -> Result<Answer, Closed> {
        self.answer_in(self.version, response)
    }

    fn answer_in<'a, M: Message<'a>>(&self, version: i16, response: &M) -> Result<Answer, Closed> {
        let mut out = Writer::new();
        ResponseHeader { correlation_id: self.correlation_id }.encode(self.key, version, &mut out);
        let written = response.encode(version, &mut out).and_then(|()| out.finish());
        let api = self.key.name();
        written
            .map(|frame| Answer::Frame { frame, room: None })
            .map_err(|cause| Closed::Unwritable { api, version, cause })
    }

    /// Where it came from, as groups show it: Kafka's form, a slash and the address.
    fn client_host(&self) -> String {
        format!("/{}", self.peer.ip().to_canonical())
    }

    fn unsupported(&self) -> Closed {
        Closed::Unsupported { api: self.key.name(), version: self.version }
    }
}

/// What the APIs are called, in the order that they are listed in.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    APIS.iter().map(|api| api.key.name())
}

/// The versions that are served of an API.
#[cfg(test)]
pub(crate) fn served(key: i16) -> Option<RangeInclusive<i16>> {
    APIS.iter().find(|api| api.key as i16 == key).map(|api| api.versions.clone())
}

/// Whether the request is one of those that wait for their acknowledgements together.
pub(crate) fn is_produce(frame: &[u8]) -> bool {
    frame.starts_with(&ApiKey::Produce.code().to_be_bytes())
}

/// Begins a request, and carries it out unless it is one to produce.
pub(crate) async fn start(
    gateway: &Gateway,
    peer: SocketAddr,
    session: &mut Option<Session>,
    Received { frame, room }: Received,
) -> Result<Started, Closed> {
    let mut reader = Reader::new(&frame).tolerant();
    let header = RequestHeader::decode(&mut reader).map_err(Closed::Header)?;
    let context = Context {
        key: header.key,
        version: header.version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.unwrap_or_default().into_owned(),
        peer,
    };
    let Some(index) = APIS.iter().position(|api| api.key == header.key) else {
        return Err(context.unsupported());
    };
    gateway.stats.requests[index].add(1);
    if !APIS[index].versions.contains(&header.version) {
        // A client has to learn the versions before it can ask for one of them.
        if header.key == ApiKey::ApiVersions {
            return api_versions::refuse(&context).map(Started::Answered);
        }
        return Err(context.unsupported());
    }
    if header.key == ApiKey::Produce {
        return produce::start(gateway, context, reader, room).await;
    }
    if header.key == ApiKey::Fetch {
        let asked = fetch::ask(&context, session, reader)?;
        // A reader may wait for minutes, and needs its request no more.
        drop((frame, room));
        return fetch::answer(gateway, &context, session, asked).await.map(Started::Answered);
    }
    answer(gateway, &context, reader).await.map(Started::Answered)
}

async fn answer(
    gateway: &Gateway,
    context: &Context,
    reader: Reader<'_>,
) -> Result<Answer, Closed> {
    match context.key {
        ApiKey::ListOffsets => list_offsets::answer(gateway, context, reader).await,
        ApiKey::Metadata => metadata::answer(gateway, context, reader).await,
        ApiKey::OffsetCommit => offset_commit::answer(gateway, context, reader).await,
        ApiKey::OffsetFetch => offset_fetch::answer(gateway, context, reader).await,
        ApiKey::JoinGroup => join_group::answer(gateway, context, reader).await,
        ApiKey::Heartbeat => heartbeat::answer(gateway, context, reader).await,
        ApiKey::LeaveGroup => leave_group::answer(gateway, context, reader).await,
        ApiKey::SyncGroup => sync_group::answer(gateway, context, reader).await,
        ApiKey::DescribeGroups => describe_groups::answer(gateway, context, reader).await,
        ApiKey::ListGroups => list_groups::answer(gateway, context, reader).await,
        ApiKey::ConsumerGroupHeartbeat => {
            consumer_group_heartbeat::answer(gateway, context, reader).await
        }
        ApiKey::ConsumerGroupDescribe => {
            consumer_group_describe::answer(gateway, context, reader).await
        }
        ApiKey::DeleteGroups => delete_groups::answer(gateway, context, reader).await,
        ApiKey::CreateTopics => create_topics::answer(gateway, context, reader).await,
        ApiKey::DeleteTopics => delete_topics::answer(gateway, context, reader).await,
        ApiKey::CreatePartitions => create_partitions::answer(gateway, context, reader).await,
        ApiKey::DeleteRecords => delete_records::answer(gateway, context, reader).await,
        ApiKey::IncrementalAlterConfigs => {
            incremental_alter_configs::answer(gateway, context, reader).await
        }
        ApiKey::DescribeConfigs => describe_configs::answer(gateway, context, reader),
        ApiKey::DescribeCluster => describe_cluster::answer(gateway, context, reader),
        ApiKey::FindCoordinator => find_coordinator::answer(gateway, context, reader),
        ApiKey::ApiVersions => api_versions::answer(context, reader),
        ApiKey::InitProducerId => init_producer_id::answer(gateway, context, reader).await,
        ApiKey::AddPartitionsToTxn => add_partitions_to_txn::answer(gateway, context, reader).await,
        ApiKey::AddOffsetsToTxn => add_offsets_to_txn::answer(gateway, context, reader).await,
        ApiKey::TxnOffsetCommit => txn_offset_commit::answer(gateway, context, reader).await,
        ApiKey::EndTxn => end_txn::answer(gateway, context, reader).await,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::answer(gateway, context, reader),
        ApiKey::AlterConfigs => alter_configs::answer(gateway, context, reader).await,
        ApiKey::DescribeLogDirs => describe_log_dirs::answer(gateway, context, reader).await,
        ApiKey::ElectLeaders => elect_leaders::answer(gateway, context, reader),
        ApiKey::AlterPartitionReassignments => {
            alter_partition_reassignments::answer(gateway, context, reader)
        }
        ApiKey::ListPartitionReassignments => list_partition_reassignments::answer(context, reader),
        ApiKey::OffsetDelete => offset_delete::answer(gateway, context, reader).await,
        ApiKey::DescribeProducers => describe_producers::answer(gateway, context, reader),
        ApiKey::DescribeTransactions => {
            describe_transactions::answer(gateway, context, reader).await
        }
        ApiKey::ListConfigResources => list_config_resources::answer(gateway, context, reader),
        ApiKey::ListTransactions => list_transactions::answer(gateway, context, reader).await,
        ApiKey::DescribeTopicPartitions => {
            describe_topic_partitions::answer(gateway, context, reader)
        }
        _ => Err(context.unsupported()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_is_listed_once_and_can_be_written_in_all_its_versions() {
        for (index, api) in APIS.iter().enumerate() {
            let again = APIS[index + 1..].iter().any(|other| other.key == api.key);
            assert!(!again, "{:?} twice", api.key);
            let known = api.key.versions();
            assert!(known.contains(api.versions.start()), "{api:?}");
            assert!(known.contains(api.versions.end()), "{api:?}");
            assert!(api.advertised_min <= *api.versions.start(), "{api:?}");
        }
    }

    /// The rows of the reference's table: each API with its versions. Rows may name several.
    fn documented() -> Vec<(String, String)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/kafka.md");
        let page = std::fs::read_to_string(path).expect("the page exists");
        let rows = page.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let mut all = Vec::new();
        for row in rows.take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let names: Vec<&str> = cells[1].split(", ").collect();
            let mut versions: Vec<&str> = cells[2].split(", ").collect();
            if versions.len() == 1 {
                versions = versions.repeat(names.len());
            }
            assert_eq!(names.len(), versions.len(), "{row}");
            all.extend(names.iter().zip(versions).map(|(n, v)| ((*n).to_owned(), v.to_owned())));
        }
        all
    }

    #[test]
    fn the_reference_names_what_is_served_in_which_versions() {
        let versions = |api: &Api| match (api.versions.start(), api.versions.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        };
        let mut served: Vec<(String, String)> =
            APIS.iter().map(|api| (api.key.name().to_owned(), versions(api))).collect();
        let mut documented = documented();
        served.sort();
        documented.sort();
        assert_eq!(documented, served, "docs/reference/kafka.md");
    }
}
