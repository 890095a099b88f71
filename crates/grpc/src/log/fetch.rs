//! A fetch stream: reads on from its positions for as long as the client listens.

mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rafka_broker::Error;
use rafka_broker::fetch::{Fetched, Isolation};
use rafka_broker::offsets::{self, Spec};
use rafka_core::{ByteSize, Offset, PartitionIndex};
use rafka_proto::v1::{FetchPartition, FetchRequest, FetchedPartition};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use self::wire::{Message, Part};
use super::reader::{Lot, Manner, Reader, Tracked};
use super::unpack::{Marks, Packed, Unpacked, Unpacker};
use crate::convert;
use crate::gateway::{Gateway, stopping};

const BYTES_DEFAULT: ByteSize = ByteSize::mib(1);
const WAIT_DEFAULT: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_mins(5);

/// One fetch stream.
pub(super) struct Session {
    gateway: Arc<Gateway>,
    reader: Reader,
    bytes_max: ByteSize,
    is_decoded: bool,
    /// Records on their way, if they are decoded.
    unpacker: Unpacker,
    /// Messages that are ready.
    ready: VecDeque<Message>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Session {
    /// Checks the request and takes a place among the readers.
    ///
    /// # Errors
    /// If the request is malformed or all places are taken.
    pub(super) async fn start(
        gateway: Arc<Gateway>,
        request: FetchRequest,
    ) -> Result<Self, Status> {
        let place = gateway.reader()?;
        convert::check_items("partitions", request.partitions.len())?;
        let bytes_max = bytes_max(&gateway, request.max_bytes);
        let manner = Manner {
            isolation: convert::isolation(request.isolation)?,
            bytes_max,
            bytes_min: ByteSize(u64::from(request.min_bytes.max(1))),
            wait_max: convert::span("max_wait_ms", request.max_wait_ms, WAIT_DEFAULT, WAIT_MAX)?,
        };
        let (tracked, mut refused) = tracked(request.partitions, bytes_max)?;
        let tracked = if request.until_end {
            let (reachable, unknown) = with_ends(&gateway, tracked, manner.isolation).await;
            refused.extend(unknown);
            reachable
        } else {
            tracked
        };
        let mut ready = VecDeque::new();
        if !refused.is_empty() {
            ready.push_back(refused.into_iter().map(Part::from).collect());
        }
        Ok(Self {
            reader: Reader::new(Arc::clone(&gateway), manner, tracked),
            gateway,
            bytes_max,
            is_decoded: request.decode,
            unpacker: Unpacker::default(),
            ready,
            is_over: false,
            _place: place,
        })
    }

    /// Its messages and its status, as the body of the response. Dropped, it reads no more.
    pub(super) fn into_body(self) -> Body {
        Body::new(wire::Body::new(futures_util::stream::unfold(
            Box::new(self),
            |mut session| async move { session.next().await.map(|message| (message, session)) },
        )))
    }

    async fn next(&mut self) -> Option<Result<Message, Status>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok(message));
            }
            if let Some(unpacked) = self.unpacker.next(self.bytes_max) {
                if unpacked.error.is_some() {
                    self.reader.remove(&unpacked.name, unpacked.partition);
                }
                return Some(Ok(shown(unpacked).into_iter().map(Part::from).collect()));
            }
            if self.is_over || self.reader.is_done() {
                return None;
            }
            let lots = tokio::select! {
                biased;
                () = self.gateway.stop.cancelled() => {
                    self.is_over = true;
                    return Some(Err(stopping()));
                }
                lots = self.reader.round() => lots,
            };
            self.take(lots);
        }
    }

    /// Makes a message of what a round brought; what is to be decoded comes after it.
    fn take(&mut self, lots: Vec<Lot>) {
        let mut parts = Vec::new();
        for Lot { name, partition, from, next, result } in lots {
            match result {
                Ok(fetched) if self.is_decoded && !fetched.batches.is_empty() => {
                    let marks = marks(&fetched);
                    let batches = fetched.batches.into();
                    self.unpacker.add(Packed { name, partition, from, next, batches, marks });
                }
                Ok(fetched) => parts.push(raw(name, partition, next, fetched)),
                Err(error) => parts.push(failed(name, partition, &error).into()),
            }
        }
        if !parts.is_empty() {
            self.ready.push_back(parts);
        }
    }
}

