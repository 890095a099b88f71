//! The manifest: the small durable state of a data directory, in one redb file.
//!
//! It alone says which logs exist, which segments hold them and how far, and which part of the
//! journal that covers. `docs/formats/manifest.md` describes tables and values.

mod codec;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::{EpochHistory, Offset, TopicPartition};
use redb::{Database, ReadableDatabase as _, ReadableTable, StorageBackend, TableDefinition};
use uuid::Uuid;

use crate::disk::{self, Disk, Open};
use crate::redb_backend::DiskBackend;
use crate::segment::Segment;
use crate::{Durability, Error, LogId};

/// The file's name in the data directory.
pub(crate) const FILE_NAME: &str = "manifest.redb";

/// The version of tables and values that this build writes, and the only one it reads.
pub(crate) const VERSION: u32 = 1;

/// Pages that redb keeps in memory: the whole manifest of some 10 000 logs.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const LOGS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("logs");
const CHECKPOINTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("checkpoints");
const DELETED: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("deleted");

const FORMAT: &str = "format";
const NODE: &str = "node";
const LOG_NEXT: &str = "log next";
const CLEAN: &str = "clean";

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
    /// Whether the last stop wrote everything out.
    pub(crate) clean: bool,
    /// Above every log id that was ever given.
    pub(crate) log_next: u64,
    /// The logs in ascending order of their ids.
    pub(crate) logs: Vec<Log>,
    /// Logs that were deleted, and whose files may still be there, in ascending order.
    pub(crate) deleted: Vec<(LogId, TopicPartition)>,
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
    /// The idempotent producers as of `end`, encoded. Empty: none.
    pub(crate) producers: Vec<u8>,
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
    /// Replaces the checkpoint of a log.
    Checkpoint(LogId, Checkpoint),
    /// Deletes a log. It is listed as deleted until its files are gone.
    Delete(LogId),
    /// The files of a deleted log are gone.
    Removed(LogId),
    /// Whether everything is written out.
    Clean(bool),
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
        check_version(&database, &path)?;
        Ok(Self { disk, path, database: Mutex::new(Some(database)) })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is not what we write.
    pub(crate) fn load(&self) -> Result<Contents, Error> {
        self.with_database(|database| load(database, &self.path))
    }

    /// Makes the changes durable, all or none.
    ///
    /// # Errors
    /// If the disk is full: then nothing was changed, and a later commit can succeed. After any
    /// other failed write or sync it is unknown whether they are durable, and every later commit
    /// fails too.
    pub(crate) fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        self.with_database(|database| {
            apply(database, changes).map_err(failed("write", &self.path))
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
        if !matches!(&result, Err(error) if is_disk_full(error)) {
            *slot = Some(database);
        }
        result
    }
}

/// Whether the error says that the disk is full.
pub(crate) fn is_disk_full(error: &Error) -> bool {
    matches!(error, Error::Io { cause, .. } if cause.kind() == io::ErrorKind::StorageFull)
}

/// The contents of a manifest file that is only looked at: what an unclean stop left is repaired
/// in memory.
///
/// # Errors
/// If the bytes are damaged or of another version.
pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<Contents, Error> {
    let memory = redb::backends::InMemoryBackend::new();
    let len = bytes.len() as u64;
    memory
        .set_len(len)
        .and_then(|()| memory.write(0, bytes))
        .map_err(disk::failed("read", path))?;
    let database = open_on(memory, path)?;
    check_version(&database, path)?;
    load(&database, path)
}

/// Makes the file under another name first, so that there is never half of one under its own.
fn create(disk: &dyn Disk, data_dir: &Path, path: &Path) -> Result<(), Error> {
    let new = data_dir.join("manifest.redb.new");
    let file = disk.open(&new, Open::CREATE).map_err(disk::failed("create", &new))?;
    file.set_len(0).map_err(disk::failed("cut", &new))?;
    let database = open_on(DiskBackend::new(file), &new)?;
    found(&database).map_err(failed("write", &new))?;
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

fn found(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(META)?.insert(FORMAT, VERSION.to_be_bytes().as_slice())?;
        transaction.open_table(LOGS)?;
        transaction.open_table(CHECKPOINTS)?;
        transaction.open_table(DELETED)?;
    }
    Ok(transaction.commit()?)
}

