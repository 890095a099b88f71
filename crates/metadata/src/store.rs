//! The file that metadata lives in: for each group a snapshot and the commands since.
//!
//! `docs/formats/metadata.md` describes tables and values.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rafka_storage::disk::{Disk, Open};
use rafka_storage::redb_backend::DiskBackend;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition};

use crate::group::Group;

/// The version of tables and values that this build writes, and the only one it reads.
const VERSION: u32 = 1;

/// Pages that redb keeps in memory. The store is read once and then only written.
const CACHE_BYTES: usize = 1 << 20;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const SNAPSHOTS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("snapshots");
const COMMANDS: TableDefinition<'static, (u32, u64), &[u8]> = TableDefinition::new("commands");

const FORMAT: &str = "format";

/// The store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read or written.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system or the database said.
        #[source]
        cause: io::Error,
    },
    /// The file holds what we never wrote.
    #[error("{path} is corrupt: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file was written by a version of Rafka that this one does not know.
    #[error("{path} has format version {found}; this build reads {VERSION}")]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version it carries.
        found: u32,
    },
}

impl Error {
    /// Whether there was no room: nothing was changed, and it may work when there is.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == io::ErrorKind::StorageFull)
    }
}

/// What is stored of a group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) group: Group,
    /// The index of the last command that the snapshot holds, and the snapshot.
    pub(crate) snapshot: Option<(u64, Vec<u8>)>,
    /// The commands since, with their indexes, ascending by one.
    pub(crate) commands: Vec<(u64, Vec<u8>)>,
}

impl Saved {
    /// The index of the last command.
    pub(crate) fn last(&self) -> u64 {
        let last = self.commands.last().map(|(index, _)| *index);
        last.or(self.snapshot.as_ref().map(|(index, _)| *index)).unwrap_or(0)
    }
}

/// One write.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// Adds a command.
    Append { group: Group, index: u64, command: &'a [u8] },
    /// Replaces the snapshot, and the commands up to `index` with it.
    Snapshot { group: Group, index: u64, snapshot: Vec<u8> },
}

/// The open file. Its one owner writes.
#[derive(Debug)]
pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `None` after a full disk interrupted a commit, until the next one opens the file again.
    database: Option<Database>,
    /// The last index of each group that is known to be in the file, by the group's number.
    last: Vec<u64>,
}

impl Store {
    /// Opens the file, making it if there is none, and reads all of it.
    ///
    /// # Errors
    /// If it is damaged, of another version, or cannot be read. Then nothing was changed.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<(Self, Vec<Saved>), Error> {
        let database = match disk.open(path, Open::EXISTING) {
            Ok(file) => {
                // The last start may have died between giving the file its name and making that
                // durable: a later power cut would take all that was committed since.
                sync_dir_of(&*disk, path)?;
                open_on(DiskBackend::new(file), path)?
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                create(&*disk, path)?;
                reopen(&*disk, path)?
            }
            Err(cause) => return Err(Error::Io { verb: "open", path: path.to_owned(), cause }),
        };
        check_version(&database, path)?;
        let saved = load(&database, path)?;
        let mut store =
            Self { disk, path: path.to_owned(), database: Some(database), last: Vec::new() };
        for group in &saved {
            store.note(group.group, group.last());
        }
        Ok((store, saved))
    }

    /// Makes the changes durable, all or none.
    ///
    /// # Errors
    /// If the disk is full: then nothing was changed, and a later commit can succeed. After any
    /// other error it is unknown whether they are durable.
    pub(crate) fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen_checked()?,
        };
        let result = write(&database, changes).map_err(failed("write", &self.path));
        // redb refuses everything after a failed write. Nothing was committed when there was no
        // room for it, so that the file can be opened again.
        if !result.as_ref().is_err_and(Error::is_disk_full) {
            self.database = Some(database);
        }
        result?;
        for change in changes {
            let (Change::Append { group, index, .. } | Change::Snapshot { group, index, .. }) =
                change;
            self.note(*group, *index);
        }
        Ok(())
    }

    fn note(&mut self, group: Group, index: u64) {
        let place = usize::try_from(group.number()).expect("a group's number is below 2^17");
        if self.last.len() <= place {
            self.last.resize(place + 1, 0);
        }
        self.last[place] = index;
    }

    /// Opens the file again after a full disk, and makes sure that it is where we left it.
    fn reopen_checked(&self) -> Result<Database, Error> {
        let database = reopen(&*self.disk, &self.path)?;
        let mut found = vec![0; self.last.len()];
        for saved in load(&database, &self.path)? {
            let place = usize::try_from(saved.group.number()).expect("below 2^17");
            if let Some(last) = found.get_mut(place) {
                *last = saved.last();
            }
        }
        if found == self.last {
            return Ok(database);
        }
        let what = "a commit that was interrupted by a full disk is in it".to_owned();
        Err(Error::Corrupt { path: self.path.clone(), what })
    }
}

/// What is stored in a file that is only looked at: what an unclean stop left is repaired in memory.
///
/// # Errors
/// If the bytes are damaged or of another version.
pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<Vec<Saved>, Error> {
    let memory = redb::backends::InMemoryBackend::new();
    let len = bytes.len() as u64;
    memory.set_len(len).and_then(|()| memory.write(0, bytes)).map_err(|cause| Error::Io {
        verb: "read",
        path: path.to_owned(),
        cause,
    })?;
    let database = open_on(memory, path)?;
    check_version(&database, path)?;
    load(&database, path)
}

