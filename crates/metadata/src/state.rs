//! Pure: all groups together: a command goes to the group that it is addressed to.

use std::sync::Arc;

use rafka_core::{TopicId, TopicName};

use crate::codec;
use crate::effect::Effect;
use crate::group::{Group, ShardIndex};
use crate::refused::Refused;
use crate::root::{self, Root};
use crate::shard::{self, Shard};

/// Something to agree on, with the group that has to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// For the root group.
    Root(root::Command),
    /// For a shard.
    Shard(ShardIndex, shard::Command),
}

impl Command {
    /// The group that it is for.
    #[must_use]
    pub fn group(&self) -> Group {
        match self {
            Self::Root(_) => Group::Root,
            Self::Shard(shard, _) => Group::Shard(*shard),
        }
    }

    /// The command as bytes, without its address.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Root(command) => command.encode(),
            Self::Shard(_, command) => command.encode(),
        }
    }

    /// Reads a command that was addressed to `group`.
    ///
    /// # Errors
    /// If the bytes are not one, or of a newer version.
    pub fn decode(group: Group, bytes: &[u8]) -> Result<Self, codec::Error> {
        match group {
            Group::Root => root::Command::decode(bytes).map(Self::Root),
            Group::Shard(shard) => {
                shard::Command::decode(bytes).map(|command| Self::Shard(shard, command))
            }
        }
    }
}

/// The state of every group. A clone is cheap: it shares all that is large.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    root: Arc<Root>,
    shards: Vec<Arc<Shard>>,
}

impl State {
    /// The root group.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The shards, by index. None before the founding.
    #[must_use]
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// The groups there are.
    pub fn groups(&self) -> impl Iterator<Item = Group> + use<> {
        let shards = self.root.foundation().map(|foundation| foundation.shards);
        let shards = shards.into_iter().flat_map(|count| count.shards().map(Group::Shard));
        std::iter::once(Group::Root).chain(shards)
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<&Arc<crate::Topic>> {
        let shard = self.root.foundation()?.shards.shard_of(name);
        self.shards.get(usize::from(shard.0))?.topic(name)
    }

    /// The topic with this id and its shard. Asks every shard: an id does not tell its own.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<(ShardIndex, &Arc<crate::Topic>)> {
        let shards = (0..).map(ShardIndex).zip(&self.shards);
        shards.into_iter().find_map(|(index, shard)| Some((index, shard.topic_by_id(id)?)))
    }

    /// Has the addressed group do what the command says, or say why not and change nothing.
    ///
    /// # Errors
    /// If there is no such group, or it refuses.
    pub fn apply(&mut self, command: &Command) -> Result<Vec<Effect>, Refused> {
        match command {
            Command::Root(command) => {
                let effects = Arc::make_mut(&mut self.root).apply(command)?;
                self.make_shards();
                Ok(effects)
            }
            Command::Shard(index, command) => {
                let foundation = self.root.foundation().ok_or(Refused::NotFounded)?;
                if let shard::Command::CreateTopic(topic) = command
                    && foundation.shards.shard_of(&topic.name) != *index
                {
                    let name = topic.name.clone();
                    return Err(Refused::WrongShard { name, shard: *index });
                }
                let shard = self.shards.get_mut(usize::from(index.0));
                Arc::make_mut(shard.ok_or(Refused::UnknownShard(*index))?).apply(command)
            }
        }
    }

    /// Takes up a group from its snapshot. The root comes first.
    ///
    /// # Errors
    /// If the bytes are not a snapshot of the group, or there is no such group.
    pub fn restore(&mut self, group: Group, snapshot: &[u8]) -> Result<(), RestoreError> {
        match group {
            Group::Root => {
                self.root = Arc::new(Root::restore(snapshot)?);
                self.make_shards();
            }
            Group::Shard(index) => {
                let shard = self.shards.get_mut(usize::from(index.0));
                let shard = shard.ok_or(RestoreError::Refused(Refused::UnknownShard(index)))?;
                *shard = Arc::new(Shard::restore(snapshot)?);
            }
        }
        Ok(())
    }

    /// The snapshot of a group. Empty if there is no such group.
    #[must_use]
    pub fn snapshot(&self, group: Group) -> Vec<u8> {
        match group {
            Group::Root => self.root.snapshot(),
            Group::Shard(index) => {
                let shard = self.shards.get(usize::from(index.0));
                shard.map(|shard| shard.snapshot()).unwrap_or_default()
            }
        }
    }

    /// The founding says how many shards there are; until then there are none.
    fn make_shards(&mut self) {
        if let Some(foundation) = self.root.foundation() {
            self.shards.resize_with(usize::from(foundation.shards.count()), Arc::default);
        }
    }
}

/// A state could not be rebuilt from what was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A snapshot or command is not what we write.
    #[error(transparent)]
    Bytes(#[from] codec::Error),
    /// A command that was accepted once is refused now.
    #[error("a stored command is refused: {0}")]
    Refused(#[from] Refused),
}

#[cfg(test)]
mod tests;