fn check_version(database: &Database, path: &Path) -> Result<(), Error> {
    let read = || -> Result<Option<u32>, redb::Error> {
        let table = database.begin_read()?.open_table(META)?;
        let value = table.get(FORMAT)?;
        Ok(value.and_then(|bytes| bytes.value().try_into().ok().map(u32::from_be_bytes)))
    };
    match read().map_err(failed("read", path))? {
        Some(VERSION) => Ok(()),
        Some(found) => {
            Err(Error::UnknownVersion { path: path.to_owned(), found, known: VERSION })
        }
        None => Err(corrupt(path, "it names no format version".to_owned())),
    }
}

fn apply(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut logs = transaction.open_table(LOGS)?;
        let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
        let mut deleted = transaction.open_table(DELETED)?;
        for change in changes {
            match change {
                Change::Node(node) => {
                    meta.insert(NODE, node.as_bytes().as_slice())?;
                }
                Change::Create(log, name) => {
                    logs.insert(log.0, codec::encode_name(name).as_slice())?;
                    // Not read from the table: ids only ascend.
                    meta.insert(LOG_NEXT, (log.0 + 1).to_be_bytes().as_slice())?;
                }
                Change::Checkpoint(log, checkpoint) => {
                    checkpoints.insert(log.0, codec::encode(checkpoint).as_slice())?;
                }
                Change::Delete(log) => {
                    checkpoints.remove(log.0)?;
                    if let Some(name) = logs.remove(log.0)? {
                        deleted.insert(log.0, name.value())?;
                    }
                }
                Change::Removed(log) => {
                    deleted.remove(log.0)?;
                }
                Change::Clean(clean) => {
                    meta.insert(CLEAN, [u8::from(*clean)].as_slice())?;
                }
            }
        }
    }
    Ok(transaction.commit()?)
}

/// The rows of a table, as bytes, still to be decoded.
type Rows = Vec<(u64, Vec<u8>)>;

fn load(database: &Database, path: &Path) -> Result<Contents, Error> {
    let read = || -> Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let value = |key| -> Result<_, redb::Error> {
            Ok(meta.get(key)?.map(|bytes| bytes.value().to_vec()))
        };
        let meta = (value(NODE)?, value(LOG_NEXT)?, value(CLEAN)?);
        let tables = (
            rows(&transaction.open_table(LOGS)?)?,
            rows(&transaction.open_table(CHECKPOINTS)?)?,
            rows(&transaction.open_table(DELETED)?)?,
        );
        Ok((meta, tables))
    };
    let ((node, log_next, clean), (logs, checkpoints, deleted)) =
        read().map_err(failed("read", path))?;
    let broken = |what: &str| corrupt(path, what.to_owned());
    let node = node.map(|bytes| Uuid::from_slice(&bytes)).transpose();
    let log_next = log_next.map(|bytes| bytes.as_slice().try_into().map(u64::from_be_bytes));
    let name_of = |(id, bytes): (u64, Vec<u8>)| -> Result<_, Error> {
        let name = codec::decode_name(&bytes);
        Ok((LogId(id), name.ok_or_else(|| corrupt(path, format!("the name of log {id}")))?))
    };
    let mut contents = Contents {
        node: node.map_err(|_length| broken("the identity of the node"))?,
        clean: clean.as_deref() == Some(&[1]),
        log_next: log_next.transpose().map_err(|_length| broken("the next log id"))?.unwrap_or(0),
        logs: Vec::with_capacity(logs.len()),
        deleted: deleted.into_iter().map(name_of).collect::<Result<_, _>>()?,
    };
    let mut checkpoints = checkpoints.into_iter().peekable();
    for row in logs {
        let (id, name) = name_of(row)?;
        let checkpoint = match checkpoints.next_if(|(of, _)| *of == id.0) {
            None => Checkpoint::default(),
            Some((_, bytes)) => codec::decode(&bytes).map_err(|error| match error {
                codec::Error::Version(found) => Error::UnknownVersion {
                    path: path.to_owned(),
                    found: found.into(),
                    known: codec::VERSION.into(),
                },
                codec::Error::Malformed(what) => {
                    corrupt(path, format!("the checkpoint of log {id}: {what}"))
                }
            })?,
        };
        contents.logs.push(Log { id, name, checkpoint });
    }
    Ok(contents)
}

fn rows(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Rows, redb::Error> {
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        rows.push((key.value(), value.value().to_vec()));
    }
    Ok(rows)
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
        redb::Error::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            corrupt(path, cause.to_string())
        }
        redb::Error::Io(cause) => disk::failed(verb, path)(cause),
        redb::Error::Corrupted(what) => corrupt(path, what),
        redb::Error::UpgradeRequired(found) => {
            Error::UnknownVersion { path: path.to_owned(), found: found.into(), known: VERSION }
        }
        other => disk::failed(verb, path)(io::Error::other(other.to_string())),
    }
}
