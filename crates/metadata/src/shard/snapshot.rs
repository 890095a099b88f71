//! Pure: the bytes of a snapshot of a shard.

use std::sync::Arc;

use rafka_core::{NodeId, TopicId};

use super::command::{decode_nodes, encode_nodes};
use super::{Folded, Shard};
use crate::codec::{Decoder, Encoder, Error};
use crate::root::SessionEpoch;
use crate::topic::Topic;

/// What a deleted topic takes at least: its id and a count.
const DELETED_MIN: usize = 17;

/// The newest format version of a snapshot.
const VERSION: u8 = 2;

impl Shard {
    /// The whole state as bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        out.count(self.sessions.len());
        for (node, session) in &self.sessions {
            out.signed(i64::from(node.0));
            out.unsigned(session.0);
        }
        out.count(self.topics.size());
        for topic in self.topics.values() {
            topic.encode(&mut out);
        }
        out.count(self.deleted.size());
        for (topic, holders) in &self.deleted {
            out.uuid(topic.0);
            encode_nodes(holders, &mut out);
        }
        out.finish()
    }

    /// The state that the snapshot was taken of.
    ///
    /// # Errors
    /// If the bytes are not a snapshot, or of a newer version.
    pub fn restore(bytes: &[u8]) -> Result<Self, Error> {
        let mut from = Decoder::new(bytes, VERSION, "a snapshot of a shard")?;
        let mut shard = Self::default();
        for _ in 0..from.count(2)? {
            let node = NodeId(from.narrow_signed()?);
            shard.sessions.insert(node, SessionEpoch(from.unsigned()?));
        }
        for _ in 0..from.count(Topic::ENCODED_MIN)? {
            let topic = Topic::decode(&mut from)?;
            let is_repeated = shard.names.contains_key(&topic.id)
                || shard.topics.contains_key(&Folded(topic.name.clone()));
            if is_repeated {
                return Err(from.invalid("a topic twice"));
            }
            shard.insert(Arc::new(topic));
        }
        // Version 1 forgot deleted topics at once.
        let deleted = if from.version() < 2 { 0 } else { from.count(DELETED_MIN)? };
        for _ in 0..deleted {
            let topic = TopicId(from.uuid()?);
            shard.deleted.insert_mut(topic, decode_nodes(&mut from)?);
        }
        from.finish()?;
        Ok(shard)
    }
}
