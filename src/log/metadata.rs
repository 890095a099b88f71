//! The metadata file, for `rafka log`: what the cluster has agreed on, group by group.

use std::fmt;
use std::path::Path;

use rafka_metadata::inspect::{self, Contents, GroupLog};
use serde::Serialize;

/// Its name within a data directory.
pub(super) const FILE_NAME: &str = "metadata.redb";

/// Reads the whole file, checking all of it.
pub(super) fn read(path: &Path) -> anyhow::Result<Contents> {
    Ok(inspect::read(&std::fs::read(path)?, path)?)
}

/// One thing that the file holds.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Item {
    /// A group: its snapshot, and how many commands came since.
    Group {
        /// Which.
        group: String,
        /// The index of the last command in the snapshot.
        snapshot_index: Option<u64>,
        /// The size of the snapshot.
        snapshot_bytes: usize,
        /// How many commands came since.
        commands: usize,
    },
    /// A command since the snapshot of its group.
    Command {
        /// Its index.
        index: u64,
        /// What it says.
        command: String,
    },
    /// A topic, after all commands.
    Topic {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// How many partitions it has.
        partitions: usize,
    },
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { group, snapshot_index: Some(index), snapshot_bytes, commands } => {
                write!(f, "{group}: snapshot up to {index}, {snapshot_bytes} bytes")?;
                write!(f, ", {commands} commands since")
            }
            Self::Group { group, commands, .. } => write!(f, "{group}: {commands} commands"),
            Self::Command { index, command } => write!(f, "  {index}: {command}"),
            Self::Topic { name, id, partitions } => {
                write!(f, "topic {name}: {id}, {partitions} partitions")
            }
        }
    }
}

/// Everything that the file holds.
pub(super) fn items(contents: &Contents) -> impl Iterator<Item = Item> {
    let groups = contents.groups.iter().flat_map(of_group);
    let topics = contents.state.shards().iter().flat_map(|shard| shard.topics());
    groups.chain(topics.map(|topic| Item::Topic {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        partitions: topic.partitions.len(),
    }))
}

fn of_group(log: &GroupLog) -> impl Iterator<Item = Item> {
    let head = Item::Group {
        group: log.group.to_string(),
        snapshot_index: log.snapshot.map(|(index, _)| index),
        snapshot_bytes: log.snapshot.map_or(0, |(_, bytes)| bytes),
        commands: log.commands.len(),
    };
    let command = |(index, command): &(u64, rafka_metadata::Command)| Item::Command {
        index: *index,
        command: format!("{command:?}"),
    };
    std::iter::once(head).chain(log.commands.iter().map(command))
}
