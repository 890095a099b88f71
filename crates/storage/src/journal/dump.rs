//! Shows and checks journal files, for people.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::files::{DIRECTORY, Files};
use super::format::{BLOCK, FileHeader, Kind, Start};
use super::reader::{Reader, corrupt};
use super::survey::Survey;
use super::{Entry, Reach, Sequence, Settings};
use crate::disk::Disk;
use crate::{Durability, Error, LogId};

/// A piece of a journal file.
#[derive(Debug, Clone, PartialEq)]
pub enum Dumped {
    /// The header of the file.
    File {
        /// The lane that it belongs to.
        lane: Durability,
        /// Its incarnation, which is the number in its name.
        incarnation: u64,
        /// Its size.
        capacity: u64,
        /// Whose journal it belongs to.
        node: Uuid,
        /// For the first file of a process: below which sequence earlier files count, and the
        /// sequence that this one begins with. Otherwise it goes on where the file before ends.
        begins: Option<(Sequence, Sequence)>,
    },
    /// A record.
    Record {
        /// Where in the file.
        position: u64,
        /// Its sequence.
        sequence: Sequence,
        /// Everything below this was durable when it was written.
        durable: Sequence,
        /// The log that it is about; none for a seal.
        log: Option<LogId>,
        /// Its length, without padding.
        bytes: u32,
        /// What it says; none for a seal.
        entry: Option<Entry>,
    },
    /// Nothing that counts follows in this file.
    End {
        /// Where in the file.
        position: u64,
    },
}

/// Shows one journal file, piece by piece. What counts of it may be less, when a later file says so.
///
/// # Errors
/// If the file cannot be read, has an unknown version, or is damaged. What came before that was
/// shown.
pub fn dump(disk: &dyn Disk, path: &Path, show: &mut dyn FnMut(Dumped)) -> Result<(), Error> {
    let mut reader = Reader::open(disk, path, &Settings::default())?;
    let header = *reader.header();
    let begins = match header.start {
        Start::Process { cut, first } => Some((cut, first)),
        Start::Continues => None,
    };
    let FileHeader { lane, incarnation, capacity, node, .. } = header;
    show(Dumped::File { lane, incarnation, capacity, node, begins });
    let mut expected = begins.map(|(_, first)| first);
    let mut position = BLOCK;
    while let Some(record) = reader.next_record(position)? {
        let header = record.header;
        if header.sequence != *expected.get_or_insert(header.sequence) {
            break;
        }
        expected = Some(header.sequence.next());
        show(Dumped::Record {
            position: record.position,
            sequence: header.sequence,
            durable: header.durable,
            log: (header.kind != Kind::Seal).then_some(header.log),
            bytes: header.len,
            entry: record.entry()?,
        });
        position = record.next;
    }
    show(Dumped::End { position });
    let missing = expected.unwrap_or_default();
    match reader.find_witness(position, missing)? {
        // A file that does not say where it begins, and whose first record is gone, says nothing.
        Some((at, witness)) if expected.is_some() => {
            let durable = witness.durable;
            let what = format!("the record at byte {at} says that all below {durable} was durable");
            Err(corrupt(path, position, what))
        }
        Some(_) | None => Ok(()),
    }
}

/// What a lane of a journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The lane.
    pub lane: Durability,
    /// Its files.
    pub files: usize,
    /// Records that count, seals not included.
    pub records: u64,
    /// The sequence after the last record that counts.
    pub end: Sequence,
}

/// Checks both lanes of the journal in `data_dir`, as a start would, that it is `owner`'s, if that
/// is known, and that the lanes reach as far as `reach` says. Changes nothing.
///
/// # Errors
/// What a start would stop at.
pub fn verify(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    owner: Option<Uuid>,
    reach: &dyn Fn(Durability) -> Reach,
) -> Result<[Found; 2], Error> {
    let check = |lane| {
        let files = Files {
            disk: Arc::clone(disk),
            directory: data_dir.join(DIRECTORY),
            lane,
            settings: Settings::default(),
            owner,
        };
        let mut records = 0;
        let survey = Survey::of(&files, reach(lane), &mut |_, _| {
            records += 1;
            Ok(())
        })?;
        Ok(Found { lane, files: survey.live.len() + survey.loose.len(), records, end: survey.cut })
    };
    Ok([check(Durability::Fsync)?, check(Durability::Os)?])
}
