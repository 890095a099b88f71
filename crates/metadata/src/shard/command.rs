//! Pure: the commands of a shard and their bytes.

use std::collections::BTreeMap;

use rafka_core::{NodeId, PartitionIndex, TopicId, TopicName};
use smallvec::SmallVec;

use crate::codec::{Decoder, Encoder, Error};
use crate::partition::{
    Assignment, PartitionEpoch, REPLICAS_MAX, Replicas, StorageEpoch, decode_replicas,
    encode_replicas,
};
use crate::root::{SessionEpoch, decode_changes, decode_flag, encode_changes};

/// The newest format version of a command.
const VERSION: u8 = 2;

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its identity, drawn by the proposer.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its configs, checked by the proposer.
    pub configs: BTreeMap<String, String>,
    /// The replicas of each partition, the leader first.
    pub partitions: Vec<Replicas>,
}

/// A change of one partition: done only if it is still as the proposer saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionChange {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The epoch at which the proposer saw it.
    pub expected: PartitionEpoch,
    /// What it is to be.
    pub to: Assignment,
    /// Whether a leader that may miss acked records is meant.
    pub is_unclean: bool,
}

/// Something to agree on in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Creates a topic.
    CreateTopic(NewTopic),
    /// Deletes a topic.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// Sets (or removes, `None`) configs of a topic, checked by the proposer.
    AlterConfigs {
        /// The topic.
        topic: TopicId,
        /// What, by name.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Adds partitions to a topic.
    AddPartitions {
        /// The topic.
        topic: TopicId,
        /// How many it has afterwards: a second such command is not done by mistake.
        total: u32,
        /// The replicas of each new partition, the leader first.
        added: Vec<Replicas>,
    },
    /// Changes replicas, in-sync set or leader of a partition.
    ChangePartition(PartitionChange),
    /// A node started: its leaderships end, or go on under new epochs.
    BeginSession {
        /// The node.
        node: NodeId,
        /// The session that the root group gave it.
        session: SessionEpoch,
        /// The life of its data that the root group told.
        storage: StorageEpoch,
    },
    /// A node holds nothing any more of topics that were deleted.
    LogsDeleted {
        /// The node.
        node: NodeId,
        /// The topics.
        topics: Vec<TopicId>,
    },
}

impl Command {
    /// The command as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        match self {
            Self::CreateTopic(topic) => {
                out.byte(0);
                out.uuid(topic.id.0);
                out.text(topic.name.as_str());
                out.texts(&topic.configs);
                encode_all(&topic.partitions, &mut out);
            }
            Self::DeleteTopic { topic } => {
                out.byte(1);
                out.uuid(topic.0);
            }
            Self::AlterConfigs { topic, changes } => {
                out.byte(2);
                out.uuid(topic.0);
                encode_changes(changes, &mut out);
            }
            Self::AddPartitions { topic, total, added } => {
                out.byte(3);
                out.uuid(topic.0);
                out.unsigned(u64::from(*total));
                encode_all(added, &mut out);
            }
            Self::ChangePartition(change) => {
                out.byte(4);
                encode_change(change, &mut out);
            }
            Self::BeginSession { node, session, storage } => {
                out.byte(5);
                out.signed(i64::from(node.0));
                out.unsigned(session.0);
                out.unsigned(u64::from(storage.0));
            }
            Self::LogsDeleted { node, topics } => {
                out.byte(6);
                out.signed(i64::from(node.0));
                out.count(topics.len());
                topics.iter().for_each(|topic| out.uuid(topic.0));
            }
        }
        out.finish()
    }

    /// Reads a command.
    ///
    /// # Errors
    /// If the bytes are not one, or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Decoder::new(bytes, VERSION, "a command of a shard")?;
        let command = match from.byte()? {
            0 => Self::CreateTopic(decode_topic(&mut from)?),
            1 => Self::DeleteTopic { topic: TopicId(from.uuid()?) },
            2 => Self::AlterConfigs {
                topic: TopicId(from.uuid()?),
                changes: decode_changes(&mut from)?,
            },
            3 => Self::AddPartitions {
                topic: TopicId(from.uuid()?),
                total: from.narrow()?,
                added: decode_all(&mut from)?,
            },
            4 => Self::ChangePartition(decode_change(&mut from)?),
            5 => Self::BeginSession {
                node: NodeId(from.narrow_signed()?),
                session: SessionEpoch(from.unsigned()?),
                storage: StorageEpoch(from.narrow()?),
            },
            6 => Self::LogsDeleted {
                node: NodeId(from.narrow_signed()?),
                topics: decode_topics(&mut from)?,
            },
            _ => return Err(from.invalid("an unknown kind of command")),
        };
        from.finish()?;
        Ok(command)
    }
}

