//! Pure: the bytes of a snapshot of the root group.

use std::collections::BTreeMap;
use std::sync::Arc;

use rafka_core::NodeId;

use super::command::{
    decode_addresses, decode_flag, decode_group, decode_shards, encode_addresses,
};
use super::{Foundation, Member, Root, SessionEpoch};
use crate::codec::{Decoder, Encoder, Error};
use crate::partition::StorageEpoch;

/// The newest format version of a snapshot.
const VERSION: u8 = 2;

/// The first one with configs of groups.
const VERSION_GROUP_CONFIGS: u8 = 2;

impl Root {
    /// The whole state as bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        out.byte(u8::from(self.foundation.is_some()));
        if let Some(foundation) = self.foundation {
            out.uuid(foundation.cluster);
            out.unsigned(u64::from(foundation.shards.count()));
        }
        out.count(self.members.len());
        for (node, member) in &self.members {
            out.signed(i64::from(node.0));
            out.uuid(member.uuid);
            encode_addresses(&member.addresses, &mut out);
            out.unsigned(member.session.0);
            out.unsigned(u64::from(member.storage.0));
        }
        out.signed(i64::from(self.node_next));
        out.signed(self.producer_id_next);
        out.texts(&self.cluster_configs);
        out.count(self.node_configs.len());
        for (node, configs) in &self.node_configs {
            out.signed(i64::from(node.0));
            out.texts(configs);
        }
        out.count(self.group_configs.len());
        for (group, configs) in &*self.group_configs {
            out.text(group.as_str());
            out.texts(configs);
        }
        out.finish()
    }

    /// The state that the snapshot was taken of.
    ///
    /// # Errors
    /// If the bytes are not a snapshot, or of a newer version.
    pub fn restore(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Decoder::new(bytes, VERSION, "a snapshot of the root group")?;
        let foundation = if decode_flag(&mut from)? {
            Some(Foundation { cluster: from.uuid()?, shards: decode_shards(&mut from)? })
        } else {
            None
        };
        let mut members = BTreeMap::new();
        for _ in 0..from.count(20)? {
            let node = NodeId(from.narrow_signed()?);
            let member = Member {
                uuid: from.uuid()?,
                addresses: decode_addresses(&mut from)?,
                session: SessionEpoch(from.unsigned()?),
                storage: StorageEpoch(from.narrow()?),
            };
            members.insert(node, Arc::new(member));
        }
        let node_next = from.narrow_signed()?;
        let producer_id_next = from.signed()?;
        let cluster_configs = from.texts()?;
        let mut node_configs = BTreeMap::new();
        for _ in 0..from.count(2)? {
            let node = NodeId(from.narrow_signed()?);
            node_configs.insert(node, from.texts()?);
        }
        let mut group_configs = BTreeMap::new();
        if VERSION_GROUP_CONFIGS <= from.version() {
            for _ in 0..from.count(2)? {
                let group = decode_group(&mut from)?;
                group_configs.insert(group, from.texts()?);
            }
        }
        from.finish()?;
        let group_configs = Arc::new(group_configs);
        Ok(Self {
            foundation,
            members,
            node_next,
            producer_id_next,
            cluster_configs,
            node_configs,
            group_configs,
        })
    }
}
