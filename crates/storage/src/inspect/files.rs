//! What single files hold.

use std::path::Path;

use rafka_core::{PartitionIndex, TopicId, TopicPartition};

use super::item::{Action, Item};
use crate::Error;
use crate::disk::{self, Disk, File, Open};
use crate::journal::{self, Dumped, Entry};
use crate::segment::format::{self, HeaderError, Identity};
use crate::segment::index;
use crate::segment::store::{FileName, read_entry};
use crate::segment::walk::{Step, Walk};

pub(super) fn dump_segment(
    disk: &dyn Disk,
    path: &Path,
    out: &mut dyn FnMut(Item),
) -> Result<(), Error> {
    let file = disk.open(path, Open::READ).map_err(disk::failed("open", path))?;
    let identity = match identity(&*file, path)? {
        Ok(identity) => identity,
        Err(what) => {
            out(Item::Damage { position: 0, what: what.to_owned() });
            let Some(identity) = identity_of_path(path) else { return Ok(()) };
            identity
        }
    };
    out(Item::of_identity(&identity));
    let end = file.len().map_err(disk::failed("measure", path))?;
    go_through(&*file, path, &identity, end, out)
}

/// The batches and the damage in the first `end` bytes of a segment file.
pub(super) fn go_through(
    file: &dyn File,
    path: &Path,
    identity: &Identity,
    end: u64,
    out: &mut dyn FnMut(Item),
) -> Result<(), Error> {
    let mut walk = Walk::new(file, path, identity, end);
    while let Some(step) = walk.step()? {
        match step {
            Step::Damage { position, offset } => {
                let what = format!("no frame begins here; offset {offset} or above was expected");
                out(Item::Damage { position, what });
            }
            Step::Frame(frame) => match walk.batch(&frame)? {
                Some(batch) => out(Item::of_batch(frame.position, &batch, frame.compacted_at)),
                None => {
                    let what = format!("the batch at offset {} is damaged", frame.base_offset);
                    out(Item::Damage { position: frame.position, what });
                }
            },
        }
    }
    Ok(())
}

/// What the header of a segment file says, or what is wrong with it.
pub(super) fn identity(
    file: &dyn File,
    path: &Path,
) -> Result<Result<Identity, &'static str>, Error> {
    let mut header = [0; format::HEADER_LEN];
    let read = file.read_at(0, &mut header).map_err(disk::failed("read", path))?;
    match Identity::parse(header.get(..read).unwrap_or_default()) {
        Ok(identity) => Ok(Ok(identity)),
        Err(HeaderError::Damaged(what)) => Ok(Err(what)),
        Err(HeaderError::Version(found)) => Err(unknown(path, found)),
    }
}

fn unknown(path: &Path, found: u32) -> Error {
    Error::UnknownVersion { path: path.to_owned(), found, known: format::VERSION }
}

/// What the names of a segment file and its directories say.
pub(super) fn identity_of_path(path: &Path) -> Option<Identity> {
    let file = FileName::parse(path.file_name()?.to_str()?)?;
    let mut dirs = path.ancestors().skip(1).map(|dir| dir.file_name()?.to_str());
    let partition = dirs.next()??.parse().ok()?;
    let topic = dirs.next()??.parse().ok()?;
    let name = TopicPartition { topic: TopicId(topic), partition: PartitionIndex(partition) };
    Some(Identity { name, base: file.base, generation: file.generation })
}

pub(super) fn dump_index(
    disk: &dyn Disk,
    path: &Path,
    out: &mut dyn FnMut(Item),
) -> Result<(), Error> {
    let file = disk.open(path, Open::READ).map_err(disk::failed("open", path))?;
    let seed = match seed(&*file, path)? {
        Ok(seed) => seed,
        Err(what) => {
            out(Item::Damage { position: 0, what: what.to_owned() });
            return Ok(());
        }
    };
    out(Item::Index { seed });
    let len = file.len().map_err(disk::failed("measure", path))?;
    let numbers = (0..u32::MAX).take_while(|number| index::entry_position(*number) < len);
    for number in numbers {
        out(match read_entry(&*file, seed, number) {
            Some(entry) => Item::IndexEntry {
                number,
                relative_offset: entry.relative,
                position: entry.position,
                max_timestamp_before: entry.max_before,
            },
            None => {
                let what = "the checksum of this entry does not fit".to_owned();
                Item::Damage { position: index::entry_position(number), what }
            }
        });
    }
    Ok(())
}

/// What the header of an index file says, or what is wrong with it.
pub(super) fn seed(file: &dyn File, path: &Path) -> Result<Result<u32, &'static str>, Error> {
    let mut header = [0; index::HEADER_LEN];
    let read = file.read_at(0, &mut header).map_err(disk::failed("read", path))?;
    match index::parse_header(header.get(..read).unwrap_or_default()) {
        Ok(seed) => Ok(Ok(seed)),
        Err(HeaderError::Damaged(what)) => Ok(Err(what)),
        Err(HeaderError::Version(found)) => Err(unknown(path, found)),
    }
}

pub(super) fn dump_journal(
    disk: &dyn Disk,
    path: &Path,
    out: &mut dyn FnMut(Item),
) -> Result<(), Error> {
    let dumped = journal::dump(disk, path, &mut |dumped| match dumped {
        Dumped::File { lane, incarnation, capacity, node, begins } => {
            let (cut, first) = begins.map(|(cut, first)| (cut.0, first.0)).unzip();
            out(Item::JournalFile { lane, incarnation, capacity, node, cut, first });
        }
        Dumped::Record { position, sequence, durable, log, bytes, entry } => {
            let (action, batch) = match entry {
                Some(Entry::Append { batch, .. }) => (Action::Append, Some(batch)),
                Some(Entry::Truncate { end, .. }) => (Action::TruncateTo(end), None),
                None => (Action::Seal, None),
            };
            let (log, durable, sequence) = (log.map(|log| log.0), durable.0, sequence.0);
            out(Item::JournalRecord { position, sequence, durable, log, bytes, action });
            if let Some(batch) = batch {
                out(Item::of_batch(position, &batch, None));
            }
        }
        Dumped::End { position } => out(Item::JournalEnd { position }),
    });
    // Damage is shown, as in the other files; the rest is the caller's.
    match dumped {
        Err(Error::Corrupt { position, what, .. }) => {
            out(Item::Damage { position, what });
            Ok(())
        }
        dumped => dumped,
    }
}
