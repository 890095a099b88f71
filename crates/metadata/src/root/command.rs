//! Pure: the commands of the root group and their bytes.

use std::collections::BTreeMap;

use rafka_core::{GroupId, NodeId};
use uuid::Uuid;

use super::{Address, Addresses};
use crate::codec::{Decoder, Encoder, Error};
use crate::group::ShardCount;

/// The newest format version of a command.
const VERSION: u8 = 2;

/// Something to agree on in the root group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Brings the cluster into being. Done once.
    Found {
        /// The cluster's id, drawn by the founder.
        cluster: Uuid,
        /// How many shards the topics are divided into, for good.
        shards: ShardCount,
    },
    /// Gives a node its id. Done again, it changes nothing.
    Join {
        /// The node's identity.
        uuid: Uuid,
    },
    /// A node started.
    BeginSession {
        /// The node.
        node: NodeId,
        /// Where it is reached from now on.
        addresses: Addresses,
        /// Whether its data directory still holds all that it promised to keep.
        is_intact: bool,
    },
    /// Gives a node the next block of producer ids.
    GrantProducerIds {
        /// The node.
        node: NodeId,
    },
    /// Sets (or removes, `None`) configs of one node, or of all (`None`).
    AlterConfigs {
        /// Whose.
        node: Option<NodeId>,
        /// What, by name.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Sets (or removes, `None`) configs of one consumer group.
    AlterGroupConfigs {
        /// Whose.
        group: GroupId,
        /// What, by name.
        changes: BTreeMap<String, Option<String>>,
    },
}

impl Command {
    /// The command as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        match self {
            Self::Found { cluster, shards } => {
                out.byte(0);
                out.uuid(*cluster);
                out.unsigned(u64::from(shards.count()));
            }
            Self::Join { uuid } => {
                out.byte(1);
                out.uuid(*uuid);
            }
            Self::BeginSession { node, addresses, is_intact } => {
                out.byte(2);
                out.signed(i64::from(node.0));
                encode_addresses(addresses, &mut out);
                out.byte(u8::from(*is_intact));
            }
            Self::GrantProducerIds { node } => {
                out.byte(3);
                out.signed(i64::from(node.0));
            }
            Self::AlterConfigs { node, changes } => {
                out.byte(4);
                encode_scope(*node, &mut out);
                encode_changes(changes, &mut out);
            }
            Self::AlterGroupConfigs { group, changes } => {
                out.byte(5);
                out.text(group.as_str());
                encode_changes(changes, &mut out);
            }
        }
        out.finish()
    }

    /// Reads a command.
    ///
    /// # Errors
    /// If the bytes are not one, or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Decoder::new(bytes, VERSION, "a command of the root group")?;
        let command = match from.byte()? {
            0 => Self::Found { cluster: from.uuid()?, shards: decode_shards(&mut from)? },
            1 => Self::Join { uuid: from.uuid()? },
            2 => Self::BeginSession {
                node: NodeId(from.narrow_signed()?),
                addresses: decode_addresses(&mut from)?,
                is_intact: decode_flag(&mut from)?,
            },
            3 => Self::GrantProducerIds { node: NodeId(from.narrow_signed()?) },
            4 => Self::AlterConfigs {
                node: decode_scope(&mut from)?,
                changes: decode_changes(&mut from)?,
            },
            5 => Self::AlterGroupConfigs {
                group: decode_group(&mut from)?,
                changes: decode_changes(&mut from)?,
            },
            _ => return Err(from.invalid("an unknown kind of command")),
        };
        from.finish()?;
        Ok(command)
    }
}

pub(super) fn decode_shards(from: &mut Decoder<'_>) -> Result<ShardCount, Error> {
    let count = from.narrow()?;
    ShardCount::new(count).map_err(|_count| from.invalid("an impossible number of shards"))
}

pub(super) fn decode_group(from: &mut Decoder<'_>) -> Result<GroupId, Error> {
    let id = from.text()?;
    GroupId::new(id).map_err(|_id| from.invalid("a bad group id"))
}

pub(crate) fn decode_flag(from: &mut Decoder<'_>) -> Result<bool, Error> {
    match from.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(from.invalid("a truth value above 1")),
    }
}

pub(super) fn encode_addresses(addresses: &Addresses, out: &mut Encoder) {
    out.count(addresses.len());
    for (listener, address) in addresses {
        out.text(listener);
        out.text(&address.host);
        out.unsigned(u64::from(address.port));
    }
}

pub(super) fn decode_addresses(from: &mut Decoder<'_>) -> Result<Addresses, Error> {
    let mut addresses = Addresses::new();
    for _ in 0..from.count(3)? {
        let listener = from.text()?.to_owned();
        let address = Address { host: from.text()?.to_owned(), port: from.narrow()? };
        if addresses.insert(listener, address).is_some() {
            return Err(from.invalid("a listener twice"));
        }
    }
    Ok(addresses)
}

fn encode_scope(node: Option<NodeId>, out: &mut Encoder) {
    out.byte(u8::from(node.is_some()));
    if let Some(node) = node {
        out.signed(i64::from(node.0));
    }
}

fn decode_scope(from: &mut Decoder<'_>) -> Result<Option<NodeId>, Error> {
    if decode_flag(from)? { Ok(Some(NodeId(from.narrow_signed()?))) } else { Ok(None) }
}

pub(crate) fn encode_changes(changes: &BTreeMap<String, Option<String>>, out: &mut Encoder) {
    out.count(changes.len());
    for (name, value) in changes {
        out.text(name);
        out.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            out.text(value);
        }
    }
}

pub(crate) fn decode_changes(
    from: &mut Decoder<'_>,
) -> Result<BTreeMap<String, Option<String>>, Error> {
    let mut changes = BTreeMap::new();
    for _ in 0..from.count(2)? {
        let name = from.text()?.to_owned();
        let value = if decode_flag(from)? { Some(from.text()?.to_owned()) } else { None };
        if changes.insert(name, value).is_some() {
            return Err(from.invalid("a name twice"));
        }
    }
    Ok(changes)
}
