//! What transactional producers ask beside producing.

use std::sync::Arc;
use std::time::Duration;

use rafka_core::{Offset, ProducerEpoch, ProducerId};
use rafka_proto::v1;

use crate::client::Client;
use crate::convert::check;
use crate::error::Error;
use crate::node::Node;
use crate::view::TopicPartition;

/// The most offsets in one request.
const OFFSETS_PER_CALL: usize = 10_000;

/// The calls of transactional producers. Cheap to clone.
///
/// Every call tries again as the client's settings say; each may be repeated after any failure.
#[derive(Debug, Clone)]
pub struct Transactions {
    client: Client,
}

impl Transactions {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Takes a transactional id over. Whoever had it before is fenced, and what that one had open is
    /// aborted.
    ///
    /// # Errors
    /// If no node answers in time, or the id or the timeout is refused.
    ///
    /// # Cancel safety
    /// Dropped, whoever had the id may be fenced.
    pub async fn init_producer_id(
        &self,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<(ProducerId, ProducerEpoch), Error> {
        let request = v1::InitProducerIdRequest {
            transactional_id: Some(transactional_id.to_owned()),
            transaction_timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        };
        self.init(&subject(transactional_id), request).await
    }

    pub(crate) async fn init(
        &self,
        subject: &str,
        request: v1::InitProducerIdRequest,
    ) -> Result<(ProducerId, ProducerEpoch), Error> {
        let operation = "get a producer id";
        let ask = |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let answer = node.ask(operation, node.admin().init_producer_id(request)).await?;
                check(subject, answer.error.as_ref())?;
                Ok(answer)
            }
        };
        let answer = self.client.call(operation, ask).await?;
        identity(operation, answer.producer_id, answer.producer_epoch)
    }

    /// Ends a transaction. Returns who the producer is from then on.
    ///
    /// # Errors
    /// If no node answers in time: it may have been ended, and the same call tells. Kafka's codes 48
    /// if there is nothing to end so, 47 and 90 if another producer has the id or the transaction
    /// took too long.
    ///
    /// # Cancel safety
    /// Dropped, the transaction may still be ended.
    pub async fn end(
        &self,
        transactional_id: &str,
        producer: (ProducerId, ProducerEpoch),
        commit: bool,
    ) -> Result<(ProducerId, ProducerEpoch), Error> {
        let operation = if commit { "commit a transaction" } else { "abort a transaction" };
        let request = v1::EndTransactionRequest {
            transactional_id: transactional_id.to_owned(),
            producer_id: producer.0.0,
            producer_epoch: i32::from(producer.1.0),
            commit,
        };
        let subject = subject(transactional_id);
        let ask = |node: Arc<Node>| {
            let (request, subject) = (request.clone(), &subject);
            async move {
                let mut transactions = node.transactions();
                let answer = node.ask(operation, transactions.end_transaction(request)).await?;
                check(subject, answer.error.as_ref())?;
                Ok(answer)
            }
        };
        let answer = self.client.call(operation, ask).await?;
        identity(operation, answer.producer_id, answer.producer_epoch)
    }

    /// Makes offsets of a group part of the producer's transaction: they count once it is committed.
    ///
    /// # Errors
    /// If no node answers in time: they may have become part of it, and the same call tells. Kafka's
    /// codes 22, 25 and 82 if the group has gone on without the member, 47 and 90 if another producer
    /// has the id or the transaction took too long, and those of a partition.
    ///
    /// # Cancel safety
    /// Dropped, the offsets may still become part of the transaction.
    pub async fn commit_offsets(
        &self,
        transactional_id: &str,
        producer: (ProducerId, ProducerEpoch),
        group: &GroupMetadata,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), Error> {
        for some in offsets.chunks(OFFSETS_PER_CALL) {
            let offset = |(partition, offset): &(TopicPartition, Offset)| v1::OffsetToCommit {
                topic: partition.topic.to_string(),
                partition: partition.partition.0,
                offset: offset.0,
                leader_epoch: None,
                metadata: String::new(),
            };
            let request = v1::CommitOffsetsInTransactionRequest {
                transactional_id: transactional_id.to_owned(),
                producer_id: producer.0.0,
                producer_epoch: i32::from(producer.1.0),
                commit: Some(v1::CommitOffsetsRequest {
                    group: group.group.clone(),
                    generation: group.generation,
                    member_id: group.member_id.clone(),
                    instance_id: group.instance_id.clone(),
                    offsets: some.iter().map(offset).collect(),
                }),
            };
            self.commit_some(request, &group.group).await?;
        }
        Ok(())
    }

    async fn commit_some(
        &self,
        request: v1::CommitOffsetsInTransactionRequest,
        group: &str,
    ) -> Result<(), Error> {
        let operation = "commit offsets in a transaction";
        let ask = |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let mut transactions = node.transactions();
                let answer = node.ask(operation, transactions.commit_offsets(request)).await?;
                check(format_args!("group {group}"), answer.error.as_ref())?;
                for result in &answer.partitions {
                    let subject = format_args!("{}/{}", result.topic, result.partition);
                    check(subject, result.error.as_ref())?;
                }
                Ok(())
            }
        };
        self.client.call(operation, ask).await
    }
}

/// Who a consumer is in its group: so the group knows whether it is still a member when a producer
/// commits offsets for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// The group.
    pub group: String,
    /// The member; empty for who is in no group, and may commit whoever its members are.
    pub member_id: String,
    /// The generation it is in; -1 for who is in no group.
    pub generation: i32,
    /// Its static identity.
    pub instance_id: Option<String>,
}

impl GroupMetadata {
    /// Of who is not a member: a consumer of partitions that were assigned by hand.
    #[must_use]
    pub fn outside(group: impl Into<String>) -> Self {
        let (group, member_id) = (group.into(), String::new());
        Self { group, member_id, generation: -1, instance_id: None }
    }
}

fn subject(transactional_id: &str) -> String {
    format!("transactional id {transactional_id}")
}

fn identity(
    operation: &'static str,
    id: i64,
    epoch: i32,
) -> Result<(ProducerId, ProducerEpoch), Error> {
    match i16::try_from(epoch) {
        Ok(known @ 0..) if 0 <= id => Ok((ProducerId(id), ProducerEpoch(known))),
        _ => Err(Error::Malformed { operation, what: format!("id {id}, epoch {epoch}") }),
    }
}
