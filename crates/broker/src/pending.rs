//! The acknowledgements that a produce request waits for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rafka_core::{Clock, ErrorCode, PartitionIndex, Time};
use tokio::time::{Instant, Sleep};

use crate::partition::AckState;
use crate::produce::PartitionAck;
use crate::stats::Stats;
use crate::{Error, TopicRef};

/// The acknowledgements of one request: a future that yields them in the request's order.
///
/// # Cancel safety
/// Dropping it gives up the answer, not the append.
pub struct Pending {
    partitions: Vec<PendingPartition>,
    deadline: Instant,
    /// Made when the first poll finds something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
    started: Time,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
}

pub(crate) struct PendingPartition {
    pub(crate) topic: TopicRef,
    pub(crate) partition: PartitionIndex,
    pub(crate) ack: AckState,
}

impl Pending {
    pub(crate) fn new(
        partitions: Vec<PendingPartition>,
        deadline: Instant,
        clock: &Arc<dyn Clock>,
        started: Time,
        stats: &Arc<Stats>,
    ) -> Self {
        let (clock, stats) = (Arc::clone(clock), Arc::clone(stats));
        Self { partitions, deadline, timer: None, started, clock, stats }
    }

    /// Polls what is not known yet; whether all is known now.
    fn poll_acks(&mut self, cx: &mut Context<'_>) -> bool {
        let mut all_known = true;
        for partition in &mut self.partitions {
            if let AckState::Waits(receiver) = &mut partition.ack {
                match Pin::new(receiver).poll(cx) {
                    Poll::Pending => all_known = false,
                    Poll::Ready(answer) => {
                        let answer = answer.unwrap_or_else(|_closed| Err(unknown()));
                        partition.ack = AckState::Known(answer);
                    }
                }
            }
        }
        all_known
    }

    fn take(&mut self) -> Vec<PartitionAck> {
        self.stats.produce_latency.observe(self.clock.now().since(self.started));
        std::mem::take(&mut self.partitions)
            .into_iter()
            .map(|PendingPartition { topic, partition, ack }| {
                let result = match ack {
                    AckState::Known(result) => result,
                    AckState::Waits(_) => Err(timed_out()),
                };
                self.stats.produce_failures.add(u64::from(result.is_err()));
                PartitionAck { topic, partition, result }
            })
            .collect()
    }
}

impl Future for Pending {
    type Output = Vec<PartitionAck>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.poll_acks(cx) {
            return Poll::Ready(this.take());
        }
        let deadline = this.deadline;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(this.take()),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn timed_out() -> Error {
    let message = "the batch was appended and is not durable within the timeout; it may still \
                   become so: send it again with the same sequence number";
    Error::new(ErrorCode::RequestTimedOut, message)
}

/// Not `NotLeaderOrFollower`, which says that nothing was appended: this was.
fn unknown() -> Error {
    let message = "the partition was closed before the batch was known to be durable; it may have \
                   become so: send it again with the same sequence number";
    Error::new(ErrorCode::RequestTimedOut, message)
}