/// Makes the file under another name first, so that there is never half of one under its own.
fn create(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    let new = path.with_extension("redb.new");
    let io = |verb, path: &Path| {
        let path = path.to_owned();
        move |cause| Error::Io { verb, path, cause }
    };
    let file = disk.open(&new, Open::CREATE).map_err(io("create", &new))?;
    file.set_len(0).map_err(io("cut", &new))?;
    let database = open_on(DiskBackend::new(file), &new)?;
    found(&database).map_err(failed("write", &new))?;
    drop(database);
    disk.rename(&new, path).map_err(io("rename", &new))?;
    sync_dir_of(disk, path)
}

/// Makes the file's name durable.
fn sync_dir_of(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    disk.sync_dir(dir).map_err(|cause| Error::Io { verb: "sync", path: dir.to_owned(), cause })
}

fn reopen(disk: &dyn Disk, path: &Path) -> Result<Database, Error> {
    let file = disk.open(path, Open::EXISTING).map_err(|cause| Error::Io {
        verb: "open",
        path: path.to_owned(),
        cause,
    })?;
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
        transaction.open_table(SNAPSHOTS)?;
        transaction.open_table(COMMANDS)?;
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
        Some(found) => Err(Error::UnknownVersion { path: path.to_owned(), found }),
        None => Err(corrupt(path, "it names no format version")),
    }
}

fn write(database: &Database, changes: &[Change<'_>]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut snapshots = transaction.open_table(SNAPSHOTS)?;
        let mut commands = transaction.open_table(COMMANDS)?;
        for change in changes {
            match change {
                Change::Append { group, index, command } => {
                    let value = seal(*group, *index, command);
                    commands.insert((group.number(), *index), value.as_slice())?;
                }
                Change::Snapshot { group, index, snapshot } => {
                    let value = seal(*group, *index, snapshot);
                    snapshots.insert(group.number(), value.as_slice())?;
                    commands
                        .retain_in((group.number(), 0)..=(group.number(), *index), |_, _| false)?;
                }
            }
        }
    }
    Ok(transaction.commit()?)
}

/// The bytes before the content of a value: index and checksum.
const SEAL_LEN: usize = 12;

/// Puts index and checksum before the content.
fn seal(group: Group, index: u64, content: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(SEAL_LEN + content.len());
    value.extend_from_slice(&index.to_be_bytes());
    value.extend_from_slice(&checksum(group, index, content).to_be_bytes());
    value.extend_from_slice(content);
    value
}

/// Takes index and content apart, if the checksum is right.
fn unseal(group: Group, value: &[u8]) -> Option<(u64, &[u8])> {
    let (index, rest) = value.split_first_chunk::<8>()?;
    let (sum, content) = rest.split_first_chunk::<4>()?;
    let index = u64::from_be_bytes(*index);
    (u32::from_be_bytes(*sum) == checksum(group, index, content)).then_some((index, content))
}

/// Covers the place as well: a value under the wrong key is damage.
fn checksum(group: Group, index: u64, content: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&group.number().to_be_bytes());
    digest.update(&index.to_be_bytes());
    digest.update(content);
    u32::try_from(digest.finalize()).expect("a CRC-32 has 32 bits")
}

type Rows = (Vec<(u32, Vec<u8>)>, Vec<((u32, u64), Vec<u8>)>);

fn load(database: &Database, path: &Path) -> Result<Vec<Saved>, Error> {
    let read = || -> Result<Rows, redb::Error> {
        let transaction = database.begin_read()?;
        let mut rows = Rows::default();
        for row in transaction.open_table(SNAPSHOTS)?.iter()? {
            let (key, value) = row?;
            rows.0.push((key.value(), value.value().to_vec()));
        }
        for row in transaction.open_table(COMMANDS)?.iter()? {
            let (key, value) = row?;
            rows.1.push((key.value(), value.value().to_vec()));
        }
        Ok(rows)
    };
    let (snapshots, commands) = read().map_err(failed("read", path))?;
    let mut groups = std::collections::BTreeMap::new();
    let group_of =
        |number| Group::from_number(number).ok_or_else(|| corrupt(path, "a group's number"));
    for (number, value) in snapshots {
        let group = group_of(number)?;
        let (index, snapshot) =
            unseal(group, &value).ok_or_else(|| corrupt(path, "the checksum of a snapshot"))?;
        let snapshot = Some((index, snapshot.to_vec()));
        groups.insert(group, Saved { group, snapshot, commands: Vec::new() });
    }
    for ((number, index), value) in commands {
        let group = group_of(number)?;
        let saved = groups.entry(group).or_insert_with(|| Saved {
            group,
            snapshot: None,
            commands: Vec::new(),
        });
        match unseal(group, &value) {
            Some((found, command))
                if found == index && saved.last().checked_add(1) == Some(index) =>
            {
                saved.commands.push((index, command.to_vec()));
            }
            Some(_) => return Err(corrupt(path, "a command is missing")),
            None => return Err(corrupt(path, "the checksum of a command")),
        }
    }
    Ok(groups.into_values().collect())
}

fn corrupt(path: &Path, what: &str) -> Error {
    Error::Corrupt { path: path.to_owned(), what: what.to_owned() }
}

/// Says what happened in our words, whichever step of redb it happened in.
fn failed<'a, E: Into<redb::Error>>(
    verb: &'static str,
    path: &'a Path,
) -> impl Fn(E) -> Error + use<'a, E> {
    move |error| match error.into() {
        redb::Error::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            corrupt(path, &cause.to_string())
        }
        redb::Error::Io(cause) => Error::Io { verb, path: path.to_owned(), cause },
        redb::Error::Corrupted(what) => corrupt(path, &what),
        redb::Error::UpgradeRequired(found) => {
            Error::UnknownVersion { path: path.to_owned(), found: found.into() }
        }
        other => {
            let cause = io::Error::other(other.to_string());
            Error::Io { verb, path: path.to_owned(), cause }
        }
    }
}
