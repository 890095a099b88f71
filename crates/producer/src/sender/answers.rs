//! What the sending side does about answers, lost streams, and what its helpers bring.

use rafka_client::convert::code_of;
use rafka_client::{Error as ClientError, v1};
use rafka_core::{ErrorCode, Offset, Time, Timestamp, TopicName};
use tracing::{debug, warn};

use super::{Learnt, Sender};
use crate::accumulator::Slot;
use crate::delivery::Stored;
use crate::flight::{Identity, LinkId, Loss, Refusal};
use crate::link::LinkNews;
use crate::metrics::Counters;

impl Sender {
    pub(super) fn hear(&mut self, link: LinkId, heard: LinkNews) {
        match heard {
            LinkNews::Answer(answer) => self.answer(link, &answer),
            LinkNews::Lost { error, in_doubt } => self.lose(link, &error, in_doubt),
        }
    }

    fn answer(&mut self, link: LinkId, answer: &v1::ProduceResponse) {
        // An answer that was on its way when the stream was given up has nothing to settle.
        let Some(outstanding) = self.routes.answered(link) else { return };
        self.trouble = None;
        let fits = outstanding.request == answer.request_id
            && outstanding.slots.len() == answer.partitions.len();
        if !fits {
            let what = format!(
                "request {} with {} partitions was answered as request {} with {}",
                outstanding.request,
                outstanding.slots.len(),
                answer.request_id,
                answer.partitions.len()
            );
            let error = ClientError::Malformed { operation: "produce", what };
            self.lose(link, &error, true);
            return;
        }
        for (slot, produced) in outstanding.slots.into_iter().zip(&answer.partitions) {
            self.answer_partition(slot, outstanding.request, produced);
        }
    }

    fn answer_partition(&mut self, slot: Slot, request: u64, produced: &v1::ProducedPartition) {
        let Some(code) = code_of(produced.error.as_ref()) else {
            let stored = Stored {
                base_offset: (0 <= produced.base_offset).then_some(Offset(produced.base_offset)),
                append_time: (0 <= produced.log_append_time_ms)
                    .then_some(Timestamp(produced.log_append_time_ms)),
            };
            let consequences = self.flights[slot.0].acked(request, stored);
            self.apply(consequences);
            return;
        };
        let said = produced.error.as_ref().map_or("", |error| error.message.as_str());
        let message = if said.is_empty() { code.text() } else { said };
        let refusal = Refusal { code, message: message.to_owned() };
        let (now, client) = (self.now(), self.shared.client.clone());
        let flight = &mut self.flights[slot.0];
        let consequences =
            flight.refused(request, &refusal, now, |failures| client.backoff(failures));
        let partition = flight.partition();
        debug!(%partition, %code, error = message, "batch refused");
        // It would be sent again in silence for as long as it may take.
        let is_waiting = 0 < consequences.retries && !consequences.stale_leader;
        if is_waiting && flight.failures() == 1 {
            warn!(%partition, %code, error = message, "a batch is refused, and sent again");
        }
        if consequences.stale_leader {
            let topic = flight.partition().topic.clone();
            self.wanted.insert(topic);
        }
        self.apply(consequences);
    }

    fn lose(&mut self, link: LinkId, error: &ClientError, in_doubt: bool) {
        let now = self.now();
        if !self.routes.lose(link, now) {
            return;
        }
        Counters::add(&self.shared.counters.links_lost, 1);
        debug!(%error, "produce stream lost");
        let reason = error.to_string();
        let loss = Loss { reason: &reason, permanent: permanent(error), in_doubt };
        for index in 0..self.flights.len() {
            let consequences = self.flights[index].link_lost(link, &loss);
            // Who led there may lead no longer.
            if 0 < consequences.retries {
                let topic = self.flights[index].partition().topic.clone();
                self.wanted.insert(topic);
            }
            self.apply(consequences);
        }
        self.trouble = Some(reason);
    }

    /// Starts to learn what is missing: the producer's id, the leaders of partitions.
    pub(super) fn learn(&mut self, now: Time) {
        if self.learning || now < self.learn_again_at {
            return;
        }
        let client = self.shared.client.clone();
        if self.identity.is_none() && self.shared.settings.idempotence {
            self.learning = true;
            self.helpers.spawn(async move {
                let given = client.admin().init_producer_id().await;
                Learnt::Identity(given.map(|(id, epoch)| Identity { id, epoch }))
            });
            return;
        }
        if self.wanted.is_empty() {
            return;
        }
        self.learning = true;
        let topics: Vec<TopicName> = std::mem::take(&mut self.wanted).into_iter().collect();
        self.helpers.spawn(async move {
            let outcome = client.refresh(&topics).await;
            Learnt::Topics(topics, outcome)
        });
    }

    pub(super) fn take_in(&mut self, learnt: Option<Learnt>) {
        self.learning = false;
        let outcome = match learnt {
            Some(Learnt::Identity(Ok(identity))) => {
                self.identity = Some(identity);
                for flight in &mut self.flights {
                    flight.identify(identity);
                }
                Ok(())
            }
            Some(Learnt::Identity(Err(error))) => Err(error),
            Some(Learnt::Topics(topics, outcome)) => {
                let known: Vec<_> = topics
                    .iter()
                    .filter_map(|topic| self.shared.client.known_topic(topic.as_str()))
                    .collect();
                let mut accumulator = self.shared.accumulator.lock();
                for topic in known {
                    accumulator.learn(&topic);
                }
                outcome
            }
            // It panicked or was cancelled: it is started again below.
            None => Ok(()),
        };
        match outcome {
            Ok(()) => {
                self.failures_to_learn = 0;
                // Leaders change seldom: a node that says otherwise is asked again in a moment.
                self.learn_again_at = self.now() + self.shared.client.backoff(1);
            }
            Err(error) => {
                self.failures_to_learn = self.failures_to_learn.saturating_add(1);
                let wait = self.shared.client.backoff(self.failures_to_learn);
                self.learn_again_at = self.now() + wait;
                warn!(%error, "cannot learn where to send");
                self.trouble = Some(error.to_string());
            }
        }
    }
}

/// The code of an error that will not go away by itself, after which batches fail at once.
fn permanent(error: &ClientError) -> Option<ErrorCode> {
    let ClientError::Status { code, .. } = error else { return None };
    match code {
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
            Some(ErrorCode::ClusterAuthorizationFailed)
        }
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Some(ErrorCode::InvalidRequest),
        tonic::Code::Unimplemented => Some(ErrorCode::UnsupportedVersion),
        _ => None,
    }
}
