//! The files of one lane: how they are named, prepared, taken into use and out of it again.
//!
//! `<lane>-<number>.wal` is a file of the journal: its header is durable before it gets that name,
//! and what it holds counts. `<lane>-<number>.spare` is space to be used: what it holds is nobody's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::format::FileHeader;
use super::{Mutant, Settings};
use crate::disk::{self, Disk, File, Mode, Open};
use crate::per_lane::LANES;
use crate::{Durability, Error};

/// What is written at once when a file is filled with zeros.
const ZEROS_BYTES: usize = 1 << 20;

/// The directory of the journal, in the data directory.
pub(super) const DIRECTORY: &str = "journal";

/// Whether a data directory holds a journal, of either lane.
pub(crate) fn exists(disk: &dyn Disk, data_dir: &Path) -> Result<bool, Error> {
    let names = disk::names_in(disk, &data_dir.join(DIRECTORY))?;
    Ok(names.iter().any(|name| matches!(Name::parse(name), Some((_, Name::Wal(_))))))
}

/// Gives the files of both lanes names that nobody reads, durably. Returns these.
pub(crate) fn set_aside(disk: &dyn Disk, data_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let directory = data_dir.join(DIRECTORY);
    let mut aside = Vec::new();
    for name in disk::names_in(disk, &directory)? {
        if matches!(Name::parse(&name), Some((_, Name::Wal(_)))) {
            let (path, new) = (directory.join(&name), directory.join(name + ".abandoned"));
            disk.rename(&path, &new).map_err(disk::failed("rename", &path))?;
            aside.push(new);
        }
    }
    if !aside.is_empty() {
        disk.sync_dir(&directory).map_err(disk::failed("sync", &directory))?;
    }
    Ok(aside)
}

/// The files of a lane, as people write it.
pub(crate) fn files_of(data_dir: &Path, lane: Durability) -> PathBuf {
    any_wal(&data_dir.join(DIRECTORY), lane)
}

fn any_wal(directory: &Path, lane: Durability) -> PathBuf {
    directory.join(format!("{}-*.wal", lane.name()))
}

/// The directory of the journal, seen from one lane.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: PathBuf,
    pub(super) lane: Durability,
    pub(super) settings: Settings,
    /// Whose files they are; `None`: whose is not known.
    pub(super) owner: Option<Uuid>,
}

/// Space that is allocated and not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) number: u64,
    pub(super) capacity: u64,
}

/// What a file name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Wal(u64),
    Spare(u64),
}

impl Name {
    /// The lane and what else the name says; `None` for names that are not of a journal.
    pub(super) fn parse(name: &str) -> Option<(Durability, Self)> {
        let (stem, extension) = name.split_once('.')?;
        let (lane, digits) = stem.split_once('-')?;
        let lane = LANES.into_iter().find(|known| known.name() == lane)?;
        if digits.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = digits.parse().ok()?;
        match extension {
            "wal" => Some((lane, Self::Wal(number))),
            "spare" => Some((lane, Self::Spare(number))),
            _ => None,
        }
    }
}

impl Files {
    pub(super) fn wal(&self, number: u64) -> PathBuf {
        self.path(number, "wal")
    }

    /// All of them, as people write it.
    pub(super) fn any_wal(&self) -> PathBuf {
        any_wal(&self.directory, self.lane)
    }

    fn spare(&self, number: u64) -> PathBuf {
        self.path(number, "spare")
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.directory.join(format!("{}-{number:010}.{extension}", self.lane.name()))
    }

    /// The files of this lane, in ascending order of their numbers.
    pub(super) fn list(&self) -> Result<Vec<Name>, Error> {
        let names = disk::names_in(&*self.disk, &self.directory)?;
        let of_lane = |name: &String| match Name::parse(name) {
            Some((lane, name)) if lane == self.lane => Some(name),
            _ => None,
        };
        Ok(names.iter().filter_map(of_lane).collect())
    }

    /// The size of a spare file.
    pub(super) fn measure(&self, number: u64) -> Result<u64, Error> {
        let path = self.spare(number);
        let len = self.disk.open(&path, Open::READ).and_then(|file| file.len());
        len.map_err(disk::failed("measure", &path))
    }

