//! What the files hold, one thing after the other, for people and for scripts.

use std::fmt;

use rafka_core::compression::Compression;
use rafka_core::producer_state::ProducerTable;
use rafka_core::{
    Batch, Epoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
};
use serde::Serialize;
use uuid::Uuid;

use crate::Durability;
use crate::manifest::{self, Contents, Log};
use crate::per_lane::LANES;
use crate::segment::Segment;
use crate::segment::format::Identity;

/// One thing that a file holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Item {
    /// The header of a segment file.
    Segment {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// No batch begins below this.
        base_offset: Offset,
        /// Which rewriting of the log made it.
        generation: u32,
    },
    /// A batch of a segment or a journal file.
    Batch {
        /// Where its frame or record begins in the file.
        position: u64,
        /// The offset of its first record.
        base_offset: Offset,
        /// The offset of its last record.
        last_offset: Offset,
        /// The leader that appended it.
        leader_epoch: Epoch,
        /// How many bytes it takes.
        bytes: usize,
        /// How many records it has.
        records: i32,
        /// Their codec.
        compression: Option<Compression>,
        /// Their largest timestamp.
        max_timestamp: Timestamp,
        /// Who sent it, if idempotent.
        producer_id: ProducerId,
        /// The sender's incarnation.
        producer_epoch: ProducerEpoch,
        /// The sequence number of its first record.
        base_sequence: i32,
        /// Whether it is part of a transaction.
        transactional: bool,
        /// Whether it is a marker.
        control: bool,
        /// When compaction first covered it.
        compacted_at: Option<Timestamp>,
    },
    /// The header of an index file.
    Index {
        /// What ties it to its segment.
        seed: u32,
    },
    /// An entry of an index file.
    IndexEntry {
        /// Counted from 0.
        number: u32,
        /// The batch's base offset, less the segment's.
        relative_offset: u32,
        /// Where its frame begins in the segment file.
        position: u32,
        /// The largest timestamp before it.
        max_timestamp_before: Timestamp,
    },
    /// What the manifest says of the data directory.
    Manifest {
        /// Whose it is.
        node: Option<Uuid>,
        /// Whether the last stop wrote everything out.
        clean: bool,
        /// The id that the next log will get, or a higher one.
        log_next: u64,
    },
    /// What the manifest says of a lane of the journal.
    Lane {
        /// Which.
        lane: Durability,
        /// Whether it may hold what nothing else does.
        in_use: bool,
        /// The number of the file that it last began with.
        file: u64,
        /// Records below this may be gone.
        released: u64,
    },
    /// What the manifest says of a log.
    Log {
        /// Its id.
        log: u64,
        /// Its topic.
        topic: TopicId,
        /// Its partition.
        partition: PartitionIndex,
        /// The first offset that may be read.
        start: Offset,
        /// Everything below is in segments.
        end: Offset,
        /// What of the journal with synced writes is covered.
        covered_fsync: u64,
        /// What of the journal with buffered writes is covered.
        covered_os: u64,
        /// Below this there is one record per key.
        compacted: Offset,
        /// Its leader epochs, each with its first offset.
        epochs: Vec<(Epoch, Offset)>,
        /// How many idempotent producers are known below its end.
        producers: usize,
        /// Where the transactions begin that are open there, and whose they are.
        open_transactions: Vec<(Offset, ProducerId)>,
    },
    /// What the manifest says of a segment of the log before.
    LogSegment {
        /// No batch begins below this.
        base_offset: Offset,
        /// Every batch ends at or below this.
        end: Offset,
        /// Which rewriting of the log made it.
        generation: u32,
        /// How much of its file counts.
        file_bytes: u64,
        /// How many entries its index has.
        index_entries: u32,
        /// The largest timestamp of its records.
        max_timestamp: Timestamp,
        /// When it was last appended to.
        last_append: Timestamp,
    },
    /// A log that was deleted, and whose files may still be there.
    DeletedLog {
        /// Its id.
        log: u64,
        /// Its topic.
        topic: TopicId,
        /// Its partition.
        partition: PartitionIndex,
    },
    /// The header of a journal file.
    JournalFile {
        /// Which journal it belongs to.
        lane: Durability,
        /// Higher than that of any file before.
        incarnation: u64,
        /// Its size.
        capacity: u64,
        /// Whose journal it belongs to.
        node: Uuid,
        /// For the first file of a process: of earlier files, records below this count.
        cut: Option<u64>,
        /// For the first file of a process: the sequence of its first record.
        first: Option<u64>,
    },
    /// A record of a journal file. The batch of an append follows.
    JournalRecord {
        /// Where it begins in the file.
        position: u64,
        /// Its sequence.
        sequence: u64,
        /// Everything below this was durable when it was written.
        durable: u64,
        /// The log that it is about.
        log: Option<u64>,
        /// How many bytes it takes.
        bytes: u32,
        /// What it does.
        action: Action,
    },
    /// Nothing that counts follows in this journal file.
    JournalEnd {
        /// Where in the file.
        position: u64,
    },
    /// Bytes that are not what must be there.
    Damage {
        /// Where they begin in the file.
        position: u64,
        /// What is wrong.
        what: String,
    },
}

