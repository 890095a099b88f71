//! What the streams bring, and what is done about their failures.

use rafka_client::admin::Isolation;
use rafka_client::convert::{check, code_of};
use rafka_client::{Error as ClientError, TopicPartition, v1};
use rafka_core::{ErrorCode, Offset, PartitionIndex, TopicName};
use tracing::debug;

use super::Driver;
use crate::budget::Share;
use crate::error::Error;
use crate::fetcher::{News, StreamId};
use crate::metrics::Counters;
use crate::partitions::{Need, Nowhere};
use crate::settings::OffsetReset;

impl Driver {
    pub(super) fn hear(&mut self, stream: StreamId, news: News) {
        match news {
            News::Partition(fetched, share) => self.hear_partition(stream, fetched, share),
            News::Ended(error) => self.hear_end(stream, error),
        }
    }

    fn hear_partition(&mut self, stream: StreamId, fetched: v1::FetchedPartition, share: Share) {
        // A name that is none was never asked for.
        let Ok(topic) = TopicName::new(&fetched.topic) else { return };
        let partition = TopicPartition::new(topic, PartitionIndex(fetched.partition));
        // News of a stream that was given up count no more.
        let Some(version) = self.fetcher.version(stream, &partition) else { return };
        if let Some(code) = code_of(fetched.error.as_ref()) {
            let refused = check(&partition, fetched.error.as_ref());
            self.fetcher.dropped(stream, &partition);
            if self.shared.partitions.lock().is_current(&partition, version) {
                self.refused(&partition, code, refused.err());
            }
            self.look_soon();
            return;
        }
        self.fetcher.works(stream);
        let end = match self.shared.settings.isolation {
            Isolation::ReadUncommitted => fetched.high_watermark,
            Isolation::ReadCommitted => fetched.last_stable_offset,
        };
        let mut partitions = self.shared.partitions.lock();
        if 0 <= end {
            partitions.note_end(&partition, Offset(end));
        }
        let next = Offset(fetched.next_offset);
        partitions.offer(&partition, version, fetched.batches, next, share);
    }

    fn refused(&mut self, partition: &TopicPartition, code: ErrorCode, error: Option<ClientError>) {
        debug!(%partition, %code, "the node reads the partition no further");
        let now = self.now();
        let shared = std::sync::Arc::clone(&self.shared);
        let mut partitions = shared.partitions.lock();
        // What is left to give was in the log: only then is the question where to go on.
        if code == ErrorCode::OffsetOutOfRange && !partitions.has_fetched(partition) {
            let position = partitions.position(partition).unwrap_or_default();
            let need = match shared.settings.offset_reset {
                OffsetReset::None => Need::Nowhere(Nowhere::OutOfRange(position)),
                OffsetReset::Earliest | OffsetReset::Latest => Need::Reset,
            };
            // It is current, so it is there.
            let _known = partitions.relocate(partition, need);
            return;
        }
        partitions.fail(partition, |failures| now + shared.client.backoff(failures));
        drop(partitions);
        self.wanted.insert(partition.topic.clone());
        // A damaged log is said to be retriable, because another replica may be sound; whoever
        // waits should know nevertheless.
        let worth_telling = !code.is_retriable() || code == ErrorCode::CorruptMessage;
        if worth_telling
            && code != ErrorCode::OffsetOutOfRange
            && let Some(error) = error
        {
            self.fail(Error::Client(error));
        }
    }

    fn hear_end(&mut self, stream: StreamId, error: Option<ClientError>) {
        let partitions = self.fetcher.partitions_of(stream);
        let now = self.now();
        self.fetcher.ended(stream, now, error.is_some());
        self.look_soon();
        if partitions.is_empty() {
            return;
        }
        // Who led there may lead no longer.
        self.wanted.extend(partitions.into_iter().map(|partition| partition.topic));
        let Some(error) = error else { return };
        Counters::add(&self.shared.counters.streams_lost, 1);
        debug!(%error, "fetch stream lost");
        if !error.is_retriable() {
            self.fail(Error::Client(error));
        }
    }
}