    /// Makes a spare file. In the fsync lane it is filled with zeros: on many file systems the first
    /// write to allocated space costs a change of metadata, which each sync would have to wait for.
    ///
    /// # Errors
    /// If it cannot be written. Then it is removed again, as far as that is possible.
    pub(super) fn make(&self, number: u64, capacity: u64) -> Result<Spare, Error> {
        let path = self.spare(number);
        let made = self.fill(&path, capacity);
        if made.is_err() {
            // The disk may be full, and a part of a spare file serves nobody. If this fails too, the
            // next start removes it.
            self.disk.remove(&path).ok();
        }
        made.map_err(disk::failed("allocate", &path))?;
        Ok(Spare { number, capacity })
    }

    fn fill(&self, path: &Path, capacity: u64) -> io::Result<()> {
        let file = self.disk.open(path, Open::CREATE)?;
        file.allocate(capacity)?;
        if self.lane == Durability::Fsync {
            let zeros = vec![0; ZEROS_BYTES];
            let mut position = 0;
            while position < capacity {
                let step = (ZEROS_BYTES as u64).min(capacity - position);
                let len = usize::try_from(step).expect("at most the length of the zeros");
                file.write_at(position, &zeros[..len])?;
                position += step;
            }
            file.sync_data()?;
        }
        Ok(())
    }

    /// Takes a spare file into the journal: writes its header, and when that is durable names it.
    ///
    /// # Errors
    /// If that cannot be made durable. The file may then be there under either name.
    pub(super) fn arm(&self, spare: Spare, header: &FileHeader) -> Result<Arc<dyn File>, Error> {
        let path = self.spare(spare.number);
        let write = || {
            let mut block = vec![0; disk::BLOCK];
            header.encode(&mut block);
            let file = self.disk.open(&path, Open::EXISTING)?;
            file.write_at(0, &block)?;
            if self.settings.has(Mutant::HeaderNotSynced) { Ok(()) } else { file.sync_data() }
        };
        write().map_err(disk::failed("write the header of", &path))?;
        let wal = self.wal(header.incarnation);
        self.disk.rename(&path, &wal).map_err(disk::failed("rename", &path))?;
        self.sync_directory()?;
        let open = Open { create: false, mode: self.write_mode() };
        self.disk.open(&wal, open).map_err(disk::failed("open", &wal))
    }

    /// Takes a file out of the journal. It is durably out when this returns: of the files of a
    /// lane, a power cut must leave the newest without a gap.
    ///
    /// # Errors
    /// If that cannot be made durable.
    pub(super) fn retire(&self, file: Spare) -> Result<(), Error> {
        let wal = self.wal(file.number);
        self.disk.rename(&wal, &self.spare(file.number)).map_err(disk::failed("rename", &wal))?;
        self.sync_directory()
    }

    /// Removes a spare file.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn discard(&self, number: u64) -> Result<(), Error> {
        let path = self.spare(number);
        self.disk.remove(&path).map_err(disk::failed("remove", &path))
    }

    pub(super) fn sync_directory(&self) -> Result<(), Error> {
        self.disk.sync_dir(&self.directory).map_err(disk::failed("sync", &self.directory))
    }

    fn write_mode(&self) -> Mode {
        if self.lane == Durability::Os || self.settings.has(Mutant::AckBeforeSync) {
            Mode::Buffered
        } else {
            Mode::Direct
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_journal_files_are_taken_for_them() {
        let check = |name: &str, expected| assert_eq!(Name::parse(name), expected, "{name}");
        check("fsync-0000000001.wal", Some((Durability::Fsync, Name::Wal(1))));
        check("os-9999999999.spare", Some((Durability::Os, Name::Spare(9_999_999_999))));
        for name in ["fsync-1.wal", "os-0000000001.log", "x-0000000001.wal", "fsync", "a.b-c", ""] {
            check(name, None);
        }
        check("fsync-+000000001.wal", None);
    }
}