/// What a record of the journal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Appends a batch.
    Append,
    /// Drops what ends above this offset.
    TruncateTo(Offset),
    /// Says that everything before it is durable.
    Seal,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => f.write_str("append"),
            Self::TruncateTo(end) => write!(f, "truncate to {end}"),
            Self::Seal => f.write_str("seal"),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { topic, partition, base_offset, generation } => {
                write!(f, "segment of {topic}/{partition} from offset {base_offset}")?;
                write!(f, ", generation {generation}")
            }
            Self::Batch { .. } => self.fmt_batch(f),
            Self::Index { seed } => write!(f, "index of the segment with checksum {seed:08x}"),
            Self::IndexEntry { number, relative_offset, position, max_timestamp_before } => {
                write!(f, "entry {number}: base offset + {relative_offset} at {position}")?;
                write!(f, ", timestamps before up to {max_timestamp_before}")
            }
            Self::Manifest { node, clean, log_next } => {
                let node = node.map_or("none yet".to_owned(), |node| node.to_string());
                let stop = if *clean { "clean" } else { "not clean" };
                write!(f, "manifest of node {node}, {stop}, next log {log_next}")
            }
            Self::Lane { lane, in_use, file, released } => {
                let (lane, needed) = (lane.name(), if *in_use { "in use" } else { "not needed" });
                write!(f, "journal {lane}: {needed}, began with file {file}")?;
                write!(f, ", released below {released}")
            }
            Self::Log { log, topic, partition, start, end, .. } => {
                write!(f, "log {log}: {topic}/{partition} offsets {start}..{end}")?;
                self.fmt_log_rest(f)
            }
            Self::LogSegment {
                base_offset, end, generation, file_bytes, index_entries, ..
            } => {
                write!(f, "  segment {base_offset}..{end} generation {generation}")?;
                write!(f, ", {file_bytes} bytes, {index_entries} index entries")
            }
            Self::DeletedLog { log, topic, partition } => {
                write!(f, "deleted log {log}: {topic}/{partition}")
            }
            Self::JournalFile { lane, incarnation, capacity, node, cut, first } => {
                let lane = lane.name();
                write!(f, "journal of node {node}, {lane}, incarnation {incarnation}")?;
                write!(f, ", {capacity} bytes")?;
                match (cut, first) {
                    (Some(cut), Some(first)) => {
                        write!(f, ", earlier files count below {cut}, goes on with {first}")
                    }
                    _ => write!(f, ", goes on where the file before ends"),
                }
            }
            Self::JournalRecord { position, sequence, durable, log, bytes, action } => {
                write!(f, "{position}: record {sequence}, {action}")?;
                log.map_or(Ok(()), |log| write!(f, ", log {log}"))?;
                write!(f, ", {bytes} bytes, durable below {durable}")
            }
            Self::JournalEnd { position } => write!(f, "{position}: nothing more that counts"),
            Self::Damage { position, what } => write!(f, "{position}: DAMAGED: {what}"),
        }
    }
}

