//! What the handle asks of the owner.

use rafka_core::{Epoch, ErrorCode, PartitionIndex, ProducerId};
use tokio::sync::oneshot;

use crate::transaction::machine::{Producer, Refusal};
use crate::transaction::ops::{Description, End, Filter, Init, Listing, Partition};

/// Where an answer goes.
pub(super) type To<T> = oneshot::Sender<Result<T, ErrorCode>>;

/// Where the answer to a change goes.
pub(super) type ToProducer = oneshot::Sender<Result<Producer, Refusal>>;

#[derive(Debug)]
pub(super) enum Command {
    Lead { partition: PartitionIndex, epoch: Epoch },
    Ask { partition: PartitionIndex, id: String, op: Op },
    List { filter: Filter, reply: To<Vec<Listing>> },
}

/// A request to one id.
#[derive(Debug)]
pub(super) enum Op {
    Init { init: Init, fresh: Option<ProducerId>, reply: ToProducer },
    Add { producer: Producer, partitions: Vec<Partition>, reply: ToProducer },
    Verify { producer: Producer, partitions: Vec<Partition>, reply: To<Vec<bool>> },
    End { end: End, fresh: Option<ProducerId>, reply: ToProducer },
    Describe { reply: To<Description> },
}

impl Command {
    /// Answers what will not be done.
    pub(super) fn refuse(self, code: ErrorCode) {
        match self {
            Self::Lead { .. } => {}
            Self::Ask { op, .. } => op.refuse(code),
            Self::List { reply, .. } => answer(reply, Err(code)),
        }
    }
}

impl Op {
    /// Answers what will not be done.
    pub(super) fn refuse(self, code: ErrorCode) {
        match self {
            Self::Init { reply, .. } | Self::Add { reply, .. } | Self::End { reply, .. } => {
                answer(reply, Err(code.into()));
            }
            Self::Verify { reply, .. } => answer(reply, Err(code)),
            Self::Describe { reply } => answer(reply, Err(code)),
        }
    }

    /// Answers what is asked of an id that is not known.
    pub(super) fn refuse_unknown(self) {
        let code = match self {
            Self::Init { .. } => ErrorCode::CoordinatorNotAvailable,
            Self::Add { .. } | Self::Verify { .. } | Self::End { .. } => {
                ErrorCode::InvalidProducerIdMapping
            }
            Self::Describe { .. } => ErrorCode::TransactionalIdNotFound,
        };
        self.refuse(code);
    }
}

/// Answers. Who went away meanwhile does not hear it, and nothing else changes.
pub(super) fn answer<A>(to: oneshot::Sender<A>, value: A) {
    let _gone = to.send(value);
}
