//! Does to the files what the state machine decided.

use std::io;

use super::files::Files;
use super::space::{Armed, Done, Task};
use super::{Mutant, format};
use crate::Error;

/// How a task went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    /// The disk is full. Nothing was changed; it may be tried again.
    Full(Error),
    /// What is on the disk is unknown.
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let full = match &error {
            Error::Io { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        };
        if full { Self::Full(error) } else { Self::Broken(error) }
    }
}

/// Does one task. Blocks on the disk.
pub(super) fn run(files: &Files, task: Task) -> Result<Done, Failure> {
    match task {
        Task::Retire { file, keep, successor } => {
            if let Some(successor) = successor {
                let path = files.wal(file.number);
                successor.sync_data().map_err(crate::disk::failed("sync what follows", &path))?;
            }
            files.retire(file)?;
            if keep {
                return Ok(Done::Spare(file));
            }
            files.discard(file.number)?;
            Ok(Done::Gone)
        }
        Task::Make(spare) => Ok(Done::Spare(files.make(spare.number, spare.capacity)?)),
        Task::Arm(spare, header) => {
            // Writing to allocated space does not ask for more, so that a full disk is no excuse.
            let file = files.arm(spare, &header).map_err(Failure::Broken)?;
            let mutated = files.settings.has(Mutant::OldContentValid);
            let seed = if mutated { format::Seed::NONE } else { header.seed() };
            let (number, capacity) = (header.incarnation, header.capacity);
            Ok(Done::Armed(Armed { number, capacity, file, seed }))
        }
        Task::Discard(spare) => {
            files.discard(spare.number)?;
            Ok(Done::Gone)
        }
    }
}
