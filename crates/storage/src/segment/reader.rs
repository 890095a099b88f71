//! Reading from a segment: by offset and by time.

use std::path::PathBuf;
use std::sync::Arc;

use rafka_core::batch::Records;
use rafka_core::{Batch, ByteSize, Offset, Timestamp, TopicPartition};

use super::Segment;
use super::format::{Frame, Identity};
use super::index::{self, Entry};
use super::store::{Kind, Store, read_entry};
use super::walk::{Step, Walk};
use crate::disk::File;
use crate::{Error, ReadError, TimedOffset};

/// Records are inflated up to this size to look at their timestamps and keys. The broker lets in
/// half of it; what is larger all the same counts as unreadable, and is left as it is.
pub(crate) const INFLATE_MAX: ByteSize = ByteSize::mib(64);

/// The most that is read at once. A larger limit takes several reads.
const READ_LEN_MAX: usize = 4 * 1024 * 1024;

/// What of a segment is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// From the batch that holds this offset, or the next one after it.
    pub(crate) from: Offset,
    /// Only batches that end at or below this.
    pub(crate) below: Offset,
    /// The most bytes of batches, those that are there already included. The very first batch
    /// comes whatever its size.
    pub(crate) limit: ByteSize,
}

/// An open segment.
pub(crate) struct Opened {
    identity: Identity,
    segment: Segment,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl Store {
    /// Adds the wanted batches to `out`, verified. Nothing is added when the segment has none.
    ///
    /// Their records share what was read at once, up to 4 MiB.
    ///
    /// The caller makes sure that the segment was not cut or replaced meanwhile before it believes
    /// a failure.
    ///
    /// # Errors
    /// If nothing was read before and the batch wanted first is damaged; it says where the next
    /// whole one begins. If the file cannot be read.
    pub(crate) fn read(
        &self,
        name: &TopicPartition,
        segment: &Segment,
        wanted: Wanted,
        out: &mut Vec<Batch>,
    ) -> Result<(), ReadError> {
        let opened = self.opened(name, segment)?;
        let floor = self.floor(&opened, |entry| entry.offset(segment.base) <= wanted.from)?;
        let chunk = wanted.limit.0.saturating_add(2 * index::INTERVAL);
        let chunk = usize::try_from(chunk).unwrap_or(READ_LEN_MAX).min(READ_LEN_MAX);
        let mut walk = opened.walk_from(&floor).reading(chunk);
        let mut bytes: u64 = out.iter().map(|batch| batch.len() as u64).sum();
        let mut next = opened.first(&mut walk, wanted.from)?;
        loop {
            let batch = match next {
                Found::End => return Ok(()),
                Found::Damaged { offset, next } => {
                    let unwanted = !out.is_empty() || wanted.below <= offset;
                    return if unwanted {
                        Ok(())
                    } else {
                        Err(ReadError::Damaged { offset, next })
                    };
                }
                Found::Batch(batch) => batch,
            };
            let fits = out.is_empty() || bytes + batch.len() as u64 <= wanted.limit.0;
            if !fits || wanted.below < batch.next_offset() {
                return Ok(());
            }
            bytes += batch.len() as u64;
            out.push(batch);
            if wanted.limit.0 <= bytes {
                return Ok(());
            }
            next = opened.next(&mut walk)?;
        }
    }

    /// The first record in the segment, below `below`, whose timestamp is at least `at`.
    ///
    /// # Errors
    /// If a batch that may hold it is damaged, or the file cannot be read.
    pub(crate) fn find_by_time(
        &self,
        name: &TopicPartition,
        segment: &Segment,
        at: Timestamp,
        below: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        if segment.max_timestamp < at {
            return Ok(None);
        }
        let opened = self.opened(name, segment)?;
        let floor = self.floor(&opened, |entry| entry.max_before < at)?;
        let mut walk = opened.walk_from(&floor);
        loop {
            match opened.next(&mut walk)? {
                Found::End => return Ok(None),
                Found::Damaged { offset, next } => return Err(ReadError::Damaged { offset, next }),
                Found::Batch(batch) if below <= batch.base_offset() => return Ok(None),
                Found::Batch(batch) => {
                    if let Some(found) = first_at(&batch, at) {
                        return Ok((found.offset < below).then_some(found));
                    }
                }
            }
        }
    }

    /// Opens a segment, to go through it more than once or batch by batch.
    ///
    /// # Errors
    /// If its file cannot be opened, or is of another version.
    pub(crate) fn opened(&self, name: &TopicPartition, segment: &Segment) -> Result<Opened, Error> {
        let identity = segment.identity(name);
        let file = self.open_log(&identity)?;
        let path = self.path(&identity, Kind::Log);
        Ok(Opened { identity, segment: segment.clone(), path, file })
    }

    /// Where to begin: the last entry of the index for which `holds`, which is true for a first
    /// part of the entries.
    pub(super) fn floor(
        &self,
        opened: &Opened,
        holds: impl Fn(&Entry) -> bool,
    ) -> Result<Floor, Error> {
        if let Some(found) = self.search(opened, &holds) {
            return Ok(found);
        }
        let entries = self.rebuild_index(&opened.identity, &opened.segment, &*opened.file)?;
        let first = entries.partition_point(&holds);
        let last = first.checked_sub(1).and_then(|last| entries.get(last).copied());
        Ok(Floor { count: u32::try_from(first).unwrap_or(opened.segment.index_entries), last })
    }

    /// Searches the index file without reading all of it. `None` if it is missing or damaged.
    fn search(&self, opened: &Opened, holds: &impl Fn(&Entry) -> bool) -> Option<Floor> {
        let (mut low, mut high) = (0, opened.segment.index_entries);
        let mut last = None;
        if low < high {
            let file = self.index_file(&opened.identity).ok()?;
            while low < high {
                let middle = low + (high - low) / 2;
                let entry = read_entry(&*file, opened.identity.seed(), middle)?;
                if holds(&entry) {
                    last = Some(entry);
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
        }
        Some(Floor { count: low, last })
    }
}

/// The first entries of an index.
pub(super) struct Floor {
    /// How many they are.
    pub(super) count: u32,
    /// The last of them.
    pub(super) last: Option<Entry>,
}

/// What reading came upon.
pub(super) enum Found {
    Batch(Batch),
    Damaged { offset: Offset, next: Offset },
    End,
}

impl Opened {
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk::new(&*self.file, &self.path, &self.identity, self.segment.file_len)
    }

    pub(super) fn walk_from(&self, floor: &Floor) -> Walk<'_> {
        let Some(entry) = floor.last else { return self.walk() };
        self.walk().starting_at(u64::from(entry.position), entry.offset(self.segment.base))
    }

    /// The first batch that ends above `from`.
    ///
    /// Only base offsets are covered by the frames. Where a batch ends is known after its own
    /// checksum was verified, or from where the next one begins.
    fn first(&self, walk: &mut Walk<'_>, from: Offset) -> Result<Found, Error> {
        let mut before: Option<Frame> = None;
        let mut damage: Option<Offset> = None;
        loop {
            match walk.step()? {
                Some(Step::Frame(frame)) if frame.base_offset <= from => {
                    if from <= last_offset(&frame)
                        && let Some(batch) = walk.batch(&frame)?
                    {
                        return Ok(Found::Batch(batch));
                    }
                    (before, damage) = (Some(frame), None);
                }
                Some(Step::Damage { offset, .. }) => damage = Some(damage.unwrap_or(offset)),
                passed => {
                    let after = match passed {
                        Some(Step::Frame(frame)) => Some(frame),
                        _ => None,
                    };
                    let next = after.map_or(self.segment.end, |frame| frame.base_offset);
                    if let Some(frame) = before {
                        match walk.batch(&frame)? {
                            None => {
                                return Ok(Found::Damaged { offset: frame.base_offset, next });
                            }
                            Some(batch) if from < batch.next_offset() => {
                                return Ok(Found::Batch(batch));
                            }
                            Some(_) => {}
                        }
                    }
                    if let Some(offset) = damage {
                        return Ok(Found::Damaged { offset, next });
                    }
                    return match after {
                        Some(frame) => self.verified(walk, &frame),
                        None => Ok(Found::End),
                    };
                }
            }
        }
    }

    /// The batch after those passed.
    pub(super) fn next(&self, walk: &mut Walk<'_>) -> Result<Found, Error> {
        match walk.step()? {
            None => Ok(Found::End),
            Some(Step::Frame(frame)) => self.verified(walk, &frame),
            Some(Step::Damage { offset, .. }) => {
                Ok(Found::Damaged { offset, next: self.next_offset(walk)? })
            }
        }
    }

    fn verified(&self, walk: &mut Walk<'_>, frame: &Frame) -> Result<Found, Error> {
        match walk.batch(frame)? {
            Some(batch) => Ok(Found::Batch(batch)),
            None => {
                let next = self.next_offset(walk)?;
                Ok(Found::Damaged { offset: frame.base_offset, next })
            }
        }
    }

    /// Where the next whole frame's batch begins, or the segment ends. Passes it.
    fn next_offset(&self, walk: &mut Walk<'_>) -> Result<Offset, Error> {
        loop {
            match walk.step()? {
                Some(Step::Frame(frame)) => return Ok(frame.base_offset),
                Some(Step::Damage { .. }) => {}
                None => return Ok(self.segment.end),
            }
        }
    }
}

/// Every frame of a segment in turn, for those who must not pass over damage.
pub(crate) struct Frames<'a> {
    opened: &'a Opened,
    walk: Walk<'a>,
}

