//! Looks into a metadata file without changing it, for those who want to know what is wrong.

use std::path::Path;

use crate::error::OpenError;
use crate::group::Group;
use crate::state::{Command, RestoreError, State};
use crate::store::{self, Saved};
use crate::writer;

/// What a metadata file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Each group's snapshot and log.
    pub groups: Vec<GroupLog>,
    /// What they say together.
    pub state: State,
}

/// What is stored of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLog {
    /// The group.
    pub group: Group,
    /// Index of the last command that its snapshot holds, and the snapshot's size in bytes.
    pub snapshot: Option<(u64, usize)>,
    /// The commands since, with their indexes.
    pub commands: Vec<(u64, Command)>,
}

/// Reads the whole content of a metadata file, checking all of it.
///
/// # Errors
/// If the bytes are damaged, of another version, or cannot be replayed. `path` is named in it.
pub fn read(bytes: &[u8], path: &Path) -> Result<Contents, OpenError> {
    let saved = store::read(bytes, path)?;
    let replay = |cause| OpenError::Replay { path: path.to_owned(), cause };
    let groups = saved.iter().map(group_log).collect::<Result<_, _>>().map_err(replay)?;
    let state = writer::rebuild(&saved).map_err(replay)?;
    Ok(Contents { groups, state })
}

fn group_log(saved: &Saved) -> Result<GroupLog, RestoreError> {
    let decode = |(index, bytes): &(u64, Vec<u8>)| {
        Command::decode(saved.group, bytes).map(|command| (*index, command))
    };
    Ok(GroupLog {
        group: saved.group,
        snapshot: saved.snapshot.as_ref().map(|(index, bytes)| (*index, bytes.len())),
        commands: saved.commands.iter().map(decode).collect::<Result<_, _>>()?,
    })
}
