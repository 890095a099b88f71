//! How opening and proposing end.

use std::path::PathBuf;
use std::sync::Arc;

use rafka_core::ErrorCode;
use uuid::Uuid;

use crate::effect::Effect;
use crate::refused::Refused;
use crate::state::RestoreError;
use crate::store;

/// A command was done. It is durable, the view shows it, and the observer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The version of the first view that shows it.
    pub version: u64,
    /// What it changed. Empty if all was so already.
    pub effects: Vec<Effect>,
}

/// A command was not done, or perhaps not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It contradicts what is agreed on. Not done.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no room to write it down. Not done; it may work when there is.
    #[error("metadata cannot be written: the disk is full")]
    DiskFull,
    /// The write failed. It may be done after the next start.
    #[error("the metadata write failed, and its outcome is unknown: {0}")]
    Failed(Arc<str>),
    /// An earlier write failed: nothing is accepted until the process restarts. Not done.
    #[error("metadata accepts nothing until the node restarts: {0}")]
    Dead(Arc<str>),
    /// The node is stopping. Not done.
    #[error("metadata is stopped")]
    Stopped,
}

impl ProposeError {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::DiskFull | Self::Failed(_) | Self::Dead(_) => ErrorCode::KafkaStorageError,
            Self::Stopped => ErrorCode::NotController,
        }
    }

    /// Whether the same proposal may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.code().is_retriable(),
            Self::DiskFull | Self::Stopped => true,
            Self::Failed(_) | Self::Dead(_) => false,
        }
    }
}

/// Metadata could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The file is whole, but what it says cannot be followed.
    #[error("{path} cannot be replayed")]
    Replay {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: RestoreError,
    },
    /// The file belongs to a cluster that this node is not a member of.
    #[error(
        "{path} is not the metadata of node {node}: the file was copied, or the node's identity was lost"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The node's identity.
        node: Uuid,
    },
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes metadata")]
    Thread(#[source] std::io::Error),
}
