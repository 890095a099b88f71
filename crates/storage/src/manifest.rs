//! The manifest: the small durable state of a data directory, in one redb file.
//!
//! It alone says which logs exist, which segments hold them and how far, and which part of the
//! journal that covers. `docs/formats/manifest.md` describes tables and values.

mod codec;
mod tables;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::producer_state::{Ended, ProducerTable};
use rafka_core::{Batch, EpochHistory, Offset, Timestamp, TopicPartition};
use redb::{Database, StorageBackend};
use uuid::Uuid;

use crate::disk::{self, Disk, Open};
use crate::journal::{Reach, Sequence};
use crate::per_lane::{LANES, PerLane};
use crate::redb_backend::DiskBackend;
use crate::segment::Segment;
use crate::{Durability, Error, LogId};

/// The file's name in the data directory.
pub(crate) const FILE_NAME: &str = "manifest.redb";

/// The version of tables and values that this build writes, and the only one it reads.
pub(crate) const VERSION: u32 = 5;

/// Pages that redb keeps in memory: the whole manifest of some 10 000 logs.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// The manifest of an open data directory.
///
/// Its one owner calls it from one thread at a time; the lock only makes that safe.
#[derive(Debug)]
pub(crate) struct Manifest {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `None` after a full disk interrupted a commit, until the next one opens the file again.
    database: Mutex<Option<Database>>,
}

/// Everything that the manifest holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Contents {
    /// The data directory's identity, made at the first start.
    pub(crate) node: Option<Uuid>,
    /// The lanes of the journal.
    pub(crate) lanes: PerLane<Lane>,
    /// Above every log id that was ever given.
    pub(crate) log_next: u64,
    /// The logs in ascending order of their ids.
    pub(crate) logs: Vec<Log>,
    /// Logs that were deleted, and whose files may still be there, in ascending order.
    pub(crate) deleted: Vec<(LogId, TopicPartition)>,
}

/// What a lane of the journal must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lane {
    /// Whether it may hold what nothing else does: it was begun since the last stop that wrote
    /// everything out.
    pub(crate) in_use: bool,
    /// The number of the file that it last began with. It never holds older files alone.
    pub(crate) file: u64,
    /// Records below this may be gone: checkpoints cover them.
    pub(crate) released: Sequence,
}

/// One log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    pub(crate) name: TopicPartition,
    pub(crate) checkpoint: Checkpoint,
}

/// The part of a log that is out of the journal. The default is that of a new log.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Checkpoint {
    /// The first offset that may still be read.
    pub(crate) start: Offset,
    /// Everything below this is in the segments.
    pub(crate) end: Offset,
    /// What of the journals is in here.
    pub(crate) covered: Covered,
    /// Given to new segments. Rises with every truncation and every compaction, so that no file
    /// name of this log is ever used for other content.
    pub(crate) generation: u32,
    /// Below this, compaction has left one record per key.
    pub(crate) compacted: Offset,
    /// The segments, ascending, without overlaps.
    pub(crate) segments: Vec<Segment>,
    /// The leader epochs of what is below `end`.
    pub(crate) epochs: EpochHistory,
}

/// For each journal: records of the log with a sequence below this are in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Covered {
    pub(crate) fsync: u64,
    pub(crate) os: u64,
}

impl Covered {
    /// That of one journal.
    pub(crate) fn of(self, lane: Durability) -> u64 {
        match lane {
            Durability::Fsync => self.fsync,
            Durability::Os => self.os,
        }
    }

    /// Raises that of one journal.
    pub(crate) fn raise(&mut self, lane: Durability, below: u64) {
        let covered = match lane {
            Durability::Fsync => &mut self.fsync,
            Durability::Os => &mut self.os,
        };
        *covered = below.max(*covered);
    }
}

