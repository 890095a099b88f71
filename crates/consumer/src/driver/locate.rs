//! Finding where to begin: what the group has committed, or what the user or the settings ask for.

use std::collections::BTreeMap;

use rafka_client::admin::{FoundOffset, OffsetSpec};
use rafka_client::{Client, Error as ClientError, TopicPartition};
use rafka_core::{Offset, Time};

use super::Driver;
use crate::error::Error;
use crate::partitions::{Need, Sought};
use crate::settings::{OffsetReset, Settings};

/// What became of the search for one position.
#[derive(Debug)]
pub(super) struct Found {
    partition: TopicPartition,
    version: u64,
    /// Whether the group has committed it.
    is_committed: bool,
    /// None: nothing is committed, and the settings make nothing up.
    outcome: Result<Option<Offset>, ClientError>,
}

impl Found {
    fn new(sought: &Sought, outcome: Result<Option<Offset>, ClientError>) -> Self {
        let (partition, version) = (sought.partition.clone(), sought.version);
        Self { partition, version, is_committed: false, outcome }
    }

    fn committed(sought: &Sought, offset: Offset) -> Self {
        Self { is_committed: true, ..Self::new(sought, Ok(Some(offset))) }
    }
}

/// A search and the question that it has come down to.
type Open = (Sought, OffsetSpec);

/// Finds positions, as far as they can be found.
pub(super) async fn find(client: &Client, settings: &Settings, sought: Vec<Sought>) -> Vec<Found> {
    let (committed, others): (Vec<Sought>, Vec<Sought>) =
        sought.into_iter().partition(|sought| sought.need == Need::Committed);
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut reset = |sought: Sought, found: &mut Vec<Found>| match settings.offset_reset {
        OffsetReset::Earliest => open.push((sought, OffsetSpec::Earliest)),
        OffsetReset::Latest => open.push((sought, OffsetSpec::Latest)),
        OffsetReset::None => found.push(Found::new(&sought, Ok(None))),
    };
    match committed_offsets(client, settings, &committed).await {
        Ok(known) => {
            for sought in committed {
                match known.get(&sought.partition) {
                    Some(offset) => found.push(Found::committed(&sought, *offset)),
                    None => reset(sought, &mut found),
                }
            }
        }
        Err(error) => {
            found.extend(committed.iter().map(|sought| Found::new(sought, Err(error.clone()))));
        }
    }
    let mut asked = Vec::new();
    for sought in others {
        match sought.need {
            Need::Find(spec) => asked.push((sought, spec)),
            Need::Committed | Need::Reset | Need::Nowhere(_) => reset(sought, &mut found),
        }
    }
    open.append(&mut asked);
    list(client, settings, open, &mut found).await;
    found
}

async fn committed_offsets(
    client: &Client,
    settings: &Settings,
    sought: &[Sought],
) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
    let Some(group) = &settings.group else { return Ok(BTreeMap::new()) };
    if sought.is_empty() {
        return Ok(BTreeMap::new());
    }
    let partitions: Vec<_> = sought.iter().map(|sought| sought.partition.clone()).collect();
    // A transaction that is about to end may change them: whoever read on before that would give its
    // records twice.
    let committed = client.admin().stable_offsets(group, &partitions).await?;
    let known = committed.into_iter().filter_map(|known| Some((known.partition, known.offset?)));
    Ok(known.collect())
}

async fn list(client: &Client, settings: &Settings, open: Vec<Open>, found: &mut Vec<Found>) {
    let mut later = Vec::new();
    for ((sought, spec), answer) in ask(client, settings, open).await {
        match answer {
            // No record is that late: the next one will be.
            Ok(FoundOffset { offset: None, .. }) if matches!(spec, OffsetSpec::Timestamp(_)) => {
                later.push((sought, OffsetSpec::Latest));
            }
            Ok(answer) => found.push(Found::new(&sought, Ok(answer.offset))),
            Err(error) => found.push(Found::new(&sought, Err(error))),
        }
    }
    for ((sought, _), answer) in ask(client, settings, later).await {
        found.push(Found::new(&sought, answer.map(|answer| answer.offset)));
    }
}

async fn ask(
    client: &Client,
    settings: &Settings,
    open: Vec<Open>,
) -> Vec<(Open, Result<FoundOffset, ClientError>)> {
    if open.is_empty() {
        return Vec::new();
    }
    let questions: Vec<_> =
        open.iter().map(|(sought, spec)| (sought.partition.clone(), *spec)).collect();
    let answers = client.admin().list_offsets(&questions, settings.isolation).await;
    open.into_iter().zip(answers).collect()
}

impl Driver {
    pub(super) fn take_located(&mut self, found: Vec<Found>, now: Time) {
        self.locating = None;
        let mut failure = None;
        {
            let mut partitions = self.shared.partitions.lock();
            for Found { partition, version, is_committed, outcome } in found {
                match outcome {
                    Ok(Some(offset)) => {
                        if is_committed && partitions.is_current(&partition, version) {
                            partitions.note_committed(&[(partition.clone(), offset)]);
                        }
                        partitions.locate(&partition, version, offset);
                    }
                    Ok(None) => partitions.locate_nowhere(&partition, version),
                    // What was given up or sought anew in the meantime has not failed.
                    Err(_) if !partitions.is_current(&partition, version) => {}
                    Err(error) => failure = Some(error),
                }
            }
        }
        self.locate.note(failure.as_ref(), now, &self.shared);
        if let Some(error) = failure.filter(|error| !error.is_retriable()) {
            self.fail(Error::Client(error));
        }
    }
}
