//! The coordinator of this node's transactions: the handle that gateways call.

mod command;
mod load;
mod owner;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rafka_core::producer_state::TransactionVersion;
use rafka_core::{
    Clock, Epoch, ErrorCode, PartitionIndex, ProducerEpoch, ProducerId, TopicPartition,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machine::{Producer, Refusal};
use super::ops::{AddOffsets, AddPartitions, Description, End, Filter, Init, Listing, Partition};
use super::{Settings, Surroundings};
use crate::group::PartitionResult;
use crate::produce::Transaction;
use crate::{Error, Registrations};
use command::{Command, Op};
use owner::Owner;

/// Requests on their way to the owner; whoever brings one more waits. What they hold in bytes was
/// counted where it came in from the network.
const COMMANDS_MAX: usize = 1024;

/// The longest transactional id that is taken. Kafka knows no limit but that of its texts.
const ID_BYTES_MAX: usize = 4096;

/// A handle to the coordinator. Cheap to clone.
///
/// One task owns all transactional ids of the node. Every operation waits for a place in its queue,
/// and then for the answer; what changes the log is answered once that is durable. Dropping an
/// operation does not take it back.
///
/// All operations fail with Kafka's codes 14 to 16 where another coordinator, or the same one later,
/// must be asked, with 42 if the transactional id is empty or longer than 4096 bytes, and with 51
/// while another operation on the id is under way: all but 42 may be tried again. A producer that
/// was replaced is told `ProducerFenced`; gateways whose clients do not know that code say
/// `InvalidProducerEpoch`.
#[derive(Debug, Clone)]
pub struct Coordinator {
    commands: mpsc::Sender<Command>,
    surroundings: Arc<dyn Surroundings>,
    timeout_max: Duration,
}

impl Coordinator {
    /// Starts the coordinator, without ids until it is told to [`lead`](Self::lead).
    ///
    /// The task ends when `stop` is cancelled: whoever still waits is told to look for another
    /// coordinator, and what is on its way into the log gets a few seconds to arrive.
    pub(crate) fn start(
        settings: Settings,
        surroundings: Arc<dyn Surroundings>,
        clock: Arc<dyn Clock>,
        (tasks, stop): (&TaskTracker, CancellationToken),
    ) -> Self {
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let timeout_max = settings.transaction_timeout_max;
        let owner = Owner::new(settings, Arc::clone(&surroundings), clock);
        tasks.spawn(owner.run(queue, stop));
        Self { commands, surroundings, timeout_max }
    }

    /// Ends when the coordinator's task has ended. Unless the node stops, that is a fault.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// This node leads the partition from `epoch` on: its ids are loaded, then served, and the
    /// transactions that were being ended are ended.
    ///
    /// # Cancel safety
    /// Dropped before it ends, the coordinator may not have been told.
    pub async fn lead(&self, partition: PartitionIndex, epoch: Epoch) {
        self.tell(Command::Lead { partition, epoch }).await;
    }

    /// Gives a transactional id to a producer, under an epoch that fences whoever had it before. If
    /// that one has an open transaction, it is aborted first, and the call must be repeated.
    ///
    /// # Errors
    /// As all, and Kafka's codes 50 if the timeout is out of range and 90 if the producer was
    /// replaced by another. It has no epoch then.
    ///
    /// # Cancel safety
    /// Dropped, whoever had the id may be fenced.
    pub async fn init_producer_id(&self, init: Init) -> Result<(ProducerId, ProducerEpoch), Error> {
        check_id(&init.id)?;
        if init.timeout.is_zero() || self.timeout_max < init.timeout {
            let (asked, max) = (init.timeout.as_millis(), self.timeout_max.as_millis());
            let message = format!(
                "a transaction timeout of {asked} ms is out of range: transaction.max.timeout.ms \
                 is {max}"
            );
            return Err(Error::new(ErrorCode::InvalidTransactionTimeout, message));
        }
        if self.surroundings.partition_count().is_none() {
            self.surroundings.ensure_topic().await?;
        }
        let id = init.id.clone();
        self.change(&id, |fresh, reply| Op::Init { init: init.clone(), fresh, reply }).await
    }

    /// Makes partitions part of the producer's transaction, which may begin by that. One result for
    /// each partition, in their order: if one does not exist, nothing is done with the others either.
    ///
    /// # Errors
    /// As all, and Kafka's codes 49 and 90. Nothing was added then.
    ///
    /// # Cancel safety
    /// Dropped, the partitions may still be added.
    pub async fn add_partitions(&self, add: AddPartitions) -> Result<Vec<PartitionResult>, Error> {
        check_id(&add.id)?;
        let results = self.existing(&add);
        if results.iter().all(|result| result.result.is_ok()) {
            self.add(&add.id, add.producer, &add.partitions).await?;
        }
        Ok(results)
    }

    /// Whether partitions are part of the producer's open transaction: Kafka's code 120 if not. One
    /// result for each partition, in their order: if one does not exist, the others are not looked at.
    ///
    /// # Errors
    /// As all, and Kafka's codes 49 and 90.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn verify_partitions(
        &self,
        asked: AddPartitions,
    ) -> Result<Vec<PartitionResult>, Error> {
        check_id(&asked.id)?;
        let mut results = self.existing(&asked);
        if results.iter().all(|result| result.result.is_ok()) {
            let AddPartitions { id, producer, partitions } = asked;
            let verify = |reply| Op::Verify { producer, partitions, reply };
            let known = self.ask(&id, verify).await?.map_err(|code| failed(&id, code))?;
            for (result, is_known) in results.iter_mut().zip(known) {
                result.result = is_known.then_some(()).ok_or(ErrorCode::TransactionAbortable);
            }
        }
        Ok(results)
    }

    /// Which of the partitions exist. If one does not, nothing is to be done with the others.
    fn existing(&self, asked: &AddPartitions) -> Vec<PartitionResult> {
        let exists: Vec<bool> =
            asked.partitions.iter().map(|it| self.surroundings.has_partition(it)).collect();
        let are_all = exists.iter().all(|exists| *exists);
        let result = |((topic, partition), exists): (&Partition, &bool)| {
            let result = match (are_all, exists) {
                (true, _) => Ok(()),
                (false, true) => Err(ErrorCode::OperationNotAttempted),
                (false, false) => Err(ErrorCode::UnknownTopicOrPartition),
            };
            PartitionResult { topic: topic.clone(), partition: *partition, result }
        };
        asked.partitions.iter().zip(&exists).map(result).collect()
    }

    /// Makes the partition that holds the offsets of a group part of the producer's transaction.
    ///
    /// # Errors
    /// As all, and Kafka's codes 49 and 90. It was not added then.
    ///
    /// # Cancel safety
    /// Dropped, the partition may still be added.
    pub async fn add_offsets(&self, add: AddOffsets) -> Result<(), Error> {
        check_id(&add.id)?;
        let partition = self.surroundings.offsets_of(&add.group).await?;
        self.add(&add.id, add.producer, &[partition]).await
    }

    /// Ends the producer's transaction. Answered once the end is decided for good: the markers follow
    /// at once, also after a crash. The answer is who the producer is from now on: by the rules of
    /// version 2 under a higher epoch, maybe of another producer id. The same end again is fine.
    ///
    /// # Errors
    /// As all, and Kafka's codes 48 if there is nothing to end so, 49 and 90. Nothing has changed
    /// then, except after 15 and 16: the end may have been decided.
    ///
    /// # Cancel safety
    /// Dropped, the transaction may still be ended.
    pub async fn end_transaction(&self, end: End) -> Result<(ProducerId, ProducerEpoch), Error> {
        check_id(&end.id)?;
        let id = end.id.clone();
        self.change(&id, |fresh, reply| Op::End { end: end.clone(), fresh, reply }).await
    }

    /// Describes a transactional id.
    ///
    /// # Errors
    /// As all, and Kafka's code 105 for an id that is not known.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn describe(&self, id: &str) -> Result<Description, Error> {
        check_id(id)?;
        let described = self.ask(id, |reply| Op::Describe { reply }).await?;
        described.map_err(|code| failed(id, code))
    }

    /// Lists the transactional ids that this node coordinates, in their order.
    ///
    /// # Errors
    /// Kafka's code 14 while a partition is being loaded, 15, and 128 if the pattern is none.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Listing>, Error> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::List { filter, reply }).await;
        Ok(receive(answer).await??)
    }

    async fn add(
        &self,
        id: &str,
        producer: Producer,
        partitions: &[Partition],
    ) -> Result<(), Error> {
        let add = |_fresh, reply| Op::Add { producer, partitions: partitions.to_vec(), reply };
        self.change(id, add).await.map(drop)
    }

    /// Asks for a change, and again with a producer id if it takes one.
    async fn change(
        &self,
        id: &str,
        op: impl Fn(Option<ProducerId>, oneshot::Sender<Result<Producer, Refusal>>) -> Op,
    ) -> Result<Producer, Error> {
        match self.ask(id, |reply| op(None, reply)).await? {
            Ok(producer) => Ok(producer),
            Err(Refusal::Code(code)) => Err(failed(id, code)),
            Err(Refusal::NeedsProducerId) => {
                let fresh = self.surroundings.producer_id().await?;
                self.ask(id, |reply| op(Some(fresh), reply)).await?.map_err(|refusal| {
                    let Refusal::Code(code) = refusal else {
                        unreachable!("a producer id was given: {refusal:?}");
                    };
                    failed(id, code)
                })
            }
        }
    }

    async fn ask<A>(
        &self,
        id: &str,
        op: impl FnOnce(oneshot::Sender<A>) -> Op,
    ) -> Result<A, Error> {
        let (reply, answer) = oneshot::channel();
        let op = op(reply);
        match self.surroundings.partition_count() {
            Some(count) => {
                let partition = crate::group::spread(id, count);
                self.tell(Command::Ask { partition, id: id.to_owned(), op }).await;
            }
            // Before there is such a topic, no id is known.
            None => op.refuse_unknown(),
        }
        receive(answer).await
    }

    async fn tell(&self, command: Command) {
        // A coordinator that has ended drops the command, and with it whoever would answer.
        drop(self.commands.send(command).await);
    }

    async fn register_named(
        &self,
        transaction: &Transaction,
        producer: Producer,
        partitions: Vec<Partition>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let (id, version) = (&transaction.id, transaction.version);
        check_id(id)?;
        match version {
            TransactionVersion::V2 => {
                self.add(id, producer, &partitions).await?;
                Ok(partitions.iter().map(|_| Ok(())).collect())
            }
            TransactionVersion::V1 => {
                let known = self
                    .ask(id, |reply| Op::Verify { producer, partitions, reply })
                    .await?
                    .map_err(|code| failed(id, code))?;
                let outside = || failed(id, ErrorCode::TransactionAbortable);
                Ok(known.into_iter().map(|it| it.then_some(()).ok_or_else(outside)).collect())
            }
        }
    }
}

