//! Looking at files without an engine: what they hold, and whether they are whole.
//!
//! Nothing is changed, locked or repaired, so that it can be done beside a running node. What that
//! node writes meanwhile may then show as damage.

mod files;
mod item;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::Path;

pub use item::{Action, Item};
pub use verify::{FileReport, Report, Verdict, verify};

use crate::disk::{self, Disk, Open};
use crate::{Error, manifest};

/// What kind of file a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Segment,
    Index,
    Manifest,
    Journal,
}

impl FileKind {
    fn of(path: &Path) -> Option<Self> {
        if path.file_name()? == manifest::FILE_NAME {
            return Some(Self::Manifest);
        }
        match path.extension()?.to_str()? {
            "log" => Some(Self::Segment),
            "index" => Some(Self::Index),
            "wal" => Some(Self::Journal),
            _ => None,
        }
    }
}

/// Hands out everything that a file holds, in its order, damaged places included. Its name says
/// what kind of file it is.
///
/// # Errors
/// If the file cannot be read, is of another version, or its name is none that we give.
pub fn dump(disk: &dyn Disk, path: &Path, out: &mut dyn FnMut(Item)) -> Result<(), Error> {
    match FileKind::of(path) {
        Some(FileKind::Segment) => files::dump_segment(disk, path, out),
        Some(FileKind::Index) => files::dump_index(disk, path, out),
        Some(FileKind::Manifest) => {
            for item in item::of_manifest(&manifest::read(&read_file(disk, path)?, path)?) {
                out(item);
            }
            Ok(())
        }
        Some(FileKind::Journal) => files::dump_journal(disk, path, out),
        None => {
            let known = "files are called *.log, *.index, *.wal, manifest.redb or metadata.redb";
            Err(disk::failed("dump", path)(io::Error::new(io::ErrorKind::InvalidInput, known)))
        }
    }
}

/// The whole of a file that is small by its nature.
fn read_file(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, Error> {
    let file = disk.open(path, Open::READ).map_err(disk::failed("open", path))?;
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        bytes.try_reserve_exact(len)?;
        bytes.resize(len, 0);
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    read().map_err(disk::failed("read", path))
}