/// One change of the manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Names the data directory.
    Node(Uuid),
    /// Adds a log that has no checkpoint yet. Its id was never used before.
    Create(LogId, TopicPartition),
    /// Replaces the checkpoint of a log. Of aborted transactions those are kept that ended in what
    /// it holds.
    Checkpoint(LogId, Checkpoint),
    /// Batches of a log came below its checkpoint's end, each with the time of its append: their
    /// producers are known by them.
    Wrote(LogId, Vec<(Batch, Timestamp)>),
    /// Replaces what is known of a log's producers.
    Producers(LogId, ProducerTable),
    /// The markers of aborted transactions at these offsets of a log are gone.
    Unmarked(LogId, Vec<Offset>),
    /// Forgets the producers of all logs that wrote before this and not since, and have no open
    /// transaction.
    Forget(Timestamp),
    /// Deletes a log. It is listed as deleted until its files are gone.
    Delete(LogId),
    /// The files of a deleted log are gone.
    Removed(LogId),
    /// Replaces what a lane of the journal must hold.
    Lane(Durability, Lane),
}

impl Contents {
    /// Whether the last stop wrote everything out, or nothing was ever written.
    pub(crate) fn is_clean(&self) -> bool {
        LANES.into_iter().all(|lane| !self.lanes.of(lane).in_use)
    }

    /// How far the journal of this directory reaches.
    pub(crate) fn reach(&self, lane: Durability) -> Reach {
        let covered = self.logs.iter().map(|log| log.checkpoint.covered.of(lane)).max();
        // What was buffered only, a power cut may have taken.
        let synced = covered.filter(|_| lane == Durability::Fsync).unwrap_or(0);
        self.lanes.of(lane).reach(Sequence(synced), LogId(self.log_next))
    }
}

/// Says that nobody needs the journals of these lanes any more.
pub(crate) fn not_needed(lanes: &PerLane<Lane>) -> [Change; 2] {
    LANES.map(|lane| Change::Lane(lane, Lane { in_use: false, ..*lanes.of(lane) }))
}

impl Lane {
    /// How far a lane reaches of which records below `durable` were synced.
    pub(crate) fn reach(self, durable: Sequence, log_next: LogId) -> Reach {
        let Self { in_use, file, released } = self;
        Reach { released, in_use, durable, file, log_next }
    }
}

impl Manifest {
    /// Opens the manifest of a data directory, making it if there is none.
    ///
    /// # Errors
    /// If it is damaged, of another version, or cannot be read. Then nothing was changed.
    pub(crate) fn open(disk: Arc<dyn Disk>, data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE_NAME);
        let database = match disk.open(&path, Open::EXISTING) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(&*disk, data_dir, &path)?;
                open(&*disk, &path)?
            }
            Err(cause) => return Err(disk::failed("open", &path)(cause)),
            Ok(file) => {
                // The process that made the file may have died before this, and a power cut would
                // then take the name, and with it every commit to come.
                disk.sync_dir(data_dir).map_err(disk::failed("sync", data_dir))?;
                open_on(DiskBackend::new(file), &path)?
            }
        };
        tables::check_version(&database, &path)?;
        Ok(Self { disk, path, database: Mutex::new(Some(database)) })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is not what we write.
    pub(crate) fn load(&self) -> Result<Contents, Error> {
        self.with_database(|database| tables::load(database, &self.path))
    }

    /// What is known of the producers of some logs, as of the ends of their checkpoints.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is not what we write.
    pub(crate) fn producers(&self, logs: &[LogId]) -> Result<Vec<ProducerTable>, Error> {
        self.with_database(|database| tables::producers(database, logs, &self.path))
    }

    /// The aborted transactions of a log's checkpoint whose markers are at `from` or above and that
    /// began below `below`.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is not what we write.
    pub(crate) fn aborted(
        &self,
        log: LogId,
        from: Offset,
        below: Offset,
    ) -> Result<Vec<Ended>, Error> {
        self.with_database(|database| tables::aborted(database, log, (from, below), &self.path))
    }

    /// Makes the changes durable, all or none.
    ///
    /// # Errors
    /// If the disk is full: then nothing was changed, and a later commit can succeed. After any
    /// other failed write or sync it is unknown whether they are durable, and every later commit
    /// fails too.
    pub(crate) fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        self.with_database(|database| {
            tables::apply(database, changes).map_err(failed("write", &self.path))
        })
    }

    /// Closes the file, which redb writes to even then. Nothing may be committed afterwards.
    pub(crate) fn close(&self) {
        drop(self.database.lock().take());
    }

    fn with_database<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut slot = self.database.lock();
        let database = match slot.take() {
            Some(database) => database,
            None => open(&*self.disk, &self.path)?,
        };
        let result = work(&database);
        // redb refuses everything after a failed write. Nothing was committed when there was no
        // room for it, so that the file can be opened again.
        if !matches!(&result, Err(error) if error.is_disk_full()) {
            *slot = Some(database);
        }
        result
    }
}