impl Registrations for Coordinator {
    fn register(
        &self,
        transaction: &Transaction,
        producer: (ProducerId, ProducerEpoch),
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'static, Vec<Result<(), Error>>> {
        let (coordinator, transaction) = (self.clone(), transaction.clone());
        async move {
            let count = partitions.len();
            let named: Option<Vec<Partition>> =
                partitions.iter().map(|it| coordinator.surroundings.name(it)).collect();
            let Some(named) = named else {
                return vec![Err(ErrorCode::UnknownTopicOrPartition.into()); count];
            };
            let version = transaction.version;
            match coordinator.register_named(&transaction, producer, named).await {
                Ok(answers) => answers,
                Err(error) => vec![Err(as_producers_know_it(error, version)); count],
            }
        }
        .boxed()
    }
}

/// What who produces is told: it does not ask coordinators, and knows few of their codes.
fn as_producers_know_it(error: Error, version: TransactionVersion) -> Error {
    let code = match error.code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::ConcurrentTransactions if version == TransactionVersion::V2 => error.code,
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        other => other,
    };
    Error { code, ..error }
}

fn check_id(id: &str) -> Result<(), Error> {
    if id.is_empty() || ID_BYTES_MAX < id.len() {
        let message = format!("a transactional id has 1 to {ID_BYTES_MAX} bytes, not {}", id.len());
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

async fn receive<T>(answer: oneshot::Receiver<T>) -> Result<T, Error> {
    answer.await.map_err(|_stopped| {
        let message = "the transaction coordinator is shutting down";
        Error::new(ErrorCode::CoordinatorNotAvailable, message)
    })
}

fn failed(id: &str, code: ErrorCode) -> Error {
    Error::new(code, format!("transactional id {id}: {}", code.text()))
}
