//! Transactions: records in many partitions that are committed together or not at all.

use std::time::Duration;

use rafka_client::{Client, GroupMetadata, InvalidSettings, TopicPartition};
use rafka_core::{ErrorCode, Offset};

use crate::delivery::Delivery;
use crate::error::{Error, Fate, Rejected};
use crate::flight::Identity;
use crate::partitioner::Partitioner;
use crate::producer::Producer;
use crate::record::Record;
use crate::settings::Settings;
use crate::shared::Membership;

/// A producer whose records are part of transactions, one after the other.
///
/// Made by [`Builder::build_transactional`](crate::Builder::build_transactional).
///
/// It goes by a transactional id, under which only the newest one can write: making another one of
/// the same id fences this one and aborts what it has open. Use one id for each instance of a
/// service, and the same one after a restart.
///
/// What a transaction has written is seen by consumers with `Isolation::ReadCommitted` once it is
/// committed, and never if it is aborted.
#[derive(Debug)]
pub struct TransactionalProducer {
    client: Client,
    settings: Settings,
    partitioner: Partitioner,
    transactional_id: String,
    identity: Identity,
    /// What is left to be done with the last transaction.
    unfinished: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Abort,
}

impl TransactionalProducer {
    pub(crate) async fn new(
        client: Client,
        settings: Settings,
        partitioner: Partitioner,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Self, Error> {
        settings.validate()?;
        if !settings.idempotence {
            let rule = "true in transactions";
            return Err(InvalidSettings::new("idempotence", false, rule).into());
        }
        let given = client.transactions().init_producer_id(transactional_id, timeout).await;
        let (id, epoch) = given.map_err(|error| told(transactional_id, error))?;
        Ok(Self {
            client,
            settings,
            partitioner,
            transactional_id: transactional_id.to_owned(),
            identity: Identity { id, epoch },
            unfinished: None,
        })
    }

    /// Begins a transaction. If the last one was left open it is aborted first; if its commit was
    /// left in doubt, it is committed first.
    ///
    /// # Errors
    /// If the last transaction cannot be ended: [`Error::FencedId`] for good, or as the client's
    /// calls.
    ///
    /// # Cancel safety
    /// Cancel safe.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.end().await?;
        let transaction = Membership { id: self.transactional_id.clone(), identity: self.identity };
        let producer = Producer::start(
            self.client.clone(),
            self.settings.clone(),
            self.partitioner.clone(),
            Some(transaction),
        );
        self.unfinished = Some(End::Abort);
        Ok(Transaction { owner: self, producer, offsets: Offsets::None })
    }

    /// Ends what is unfinished. The same end again, after a failure, is fine.
    async fn end(&mut self) -> Result<(), Error> {
        let Some(end) = self.unfinished else { return Ok(()) };
        let producer = (self.identity.id, self.identity.epoch);
        let ended = self.client.transactions();
        let ended = ended.end(&self.transactional_id, producer, end == End::Commit).await;
        let (id, epoch) = ended.map_err(|error| told(&self.transactional_id, error))?;
        self.identity = Identity { id, epoch };
        self.unfinished = None;
        Ok(())
    }

    /// Its transactional id.
    #[must_use]
    pub fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    /// The client it stands on.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// A transaction that is open.
///
/// Dropped, it is aborted when the next one begins or its time is up, whichever comes first.
#[derive(Debug)]
#[must_use = "dropped, it is aborted"]
pub struct Transaction<'a> {
    owner: &'a mut TransactionalProducer,
    producer: Producer,
    offsets: Offsets,
}

/// What became of the offsets of groups.
#[derive(Debug)]
enum Offsets {
    None,
    Sent,
    /// They could not be made part of the transaction, or nobody knows.
    Failed(Error),
}