/// What a client asks for, within what the node allows.
pub(super) fn bytes_max(gateway: &Gateway, asked: u32) -> ByteSize {
    let asked = if asked == 0 { BYTES_DEFAULT } else { ByteSize(u64::from(asked)) };
    asked.min(gateway.settings.fetch_bytes_max)
}

pub(super) fn marks(fetched: &Fetched) -> Marks {
    Marks {
        high_watermark: fetched.high_watermark,
        last_stable_offset: fetched.last_stable_offset,
        log_start: fetched.log_start,
    }
}

/// The positions of the request, and the answers for those that name nothing.
fn tracked(
    partitions: Vec<FetchPartition>,
    bytes_max: ByteSize,
) -> Result<(Vec<Tracked>, Vec<FetchedPartition>), Status> {
    let mut seen = BTreeSet::new();
    let (mut tracked, mut refused) = (Vec::new(), Vec::new());
    for wanted in partitions {
        let FetchPartition { topic: name, topic_id, partition, offset, .. } = wanted;
        let topic = match convert::topic_ref(&name, &topic_id) {
            Ok(topic) => topic,
            Err(error) => {
                refused.push(failed(name, partition, &error));
                continue;
            }
        };
        if !seen.insert((topic.clone(), partition)) {
            let message = format!("partitions names topic {topic}, partition {partition} twice");
            return Err(convert::invalid(message));
        }
        let own = match wanted.max_bytes {
            0 => bytes_max,
            bytes => ByteSize(u64::from(bytes)).min(bytes_max),
        };
        tracked.push(Tracked {
            name,
            topic,
            partition,
            offset: Offset(offset),
            leader_epoch: convert::epoch(wanted.current_leader_epoch),
            bytes_max: own,
            end: None,
        });
    }
    Ok((tracked, refused))
}

/// Notes where each partition ends now; those read to the end already are left out.
async fn with_ends(
    gateway: &Gateway,
    tracked: Vec<Tracked>,
    isolation: Isolation,
) -> (Vec<Tracked>, Vec<FetchedPartition>) {
    let question = |tracked: &Tracked| offsets::Request {
        topic: tracked.topic.clone(),
        partition: PartitionIndex(tracked.partition),
        spec: Spec::Latest,
        isolation,
        leader_epoch: tracked.leader_epoch,
    };
    let ends = gateway.broker.list_offsets(tracked.iter().map(question).collect()).await;
    let (mut reachable, mut refused) = (Vec::new(), Vec::new());
    for (mut tracked, end) in tracked.into_iter().zip(ends) {
        match end {
            // Beyond the end is an error that the first round finds.
            Ok(found) if tracked.offset == found.offset => {}
            Ok(found) => {
                tracked.end = Some(found.offset);
                reachable.push(tracked);
            }
            Err(error) => refused.push(failed(tracked.name, tracked.partition, &error)),
        }
    }
    (reachable, refused)
}

fn raw(topic: String, partition: i32, next: Offset, fetched: Fetched) -> Part {
    let about = FetchedPartition {
        topic,
        partition,
        error: None,
        batches: Bytes::new(),
        records: Vec::new(),
        next_offset: next.0,
        high_watermark: fetched.high_watermark.0,
        last_stable_offset: fetched.last_stable_offset.0,
        log_start_offset: fetched.log_start.0,
    };
    Part { about, batches: fetched.batches }
}

fn shown(unpacked: Unpacked) -> Vec<FetchedPartition> {
    let Unpacked { name, partition, marks, records, next_offset, error } = unpacked;
    let mut shown = Vec::new();
    if error.is_none() || !records.is_empty() {
        shown.push(FetchedPartition {
            topic: name.clone(),
            partition,
            error: None,
            batches: Bytes::new(),
            records,
            next_offset: next_offset.0,
            high_watermark: marks.high_watermark.0,
            last_stable_offset: marks.last_stable_offset.0,
            log_start_offset: marks.log_start.0,
        });
    }
    shown.extend(error.map(|error| failed(name, partition, &error)));
    shown
}

fn failed(topic: String, partition: i32, error: &Error) -> FetchedPartition {
    FetchedPartition {
        topic,
        partition,
        error: Some(convert::error(error)),
        batches: Bytes::new(),
        records: Vec::new(),
        next_offset: -1,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
    }
}