/// The contents of a manifest file that is only looked at, and the producers of each of its logs:
/// what an unclean stop left is repaired in memory.
///
/// # Errors
/// If the bytes are damaged or of another version.
pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<(Contents, Vec<ProducerTable>), Error> {
    let memory = redb::backends::InMemoryBackend::new();
    let len = bytes.len() as u64;
    memory
        .set_len(len)
        .and_then(|()| memory.write(0, bytes))
        .map_err(disk::failed("read", path))?;
    let database = open_on(memory, path)?;
    tables::check_version(&database, path)?;
    let contents = tables::load(&database, path)?;
    let logs: Vec<LogId> = contents.logs.iter().map(|log| log.id).collect();
    let producers = tables::producers(&database, &logs, path)?;
    Ok((contents, producers))
}

/// Makes the file under another name first, so that there is never half of one under its own.
fn create(disk: &dyn Disk, data_dir: &Path, path: &Path) -> Result<(), Error> {
    let new = data_dir.join("manifest.redb.new");
    let file = disk.open(&new, Open::CREATE).map_err(disk::failed("create", &new))?;
    file.set_len(0).map_err(disk::failed("cut", &new))?;
    let database = open_on(DiskBackend::new(file), &new)?;
    tables::found(&database).map_err(failed("write", &new))?;
    drop(database);
    disk.rename(&new, path).map_err(disk::failed("rename", &new))?;
    disk.sync_dir(data_dir).map_err(disk::failed("sync", data_dir))
}

fn open(disk: &dyn Disk, path: &Path) -> Result<Database, Error> {
    let file = disk.open(path, Open::EXISTING).map_err(disk::failed("open", path))?;
    open_on(DiskBackend::new(file), path)
}

fn open_on(backend: impl StorageBackend, path: &Path) -> Result<Database, Error> {
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        // A plain open trusts pages that were altered, and may panic over them.
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)
        .map_err(failed("open", path))
}

fn corrupt(path: &Path, what: String) -> Error {
    Error::Corrupt { path: path.to_owned(), position: 0, what }
}

/// Says what happened in our words, whichever step of redb it happened in.
fn failed<'a, E: Into<redb::Error>>(
    verb: &'static str,
    path: &'a Path,
) -> impl Fn(E) -> Error + use<'a, E> {
    move |error| match error.into() {
        redb::Error::Io(cause) if is_damage(cause.kind()) => corrupt(path, cause.to_string()),
        redb::Error::Io(cause) => disk::failed(verb, path)(cause),
        redb::Error::Corrupted(what) => corrupt(path, what),
        redb::Error::UpgradeRequired(found) => {
            Error::UnknownVersion { path: path.to_owned(), found: found.into(), known: VERSION }
        }
        other => disk::failed(verb, path)(io::Error::other(other.to_string())),
    }
}

/// What a file and redb's memory say of one that is cut off, or no database.
fn is_damage(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(kind, InvalidData | InvalidInput | UnexpectedEof)
}
