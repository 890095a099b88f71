//! Appending to a segment, in large chunks.

use std::path::PathBuf;
use std::sync::Arc;

use rafka_core::{Batch, Timestamp};

use super::Segment;
use super::format::{self, FRAME_LEN, HEADER_LEN, Identity};
use super::index::{self, Marker};
use crate::Error;
use crate::disk::{self, Disk, File, Open};

/// What is collected before it is handed to the disk.
const CHUNK_LEN: usize = 1024 * 1024;

/// The one appender of a segment.
///
/// After an error it is of no use: drop it and resume from what the manifest holds, which cuts off
/// whatever part was written. So a full disk costs nothing but the attempt.
#[derive(Debug)]
pub(crate) struct Writer {
    segment: Segment,
    seed: u32,
    marker: Marker,
    log: Pending,
    index: Pending,
    index_header: [u8; index::HEADER_LEN],
    created: bool,
}

/// A file, and what was not yet written to its end.
#[derive(Debug)]
struct Pending {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    written: u64,
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn create(
        identity: Identity,
        log: PathBuf,
        index: PathBuf,
        file: Arc<dyn File>,
    ) -> Self {
        let segment = Segment {
            base: identity.base,
            generation: identity.generation,
            end: identity.base,
            file_len: HEADER_LEN as u64,
            batch_bytes: 0,
            index_entries: 0,
            max_timestamp: Timestamp::NONE,
            first_append: Timestamp::NONE,
            last_append: Timestamp::NONE,
        };
        let marker = Marker::new(identity.base);
        let mut writer = Self::resume(identity, segment, marker, (log, index), file);
        writer.log.written = 0;
        writer.log.buffer.extend_from_slice(&identity.header());
        writer.created = true;
        writer
    }

    pub(super) fn resume(
        identity: Identity,
        segment: Segment,
        marker: Marker,
        (log, index): (PathBuf, PathBuf),
        file: Arc<dyn File>,
    ) -> Self {
        let log =
            Pending { path: log, file: Some(file), written: segment.file_len, buffer: Vec::new() };
        let index_len = match segment.index_entries {
            0 => 0,
            entries => index::entry_position(entries),
        };
        let index = Pending { path: index, file: None, written: index_len, buffer: Vec::new() };
        Self {
            seed: identity.seed(),
            marker,
            log,
            index,
            index_header: index::header(&identity),
            created: false,
            segment,
        }
    }

    /// Whether the segment has room for this batch, whatever its size is meant to be: positions
    /// and offsets within a segment are 32-bit numbers.
    pub(crate) fn fits(&self, batch: &Batch) -> bool {
        let end = self.segment.file_len + (FRAME_LEN + batch.len()) as u64;
        let span = batch.next_offset() - self.segment.base;
        end <= format::FILE_LEN_MAX && span <= i64::from(u32::MAX)
    }

    /// Appends a batch that was appended to the log at `now`. It is in the file after
    /// [`Writer::flush`].
    ///
    /// # Errors
    /// If a full chunk cannot be written.
    ///
    /// # Panics
    /// If the batch begins below the segment's end, or does not fit: that is the caller's bug.
    pub(crate) fn append(
        &mut self,
        disk: &dyn Disk,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.appended_between(now, now);
        self.put(disk, batch, None)
    }

    /// As [`Writer::append`], for a batch that compaction has looked at. When it was appended is
    /// said by [`Writer::appended_between`].
    ///
    /// # Errors
    /// If a full chunk cannot be written.
    ///
    /// # Panics
    /// As [`Writer::append`].
    pub(crate) fn put(
        &mut self,
        disk: &dyn Disk,
        batch: &Batch,
        compacted_at: Option<Timestamp>,
    ) -> Result<(), Error> {
        assert!(self.fits(batch), "batch {} does not fit its segment", batch.base_offset());
        let segment = &mut self.segment;
        let (base, position) = (batch.base_offset(), segment.file_len);
        assert!(segment.end <= base, "batch {base} begins below {}, the end", segment.end);
        if let Some(entry) = self.marker.pass(position, base, batch.max_timestamp()) {
            if segment.index_entries == 0 {
                self.index.buffer.extend_from_slice(&self.index_header);
            }
            self.index.buffer.extend_from_slice(&entry.encode(self.seed));
            segment.index_entries += 1;
        }
        let header = batch.header_bytes();
        let frame = format::frame(self.seed, position, &header, batch.len(), compacted_at);
        for part in [&frame[..], &header, &batch.records] {
            self.log.buffer.extend_from_slice(part);
        }
        segment.file_len += (FRAME_LEN + batch.len()) as u64;
        segment.batch_bytes += batch.len() as u64;
        segment.end = batch.next_offset();
        segment.max_timestamp = segment.max_timestamp.max(batch.max_timestamp());
        if CHUNK_LEN <= self.log.buffer.len() { self.flush(disk) } else { Ok(()) }
    }

    /// Takes over when batches were appended to the segment that they come from.
    pub(crate) fn appended_between(&mut self, first: Timestamp, last: Timestamp) {
        let segment = &mut self.segment;
        segment.first_append = match segment.first_append {
            Timestamp::NONE => first,
            earlier => earlier.min(first),
        };
        segment.last_append = segment.last_append.max(last);
    }

    /// Hands everything to the operating system: what [`Writer::segment`] says can be read from
    /// now on, and a following `sync_fs` makes it durable.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn flush(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        self.log.flush(disk)?;
        self.index.flush(disk)
    }

    /// [`Writer::flush`], and makes the batches durable. The index can be lost: it can be made
    /// again.
    ///
    /// # Errors
    /// If it cannot be written or synced. After a failed sync nothing is known about the file.
    pub(crate) fn sync(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        self.flush(disk)?;
        self.log.sync()
    }

    /// [`Writer::sync`], the index included: for segments that nobody will append to.
    ///
    /// # Errors
    /// As [`Writer::sync`].
    pub(crate) fn sync_all(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        self.sync(disk)?;
        self.index.sync()
    }

    /// The segment with everything that was appended: what to put into the manifest, once synced.
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Whether the file is new, so that its name must be synced
    /// ([`Store::sync_names`](super::Store::sync_names)).
    pub(crate) fn created(&self) -> bool {
        self.created
    }
}

impl Pending {
    fn flush(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                disk.open(&self.path, Open::CREATE).map_err(disk::failed("create", &self.path))?
            }
        };
        file.write_at(self.written, &self.buffer).map_err(disk::failed("write", &self.path))?;
        self.file = Some(file);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        match &self.file {
            Some(file) => file.sync_data().map_err(disk::failed("sync", &self.path)),
            None => Ok(()),
        }
    }
}