impl Opened {
    /// All frames, from the first on.
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames { opened: self, walk: self.walk().reading(READ_LEN_MAX) }
    }

    pub(crate) fn corrupt(&self, position: u64, what: String) -> Error {
        Error::Corrupt { path: self.path.clone(), position, what }
    }
}

impl Frames<'_> {
    /// The next frame.
    ///
    /// # Errors
    /// If what comes next is damaged, or the file cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Error> {
        match self.walk.step()? {
            None => Ok(None),
            Some(Step::Frame(frame)) => Ok(Some(frame)),
            Some(Step::Damage { position, .. }) => {
                Err(self.opened.corrupt(position, "no frame begins here".to_owned()))
            }
        }
    }

    /// The batch of a frame.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    pub(crate) fn batch(&mut self, frame: &Frame) -> Result<Batch, Error> {
        let batch = self.walk.batch(frame)?;
        batch.ok_or_else(|| {
            let what = format!("the batch at offset {} is damaged", frame.base_offset);
            self.opened.corrupt(frame.position, what)
        })
    }
}

/// Where the batch says that it ends.
pub(super) fn last_offset(frame: &Frame) -> Offset {
    frame.base_offset + i64::from(frame.unverified.last_offset_delta)
}

/// The first record of the batch whose timestamp is at least `at`.
pub(super) fn first_at(batch: &Batch, at: Timestamp) -> Option<TimedOffset> {
    if batch.max_timestamp() < at || batch.header.record_count == 0 {
        return None;
    }
    let whole = TimedOffset { offset: batch.base_offset(), timestamp: batch.max_timestamp() };
    let Ok(mut records) = batch.records(INFLATE_MAX) else {
        // Nobody could read its records; a client that asks for the time still gets to the batch.
        return Some(whole);
    };
    first_view(batch, &mut records, at).unwrap_or(Some(whole))
}

/// `None` if the records cannot be read.
fn first_view(batch: &Batch, records: &mut Records, at: Timestamp) -> Option<Option<TimedOffset>> {
    while let Some(view) = records.next_view() {
        let view = view.ok()?;
        if at <= view.timestamp {
            let offset = batch.base_offset() + i64::from(view.offset_delta);
            return Some(Some(TimedOffset { offset, timestamp: view.timestamp }));
        }
    }
    Some(None)
}