fn encode_all(partitions: &[Replicas], out: &mut Encoder) {
    out.count(partitions.len());
    for replicas in partitions {
        encode_replicas(replicas, out);
    }
}

fn decode_all(from: &mut Decoder<'_>) -> Result<Vec<Replicas>, Error> {
    // A decoded entry takes up to 32 times its bytes: the list grows as it is read.
    let count = from.count(1)?;
    (0..count).map(|_| decode_replicas(from)).collect()
}

fn decode_topics(from: &mut Decoder<'_>) -> Result<Vec<TopicId>, Error> {
    let count = from.count(16)?;
    (0..count).map(|_| from.uuid().map(TopicId)).collect()
}

fn decode_topic(from: &mut Decoder<'_>) -> Result<NewTopic, Error> {
    let id = TopicId(from.uuid()?);
    let name = TopicName::new(from.text()?).map_err(|_name| from.invalid("a bad topic name"))?;
    Ok(NewTopic { id, name, configs: from.texts()?, partitions: decode_all(from)? })
}

fn encode_change(change: &PartitionChange, out: &mut Encoder) {
    out.uuid(change.topic.0);
    out.signed(i64::from(change.partition.0));
    out.signed(i64::from(change.expected.0));
    out.byte(u8::from(change.is_unclean));
    encode_replicas(&change.to.replicas, out);
    for nodes in [&change.to.adding, &change.to.removing, &change.to.isr, &change.to.elr] {
        encode_nodes(nodes, out);
    }
    encode_nodes(change.to.leader.as_slice(), out);
}

fn decode_change(from: &mut Decoder<'_>) -> Result<PartitionChange, Error> {
    Ok(PartitionChange {
        topic: TopicId(from.uuid()?),
        partition: PartitionIndex(from.narrow_signed()?),
        expected: PartitionEpoch(from.narrow_signed()?),
        is_unclean: decode_flag(from)?,
        to: Assignment {
            replicas: decode_replicas(from)?,
            adding: decode_nodes(from)?,
            removing: decode_nodes(from)?,
            isr: decode_nodes(from)?,
            elr: decode_nodes(from)?,
            leader: decode_leader(from)?,
        },
    })
}

pub(super) fn encode_nodes(nodes: &[NodeId], out: &mut Encoder) {
    out.count(nodes.len());
    for node in nodes {
        out.signed(i64::from(node.0));
    }
}

pub(super) fn decode_nodes(from: &mut Decoder<'_>) -> Result<SmallVec<[NodeId; 3]>, Error> {
    let count = from.count(1)?;
    if REPLICAS_MAX < count {
        return Err(from.invalid("more than 16 nodes"));
    }
    (0..count).map(|_| from.narrow_signed().map(NodeId)).collect()
}

fn decode_leader(from: &mut Decoder<'_>) -> Result<Option<NodeId>, Error> {
    match decode_nodes(from)?.as_slice() {
        [] => Ok(None),
        [leader] => Ok(Some(*leader)),
        _ => Err(from.invalid("two leaders")),
    }
}
