//! The operations on transactions, in the broker's own words.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rafka_core::batch::Outcome;
use rafka_core::producer_state::TransactionVersion;
use rafka_core::{GroupId, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicName};

/// A partition by the name of its topic, as transactions know it.
pub type Partition = (TopicName, PartitionIndex);

/// A producer takes over a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// The transactional id.
    pub id: String,
    /// How long each of its transactions may last.
    pub timeout: Duration,
    /// Who the producer was until now, if it goes on after an error (KIP-360).
    pub expected: Option<(ProducerId, ProducerEpoch)>,
}

/// A producer will write to partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPartitions {
    /// The transactional id.
    pub id: String,
    /// Who says so.
    pub producer: (ProducerId, ProducerEpoch),
    /// Where it will write.
    pub partitions: Vec<Partition>,
}

/// A producer will commit offsets of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddOffsets {
    /// The transactional id.
    pub id: String,
    /// Who says so.
    pub producer: (ProducerId, ProducerEpoch),
    /// The group.
    pub group: GroupId,
}

/// A producer ends its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The transactional id.
    pub id: String,
    /// Who says so.
    pub producer: (ProducerId, ProducerEpoch),
    /// How it ends.
    pub outcome: Outcome,
    /// By which rules the producer goes.
    pub version: TransactionVersion,
}

/// The state of a transactional id, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// There was no transaction yet.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// It was decided to commit; the markers are being written.
    PrepareCommit,
    /// It was decided to abort; the markers are being written.
    PrepareAbort,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
    /// The id is being forgotten.
    Dead,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
    ];

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
        }
    }

    /// The state that Kafka calls so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// How the transaction ends whose markers are being written.
    pub(super) fn outcome(self) -> Option<Outcome> {
        match self {
            Self::PrepareCommit => Some(Outcome::Commit),
            Self::PrepareAbort => Some(Outcome::Abort),
            Self::Empty
            | Self::Ongoing
            | Self::CompleteCommit
            | Self::CompleteAbort
            | Self::Dead => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A transactional id at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The transactional id.
    pub id: String,
    /// Its state.
    pub state: State,
    /// Who may write under it.
    pub producer: (ProducerId, ProducerEpoch),
    /// How long each of its transactions may last.
    pub timeout: Duration,
    /// When its open transaction began.
    pub started_at: Option<Timestamp>,
    /// The partitions of its open transaction.
    pub partitions: BTreeSet<Partition>,
}

/// A transactional id in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The transactional id.
    pub id: String,
    /// Whose it is.
    pub producer: ProducerId,
    /// Its state.
    pub state: State,
}

/// Which transactional ids to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only those in these states, if any is named.
    pub states: Vec<State>,
    /// Only those of these producers, if any is named.
    pub producers: Vec<ProducerId>,
    /// Only those whose open transaction has lasted longer.
    pub longer_than: Option<Duration>,
    /// Only those that match this regular expression as a whole.
    pub pattern: Option<String>,
}
