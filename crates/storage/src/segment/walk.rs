//! Going through a segment file frame by frame, past what is damaged.
#![deny(clippy::indexing_slicing)]

use std::path::Path;

use bytes::{Bytes, BytesMut};
use rafka_core::{Batch, Offset};

use super::format::{self, FRAME_AND_BATCH_HEADER_LEN, FRAME_LEN, Frame, Identity};
use crate::Error;
use crate::disk::{self, File};

/// What is read at once where nobody said how much will be wanted.
const READ_LEN: usize = 64 * 1024;

/// A position in a segment file, the frames before it passed.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a dyn File,
    path: &'a Path,
    seed: u32,
    end: u64,
    position: u64,
    /// The next batch begins here or above.
    expected: Offset,
    read_len: usize,
    window: Bytes,
    window_start: u64,
}

/// What comes next in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame.
    Frame(Frame),
    /// Bytes that are no frame, up to the next one or the end.
    Damage {
        /// Where they begin.
        position: u64,
        /// The batches lost here began at this offset or above.
        offset: Offset,
    },
}

impl<'a> Walk<'a> {
    /// At the first frame of a segment of which `end` bytes count.
    pub(crate) fn new(file: &'a dyn File, path: &'a Path, identity: &Identity, end: u64) -> Self {
        Self {
            file,
            path,
            seed: identity.seed(),
            end,
            position: format::HEADER_LEN as u64,
            expected: identity.base,
            read_len: READ_LEN,
            window: Bytes::new(),
            window_start: 0,
        }
    }

    /// At the frame at `position`, whose batch begins at `offset` or above.
    pub(crate) fn starting_at(self, position: u64, offset: Offset) -> Self {
        Self { position, expected: offset, ..self }
    }

    /// Reads this much at once.
    pub(crate) fn reading(self, read_len: usize) -> Self {
        Self { read_len: read_len.max(READ_LEN), ..self }
    }

    /// Where the next frame begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Passes the next frame, or the damage before it. `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn step(&mut self) -> Result<Option<Step>, Error> {
        if self.end <= self.position {
            return Ok(None);
        }
        if let Some(frame) = self.frame_at(self.position)? {
            self.position = frame.end();
            self.expected = frame.base_offset.next();
            return Ok(Some(Step::Frame(frame)));
        }
        let damage = Step::Damage { position: self.position, offset: self.expected };
        self.position = self.next_sound(self.position)?;
        Ok(Some(damage))
    }

    /// Reads and verifies the batch of a frame. `None` if it is damaged.
    ///
    /// Its records are a slice of what was read at once, so that they keep all of that in memory.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn batch(&mut self, frame: &Frame) -> Result<Option<Batch>, Error> {
        let bytes = self.bytes(frame.batch_position(), frame.batch_len)?;
        Ok(Batch::parse(bytes).ok().filter(|batch| batch.base_offset() == frame.base_offset))
    }

    /// The frame at `position` if its checksum fits and it lies where it can.
    fn frame_at(&mut self, position: u64) -> Result<Option<Frame>, Error> {
        let bytes = self.bytes(position, FRAME_AND_BATCH_HEADER_LEN)?;
        let frame = format::parse_frame(self.seed, position, &bytes);
        Ok(frame.filter(|frame| frame.end() <= self.end && self.expected <= frame.base_offset))
    }

    /// The position of the next sound frame behind the damaged one at `position`, or the end.
    fn next_sound(&mut self, position: u64) -> Result<u64, Error> {
        // Often only the checksum or another field is damaged, and the length still leads on.
        let head = self.bytes(position, 4)?;
        if let Some(length) = head.first_chunk() {
            let next = position + FRAME_LEN as u64 + u64::from(u32::from_be_bytes(*length));
            if next == self.end || (next < self.end && self.is_sound(next)?) {
                return Ok(next);
            }
        }
        let mut from = position + 1;
        while from < self.end {
            let window = self.bytes(from, READ_LEN)?;
            let mut passed = 0;
            while let Some(rest) = window.get(passed..)
                && FRAME_AND_BATCH_HEADER_LEN <= rest.len()
            {
                let candidate = from + passed as u64;
                if format::is_plausible(rest) && self.is_sound(candidate)? {
                    return Ok(candidate);
                }
                passed += 1;
            }
            if passed == 0 {
                break;
            }
            from += passed as u64;
        }
        Ok(self.end)
    }

    /// Whether a whole frame with a whole batch begins here. More is asked than of a frame in its
    /// place, because records may contain bytes that look like one.
    fn is_sound(&mut self, position: u64) -> Result<bool, Error> {
        match self.frame_at(position)? {
            Some(frame) => Ok(self.batch(&frame)?.is_some()),
            None => Ok(false),
        }
    }

    /// The bytes at `position`: `len` of them, fewer only at the end of what counts.
    fn bytes(&mut self, position: u64, len: usize) -> Result<Bytes, Error> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if let Some(held) = self.held(position, len) {
            return Ok(held);
        }
        // Bounded by the file, whose length the caller knows, and by a length that a checksum
        // covers or READ_LEN.
        let mut buffer = BytesMut::zeroed(len.max(self.read_len).min(left));
        let read =
            self.file.read_at(position, &mut buffer).map_err(disk::failed("read", self.path))?;
        buffer.truncate(read);
        self.window = buffer.freeze();
        self.window_start = position;
        Ok(self.window.slice(..len.min(self.window.len())))
    }

    fn held(&self, position: u64, len: usize) -> Option<Bytes> {
        let start = usize::try_from(position.checked_sub(self.window_start)?).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.window.len()).then(|| self.window.slice(start..end))
    }
}
