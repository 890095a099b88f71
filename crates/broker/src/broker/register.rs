//! Before the first batch of a transaction enters a partition: the coordinator must know of it.

use std::collections::BTreeMap;

use rafka_core::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use tokio::time::Instant;

use super::Inner;
use crate::partition::machine::Registration;
use crate::produce::{PartitionBatches, Request};
use crate::{Error, Registrations};

/// What was found of the transactions of a request, by the places of its partitions.
#[derive(Debug, Default)]
pub(super) struct Registered {
    asked: BTreeMap<usize, Result<Registration, Error>>,
}

/// The partitions of a request that one producer must be registered for.
#[derive(Debug, Default)]
struct Question {
    places: Vec<usize>,
    partitions: Vec<TopicPartition>,
}

impl Registered {
    pub(super) fn of(&self, place: usize) -> Result<Registration, Error> {
        self.asked.get(&place).cloned().unwrap_or(Ok(Registration::Unasked))
    }
}

impl Inner {
    /// Asks the coordinator about the transactions that have not begun in their partitions yet.
    pub(super) async fn register(&self, request: &Request, deadline: Instant) -> Registered {
        let mut registered = Registered::default();
        let mut questions: BTreeMap<(ProducerId, ProducerEpoch), Question> = BTreeMap::new();
        for (place, entry) in request.partitions.iter().enumerate() {
            let PartitionBatches { topic, partition, batches } = entry;
            let transactional =
                batches.iter().find(|batch| batch.header.attributes.is_transactional());
            // What is wrong with the partition or the batch is found when it is appended.
            let (Some(batch), Ok((_, led))) =
                (transactional, self.table.partition(topic, *partition))
            else {
                continue;
            };
            let Some(needed) = led.needs_registration(&batch.header) else { continue };
            registered.asked.insert(place, Ok(needed));
            let producer = (batch.header.producer_id, batch.header.producer_epoch);
            let question = questions.entry(producer).or_default();
            question.places.push(place);
            question.partitions.push(led.id);
        }
        for (producer, Question { places, partitions }) in questions {
            let answers = self.ask(request, producer, partitions, deadline).await;
            for (index, place) in places.into_iter().enumerate() {
                let answer = match &answers {
                    Ok(answers) => answers.get(index).cloned().unwrap_or_else(unanswered),
                    Err(error) => Err(error.clone()),
                };
                if let Err(error) = answer {
                    registered.asked.insert(place, Err(error));
                }
            }
        }
        registered
    }

    /// Who knows of transactions.
    pub(super) fn registrations(&self) -> &dyn Registrations {
        match self.registrations.get() {
            Some(other) => &**other,
            None => &self.transactions,
        }
    }

    async fn ask(
        &self,
        request: &Request,
        producer: (ProducerId, ProducerEpoch),
        partitions: Vec<TopicPartition>,
        deadline: Instant,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let Some(transaction) = &request.transaction else {
            let message = "a transactional batch needs the producer's transactional id";
            return Err(Error::new(ErrorCode::InvalidTxnState, message));
        };
        let answers = self.registrations().register(transaction, producer, partitions);
        tokio::time::timeout_at(deadline, answers).await.map_err(|_elapsed| {
            let message = "the transaction coordinator did not answer in time: nothing was \
                           appended, send again";
            Error::new(ErrorCode::RequestTimedOut, message)
        })
    }
}

fn unanswered() -> Result<(), Error> {
    let message = "the transaction coordinator left a partition out";
    Err(Error::new(ErrorCode::UnknownServer, message))
}
