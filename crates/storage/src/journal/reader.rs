//! Reads the records of one journal file, trusting nothing that its checksums do not vouch for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{self, BLOCK, FileHeader, HeaderError, RECORD_HEADER_LEN, RecordHeader, Seed};
use super::{Entry, Mutant, Sequence, Settings};
use crate::Error;
use crate::disk::{self, Disk, File, Open};

/// What is read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// A journal file, opened to be read.
pub(super) struct Reader {
    path: PathBuf,
    file: Arc<dyn File>,
    header: FileHeader,
    seed: Seed,
    window: Vec<u8>,
    window_start: u64,
}

/// A record whose checksum fits.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) header: RecordHeader,
    pub(super) position: u64,
    /// Where the next record begins, if it is of the same group.
    pub(super) next: u64,
    payload: &'a [u8],
    path: &'a Path,
}

impl Record<'_> {
    /// What the record says; `None` for a seal.
    ///
    /// # Errors
    /// If the payload is not what its kind asks for.
    pub(super) fn entry(&self) -> Result<Option<Entry>, Error> {
        self.header.entry(self.payload).map_err(|what| corrupt(self.path, self.position, what))
    }
}

pub(super) fn corrupt(path: &Path, position: u64, what: impl Into<String>) -> Error {
    Error::Corrupt { path: path.to_owned(), position, what: what.into() }
}

impl Reader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, has an unknown version, or is not what its header says.
    pub(super) fn open(disk: &dyn Disk, path: &Path, settings: &Settings) -> Result<Self, Error> {
        let file = disk.open(path, Open::READ).map_err(disk::failed("open", path))?;
        let mut block = vec![0; disk::BLOCK];
        let read = file.read_at(0, &mut block).map_err(disk::failed("read", path))?;
        let header = FileHeader::parse(&block[..read]).map_err(|error| match error {
            HeaderError::Damaged(what) => corrupt(path, 0, what),
            HeaderError::Version(found) => {
                Error::UnknownVersion { path: path.to_owned(), found, known: format::VERSION }
            }
        })?;
        let len = file.len().map_err(disk::failed("measure", path))?;
        if len < header.capacity {
            let what = format!("the file ends here, its header says {}", header.capacity);
            return Err(corrupt(path, len, what));
        }
        let seed = if settings.has(Mutant::OldContentValid) { Seed::NONE } else { header.seed() };
        Ok(Self { path: path.to_owned(), file, header, seed, window: Vec::new(), window_start: 0 })
    }

    pub(super) fn header(&self) -> &FileHeader {
        &self.header
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The record at `position`, or at the next block if nothing follows in this one.
    ///
    /// # Errors
    /// If the file cannot be read. Bytes that are no record are `None`.
    pub(super) fn next_record(&mut self, position: u64) -> Result<Option<Record<'_>>, Error> {
        let mut at = position;
        if !at.is_multiple_of(BLOCK) {
            let group_goes_on = match self.bytes(at, 4)? {
                Some(len) => len != [0; 4],
                None => false,
            };
            if !group_goes_on {
                at = at.next_multiple_of(BLOCK);
            }
        }
        self.record_at(at, Sequence(0))
    }

    /// The first record at the start of a block, from `position` on, that was written when
    /// everything up to `lost` and `lost` itself were durable.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn find_witness(
        &mut self,
        position: u64,
        lost: Sequence,
    ) -> Result<Option<(u64, RecordHeader)>, Error> {
        let mut at = position.next_multiple_of(BLOCK).max(BLOCK);
        while at < self.header.capacity {
            if let Some(record) = self.record_at(at, lost.next())? {
                return Ok(Some((at, record.header)));
            }
            at += BLOCK;
        }
        Ok(None)
    }

    /// The record at `position`, if it names a durable sequence of at least `durable_min`.
    fn record_at(
        &mut self,
        position: u64,
        durable_min: Sequence,
    ) -> Result<Option<Record<'_>>, Error> {
        let seed = self.seed;
        let Some(bytes) = self.bytes(position, RECORD_HEADER_LEN)? else {
            return Ok(None);
        };
        let Some(header) = RecordHeader::parse(bytes, seed) else {
            return Ok(None);
        };
        if header.durable < durable_min {
            return Ok(None);
        }
        match self.bytes(position, header.len())? {
            Some(bytes) if header.vouches_for(bytes, seed) => {}
            Some(_) | None => return Ok(None),
        }
        let at = usize::try_from(position - self.window_start).expect("the window fits memory");
        Ok(Some(Record {
            header,
            position,
            next: position + format::padded(header.len()),
            payload: &self.window[at + RECORD_HEADER_LEN..at + header.len()],
            path: &self.path,
        }))
    }

    /// Bytes of the file, if it has that many before its capacity ends.
    fn bytes(&mut self, position: u64, len: usize) -> Result<Option<&[u8]>, Error> {
        let end = position.saturating_add(len as u64);
        if self.header.capacity < end {
            return Ok(None);
        }
        let window_end = self.window_start + self.window.len() as u64;
        if position < self.window_start || window_end < end {
            let wanted = (end - position).max(WINDOW_BYTES).min(self.header.capacity - position);
            self.window.resize(usize::try_from(wanted).expect("capacities fit memory"), 0);
            self.window_start = position;
            disk::read_exact_at(&*self.file, position, &mut self.window)
                .map_err(disk::failed("read", &self.path))?;
        }
        let at = usize::try_from(position - self.window_start).expect("the window fits memory");
        Ok(Some(&self.window[at..at + len]))
    }
}