impl Item {
    fn fmt_batch(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Batch { position, base_offset, last_offset, records, bytes, .. } = self else {
            return Ok(());
        };
        write!(f, "{position}: offsets {base_offset}..={last_offset}, {records} records")?;
        write!(f, ", {bytes} bytes")?;
        let Self::Batch { leader_epoch, compression, max_timestamp, compacted_at, .. } = self
        else {
            return Ok(());
        };
        let codec = compression.map_or("unknown codec", Compression::name);
        write!(f, ", {codec}, epoch {leader_epoch}, timestamps up to {max_timestamp}")?;
        let Self::Batch { producer_id, producer_epoch, base_sequence, .. } = self else {
            return Ok(());
        };
        if producer_id.is_some() {
            write!(f, ", producer {producer_id}/{producer_epoch} sequence {base_sequence}")?;
        }
        if let Self::Batch { transactional: true, .. } = self {
            write!(f, ", transactional")?;
        }
        if let Self::Batch { control: true, .. } = self {
            write!(f, ", control")?;
        }
        compacted_at.map_or(Ok(()), |at| write!(f, ", compacted at {at}"))
    }

    fn fmt_log_rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Log { covered_fsync, covered_os, compacted, epochs, producers, .. } = self else {
            return Ok(());
        };
        write!(f, ", compacted below {compacted}, covers {covered_fsync}/{covered_os}")?;
        write!(f, ", {} epochs, {producers} producers", epochs.len())?;
        let Self::Log { open_transactions, .. } = self else { return Ok(()) };
        for (first, producer) in open_transactions {
            write!(f, ", transaction of {producer} open since {first}")?;
        }
        Ok(())
    }

    pub(super) fn of_identity(identity: &Identity) -> Self {
        Self::Segment {
            topic: identity.name.topic,
            partition: identity.name.partition,
            base_offset: identity.base,
            generation: identity.generation,
        }
    }

    pub(super) fn of_batch(position: u64, batch: &Batch, compacted_at: Option<Timestamp>) -> Self {
        let header = &batch.header;
        Self::Batch {
            position,
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            leader_epoch: header.leader_epoch,
            bytes: batch.len(),
            records: header.record_count,
            compression: header.attributes.compression().ok(),
            max_timestamp: header.max_timestamp,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.attributes.is_transactional(),
            control: header.attributes.is_control(),
            compacted_at,
        }
    }

    fn of_log(log: &Log, producers: &ProducerTable) -> Self {
        let checkpoint = &log.checkpoint;
        Self::Log {
            log: log.id.0,
            topic: log.name.topic,
            partition: log.name.partition,
            start: checkpoint.start,
            end: checkpoint.end,
            covered_fsync: checkpoint.covered.fsync,
            covered_os: checkpoint.covered.os,
            compacted: checkpoint.compacted,
            epochs: checkpoint.epochs.entries().to_vec(),
            producers: producers.len(),
            open_transactions: producers.open().collect(),
        }
    }

    fn of_segment(segment: &Segment) -> Self {
        Self::LogSegment {
            base_offset: segment.base,
            end: segment.end,
            generation: segment.generation,
            file_bytes: segment.file_len,
            index_entries: segment.index_entries,
            max_timestamp: segment.max_timestamp,
            last_append: segment.last_append,
        }
    }
}

/// Everything that a manifest holds.
pub(super) fn of_manifest(
    (contents, producers): &(Contents, Vec<ProducerTable>),
) -> impl Iterator<Item = Item> {
    let Contents { node, lanes, log_next, logs, deleted } = contents;
    let head = Item::Manifest { node: *node, clean: contents.is_clean(), log_next: *log_next };
    let logs = logs.iter().zip(producers).flat_map(|(log, producers)| {
        let segments = log.checkpoint.segments.iter().map(Item::of_segment);
        std::iter::once(Item::of_log(log, producers)).chain(segments)
    });
    let deleted = deleted.iter().map(|(log, name)| Item::DeletedLog {
        log: log.0,
        topic: name.topic,
        partition: name.partition,
    });
    let lanes = LANES.map(|lane| {
        let manifest::Lane { in_use, file, released } = *lanes.of(lane);
        Item::Lane { lane, in_use, file, released: released.0 }
    });
    std::iter::once(head).chain(lanes).chain(logs).chain(deleted)
}