impl Transaction<'_> {
    /// Takes a record into the buffer, as [`Producer::send`].
    ///
    /// Its [`Delivery`] tells where the record is, and need not be awaited: a transaction of which a
    /// record was lost cannot be committed.
    ///
    /// # Errors
    /// As [`Producer::send`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the record was not taken.
    pub async fn send(&self, record: Record) -> Result<Delivery, Error> {
        self.producer.send(record).await
    }

    /// Takes a record into the buffer if that needs no waiting, as [`Producer::try_send`].
    ///
    /// # Errors
    /// As [`Producer::try_send`].
    pub fn try_send(&self, record: Record) -> Result<Delivery, Box<Rejected>> {
        self.producer.try_send(record)
    }

    /// The producer of this transaction, for other tasks: what they send is part of it. It takes
    /// nothing more once the transaction has ended.
    #[must_use]
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Makes offsets of a group part of the transaction: of each partition the next one to be
    /// consumed. They count once it is committed, together with the records. `group` is what the
    /// consumer says of itself (`Consumer::group_metadata` of `rafka-consumer`); if the group has given
    /// its partitions to others by then, this fails.
    ///
    /// # Errors
    /// The transaction can only be aborted then: [`Error::NotMember`] if the consumer is no longer a
    /// member of its group, [`Error::FencedId`] if another producer has the id or the time was up,
    /// [`Error::Closed`] if the transaction has ended, and as the client's calls.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the transaction can only be aborted.
    pub async fn commit_offsets(
        &mut self,
        group: &GroupMetadata,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), Error> {
        if self.owner.unfinished != Some(End::Abort) {
            return Err(Error::Closed { fate: Fate::NotWritten });
        }
        if let Offsets::Failed(error) = &self.offsets {
            return Err(error.clone());
        }
        if offsets.is_empty() {
            return Ok(());
        }
        // Should this be dropped, some may be part of the transaction and others not.
        self.offsets = Offsets::Failed(Error::Closed { fate: Fate::Unknown });
        let TransactionalProducer { client, transactional_id, identity, .. } = &*self.owner;
        let (producer, transactions) = ((identity.id, identity.epoch), client.transactions());
        let sent = transactions.commit_offsets(transactional_id, producer, group, offsets).await;
        let sent = sent.map_err(|error| match error.code() {
            Some(
                ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::FencedInstanceId,
            ) => Error::NotMember { group: group.group.clone(), cause: Box::new(error) },
            _ => told(transactional_id, error),
        });
        self.offsets = match &sent {
            Ok(()) => Offsets::Sent,
            Err(error) => Offsets::Failed(error.clone()),
        };
        sent
    }

    /// Whether the node may know of the transaction.
    fn is_begun(&self) -> bool {
        !matches!(self.offsets, Offsets::None) || 0 < self.producer.metrics().records_sent
    }

    /// Delivers what was sent and commits it, all of it. Once it was committed, this does nothing.
    ///
    /// # Errors
    /// The first failure of a record or of offsets: nothing is committed, and the transaction can only
    /// be aborted.
    /// [`Error::FencedId`] if another producer has the id or the time was up: nothing is committed.
    /// As the client's calls if no node answers: it may have been committed. Call again to know, or
    /// begin the next transaction, which makes sure that this one is committed.
    ///
    /// # Cancel safety
    /// Dropped, it may have been committed, as after no answer.
    pub async fn commit(&mut self) -> Result<(), Error> {
        if self.owner.unfinished == Some(End::Abort) {
            // By then everything has been delivered or has failed.
            let limit = self.producer.settings().delivery_timeout * 2;
            let closed = self.producer.close(limit).await;
            if let Some(failure) = self.producer.first_failure() {
                return Err(failure.clone());
            }
            closed?;
            if let Offsets::Failed(error) = &self.offsets {
                return Err(error.clone());
            }
            self.owner.unfinished = self.is_begun().then_some(End::Commit);
        }
        self.owner.end().await
    }

    /// Takes back everything that was sent.
    ///
    /// # Errors
    /// [`Error::FencedId`] if another producer has the id or the time was up: it was or will be
    /// aborted. [`Error::Committing`] if the commit was tried before: it may have succeeded. As the
    /// client's calls if no node answers: beginning the next transaction makes sure of it.
    ///
    /// # Cancel safety
    /// Dropped, it is aborted when the next transaction begins or its time is up.
    pub async fn abort(self) -> Result<(), Error> {
        let transactional_id = &self.owner.transactional_id;
        if self.owner.unfinished != Some(End::Abort) {
            return Err(Error::Committing { transactional_id: transactional_id.clone() });
        }
        // What is still under way belongs to an epoch that ends now.
        let _given_up = self.producer.close(Duration::ZERO).await;
        if !self.is_begun() {
            self.owner.unfinished = None;
        }
        self.owner.end().await
    }
}

/// An error of the node, in the words of this crate.
fn told(transactional_id: &str, error: rafka_client::Error) -> Error {
    match error.code() {
        Some(ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced) => {
            Error::FencedId { transactional_id: transactional_id.to_owned() }
        }
        _ => Error::Client(error),
    }
}
