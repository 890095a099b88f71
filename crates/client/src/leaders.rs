//! Asking about partitions where their leaders are, each leader once.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use rafka_core::{ErrorCode, TopicName};

use crate::address::Address;
use crate::client::{Client, Missing};
use crate::convert::same_count;
use crate::error::Error;
use crate::node::Node;
use crate::view::TopicPartition;

/// A question about one partition.
pub(crate) type Question<Q> = (TopicPartition, Q);
/// The answers of one node, in the order of the questions.
type Answers<A> = Result<Vec<Result<A, Error>>, Error>;

/// Asks each leader about its partitions, again for those that failed retriably, as often as the
/// settings allow. The outcome has the order of the questions.
pub(crate) async fn ask_leaders<Q, A, F, Fut>(
    client: &Client,
    operation: &'static str,
    questions: &[Question<Q>],
    ask: F,
) -> Vec<Result<A, Error>>
where
    Q: Clone,
    F: Fn(Arc<Node>, Vec<Question<Q>>) -> Fut,
    Fut: Future<Output = Answers<A>>,
{
    let mut outcomes: Vec<Option<Result<A, Error>>> = questions.iter().map(|_| None).collect();
    // A topic that does not exist may come to exist, but not because somebody asks for its offsets.
    let later = |error: &Error| {
        error.is_retriable() && error.code() != Some(ErrorCode::UnknownTopicOrPartition)
    };
    let open = |outcome: &Option<Result<A, Error>>| {
        outcome.as_ref().is_none_or(|known| known.as_ref().is_err_and(later))
    };
    let rounds = async {
        for round in 1..=client.settings().retry.attempts_max {
            let pending: Vec<usize> =
                (0..questions.len()).filter(|index| open(&outcomes[*index])).collect();
            if pending.is_empty() {
                return;
            }
            if 1 < round {
                tokio::time::sleep(client.backoff(round - 1)).await;
                let topics: Vec<TopicName> = topics_of(pending.iter().map(|at| &questions[*at].0));
                // What fails here fails below, with the partition it concerns.
                let _unknown = client.refresh(&topics).await;
            }
            for (address, indexes) in group(client, questions, &pending, &mut outcomes).await {
                let asked: Vec<_> = indexes.iter().map(|at| questions[*at].clone()).collect();
                let answers = match client.node(&address) {
                    Ok(node) => ask(node, asked).await,
                    Err(error) => Err(error),
                };
                let answers =
                    answers.and_then(|answers| same_count(operation, answers, indexes.len()));
                match answers {
                    Ok(answers) => {
                        for (index, answer) in indexes.into_iter().zip(answers) {
                            outcomes[index] = Some(answer);
                        }
                    }
                    Err(error) => {
                        for index in indexes {
                            outcomes[index] = Some(Err(error.clone()));
                        }
                    }
                }
            }
        }
    };
    // Late or exhausted: what is known by then is the outcome.
    let _in_time = tokio::time::timeout(client.settings().retry.total, rounds).await;
    let unasked =
        |partition: &TopicPartition| Error::refused(partition, 7, "the time for it ran out");
    outcomes
        .into_iter()
        .zip(questions)
        .map(|(outcome, (partition, _))| outcome.unwrap_or_else(|| Err(unasked(partition))))
        .collect()
}

/// The pending questions by the address of the leader that can answer them. Those without leader
/// get their outcome here.
async fn group<Q, A>(
    client: &Client,
    questions: &[Question<Q>],
    pending: &[usize],
    outcomes: &mut [Option<Result<A, Error>>],
) -> BTreeMap<Address, Vec<usize>> {
    let mut groups: BTreeMap<Address, Vec<usize>> = BTreeMap::new();
    for index in pending {
        let partition = &questions[*index].0;
        match leader_of(client, partition).await {
            Ok(address) => groups.entry(address).or_default().push(*index),
            Err(error) => outcomes[*index] = Some(Err(error)),
        }
    }
    groups
}

async fn leader_of(client: &Client, partition: &TopicPartition) -> Result<Address, Error> {
    let topic = client.topic(&partition.topic, Missing::Refuse).await?;
    let refuse = |code: ErrorCode, message: &str| {
        Err(Error::Refused { subject: partition.to_string(), code, message: message.to_owned() })
    };
    if topic.leadership(partition.partition).is_none() {
        let count = topic.partition_count();
        let message = format!("the topic has {count} partitions, counted from 0");
        // Not the retriable UNKNOWN_TOPIC_OR_PARTITION: partitions do not come by themselves.
        return refuse(ErrorCode::InvalidPartitions, &message);
    }
    match client.leader(&partition.topic, partition.partition) {
        Some(address) => Ok(address),
        None => refuse(ErrorCode::LeaderNotAvailable, "it has no leader at the moment"),
    }
}

fn topics_of<'a>(partitions: impl Iterator<Item = &'a TopicPartition>) -> Vec<TopicName> {
    let mut topics: Vec<TopicName> = partitions.map(|partition| partition.topic.clone()).collect();
    topics.sort();
    topics.dedup();
    topics
}
