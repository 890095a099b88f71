//! The directory of segment files: their names, how they are opened, made and removed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rafka_core::{Offset, TopicPartition};

use super::format::{self, HeaderError, Identity};
use super::index::{self, Entry, Marker};
use super::walk::{Step, Walk};
use super::{Segment, Writer};
use crate::Error;
use crate::disk::{self, Disk, File, Open};
use crate::handle_cache::HandleCache;

/// The segments of all logs of a data directory. Knows files, not which of them count.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) disk: Arc<dyn Disk>,
    root: PathBuf,
    pub(super) handles: HandleCache,
    rebuilt: AtomicU64,
}

/// One of the two files of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    Index,
}

impl Kind {
    fn extension(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Index => "index",
        }
    }
}

/// A segment's file name: `00000000000000000042.log`, and `00000000000000000042-3.log` when the
/// generation is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) base: Offset,
    pub(crate) generation: u32,
    pub(crate) kind: Kind,
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, extension) = (self.base.0, self.kind.extension());
        match self.generation {
            0 => write!(f, "{base:020}.{extension}"),
            generation => write!(f, "{base:020}-{generation}.{extension}"),
        }
    }
}

impl FileName {
    /// `None` if the name is not one that we give.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.split_once('.')?;
        let kind =
            [Kind::Log, Kind::Index].into_iter().find(|kind| kind.extension() == extension)?;
        let (base, generation) = match stem.split_once('-') {
            Some((base, generation)) => (base, generation.parse().ok()?),
            None => (stem, 0),
        };
        let parsed = Self { base: Offset(base.parse().ok()?), generation, kind };
        (parsed.to_string() == name).then_some(parsed)
    }
}

/// Where a log's segments lie below `root`.
pub(crate) fn log_dir(root: &Path, name: &TopicPartition) -> PathBuf {
    root.join(name.topic.to_string()).join(name.partition.to_string())
}

impl Store {
    /// The segments below `<data>/logs`. Touches nothing yet.
    pub(crate) fn new(disk: Arc<dyn Disk>, data_dir: &Path, handles_max: usize) -> Self {
        let root = data_dir.join("logs");
        Self { disk, root, handles: HandleCache::new(handles_max), rebuilt: AtomicU64::new(0) }
    }

    /// How many indexes were lost or damaged, and were made again.
    pub(crate) fn indexes_rebuilt(&self) -> u64 {
        self.rebuilt.load(Ordering::Relaxed)
    }

    /// How many segment and index files are open.
    pub(crate) fn handles_open(&self) -> usize {
        self.handles.len()
    }

    /// Begins a new segment whose first batch will be at `base` or above.
    ///
    /// # Errors
    /// If directory or file cannot be made. What was made does not count and is in nobody's way.
    pub(crate) fn create(
        &self,
        name: &TopicPartition,
        base: Offset,
        generation: u32,
    ) -> Result<Writer, Error> {
        let identity = Identity { name: *name, base, generation };
        let (log, index) = (self.path(&identity, Kind::Log), self.path(&identity, Kind::Index));
        let file = match self.disk.open(&log, Open::CREATE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = self.dir(name);
                self.disk.create_dir_all(&dir).map_err(disk::failed("create", &dir))?;
                self.disk.open(&log, Open::CREATE)
            }
            opened => opened,
        }
        .map_err(disk::failed("create", &log))?;
        // A start that ended before the manifest knew of it may have left something here.
        file.set_len(0).map_err(disk::failed("cut", &log))?;
        self.empty_index(&index)?;
        self.handles.forget(&log);
        Ok(Writer::create(identity, log, index, file))
    }

    /// Goes on with a segment behind what the manifest knows of it; anything further is cut off.
    ///
    /// # Errors
    /// If its file cannot be opened or cut, or is shorter than the manifest says.
    pub(crate) fn resume(&self, name: &TopicPartition, segment: &Segment) -> Result<Writer, Error> {
        let identity = segment.identity(name);
        let log = self.path(&identity, Kind::Log);
        let file = self.open_log(&identity)?;
        let len = file.len().map_err(disk::failed("measure", &log))?;
        if len < segment.file_len {
            let what = format!("it ends here, the manifest says {} bytes", segment.file_len);
            return Err(Error::Corrupt { path: log, position: len, what });
        }
        if segment.file_len < len {
            file.set_len(segment.file_len).map_err(disk::failed("cut", &log))?;
        }
        let marked = self.cut_index(&identity, segment, &*file)?;
        let marker = Marker::resume(segment.base, marked, segment.max_timestamp);
        let index = self.path(&identity, Kind::Index);
        Ok(Writer::resume(identity, segment.clone(), marker, (log, index), file))
    }

    /// Cuts the index to the entries that count, makes it again if it is damaged, and returns the
    /// last entry.
    fn cut_index(
        &self,
        identity: &Identity,
        segment: &Segment,
        log: &dyn File,
    ) -> Result<Option<Entry>, Error> {
        let path = self.path(identity, Kind::Index);
        let Some(last) = segment.index_entries.checked_sub(1) else {
            self.empty_index(&path)?;
            return Ok(None);
        };
        let end = index::entry_position(segment.index_entries);
        let entry = self.index_file(identity).ok().and_then(|file| {
            let len = file.len().ok()?;
            let entry = read_entry(&*file, identity.seed(), last)?;
            (end <= len).then_some((entry, file, len))
        });
        match entry {
            // Durable before anything is written behind it: otherwise a power cut could bring the
            // old entries back, with checksums that fit.
            Some((entry, file, len)) => {
                if end < len {
                    file.set_len(end).map_err(disk::failed("cut", &path))?;
                    file.sync_data().map_err(disk::failed("sync", &path))?;
                }
                Ok(Some(entry))
            }
            None => {
                let entries = self.rebuild_index(identity, segment, log)?;
                if let Ok(file) = self.index_file(identity) {
                    file.set_len(end).map_err(disk::failed("cut", &path))?;
                    file.sync_data().map_err(disk::failed("sync", &path))?;
                }
                Ok(entries.last().copied())
            }
        }
    }

    /// Empties an index that is left over. Not by removing it: after a power cut the name could be
    /// back, and lead to the old entries.
    fn empty_index(&self, path: &Path) -> Result<(), Error> {
        let file = match self.disk.open(path, Open::EXISTING) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(disk::failed("open", path))?,
        };
        file.set_len(0).map_err(disk::failed("cut", path))?;
        file.sync_data().map_err(disk::failed("sync", path))
    }

    /// Makes the names of a log's new segments durable, its directories' included.
    ///
    /// # Errors
    /// If a directory cannot be synced. Then the names may be lost at a power cut.
    pub(crate) fn sync_names(&self, name: &TopicPartition) -> Result<(), Error> {
        // All three levels, however old: an earlier process may have made them and died before it
        // synced them. That is cheap for directories in which nothing changed.
        for dir in self.dir(name).ancestors().take(3) {
            self.disk.sync_dir(dir).map_err(disk::failed("sync", dir))?;
        }
        Ok(())
    }

    /// Removes a segment's files. The manifest no longer names it.
    ///
    /// # Errors
    /// If a file cannot be removed. One that is missing already is no error.
    pub(crate) fn remove(&self, name: &TopicPartition, segment: &Segment) -> Result<(), Error> {
        let identity = segment.identity(name);
        self.remove_file(&self.path(&identity, Kind::Index))?;
        self.remove_file(&self.path(&identity, Kind::Log))
    }

    /// Removes all segments of a log that was deleted, and its directory.
    ///
    /// # Errors
    /// If a file cannot be removed. Missing ones are no error.
    pub(crate) fn remove_log(&self, name: &TopicPartition) -> Result<(), Error> {
        let dir = self.dir(name);
        for file in self.names(&dir)? {
            self.remove_file(&dir.join(file.to_string()))?;
        }
        self.remove_dir(&dir)?;
        // The other partitions of the topic may still have theirs.
        dir.parent().map_or(Ok(()), |topic| self.remove_dir(topic))
    }

    /// Removes what an interrupted flush or compaction left in the log's directory: segment files
    /// that the manifest does not name. Files whose names are not ours stay. Returns how many went.
    ///
    /// # Errors
    /// If the directory cannot be read or a file cannot be removed.
    pub(crate) fn sweep(&self, name: &TopicPartition, segments: &[Segment]) -> Result<u64, Error> {
        let dir = self.dir(name);
        let named = |file: &FileName| {
            let same = |s: &&Segment| (s.base, s.generation) == (file.base, file.generation);
            segments.iter().any(|segment| same(&segment))
        };
        let mut removed = 0;
        for file in self.names(&dir)?.into_iter().filter(|file| !named(file)) {
            self.remove_file(&dir.join(file.to_string()))?;
            removed += 1;
        }
        Ok(removed)
    }

    pub(crate) fn path(&self, identity: &Identity, kind: Kind) -> PathBuf {
        let Identity { name, base, generation } = identity;
        let file = FileName { base: *base, generation: *generation, kind };
        self.dir(name).join(file.to_string())
    }

    pub(super) fn open_log(&self, identity: &Identity) -> Result<Arc<dyn File>, Error> {
        let path = self.path(identity, Kind::Log);
        let file = self.handles.get(&*self.disk, &path)?;
        let mut header = [0; format::HEADER_LEN];
        disk::read_exact_at(&*file, 0, &mut header).map_err(disk::failed("read", &path))?;
        // Everything in a damaged header is known from elsewhere, so that the batches stay readable.
        if let Err(HeaderError::Version(found)) = Identity::parse(&header) {
            return Err(Error::UnknownVersion { path, found, known: format::VERSION });
        }
        Ok(file)
    }

    pub(super) fn index_file(&self, identity: &Identity) -> Result<Arc<dyn File>, Error> {
        self.handles.get(&*self.disk, &self.path(identity, Kind::Index))
    }

    /// Makes the index again from the segment, and writes it if it can.
    pub(super) fn rebuild_index(
        &self,
        identity: &Identity,
        segment: &Segment,
        log: &dyn File,
    ) -> Result<Vec<Entry>, Error> {
        self.rebuilt.fetch_add(1, Ordering::Relaxed);
        let path = self.path(identity, Kind::Log);
        let entries = entries_of(identity, segment, log, &path)?;
        let path = self.path(identity, Kind::Index);
        tracing::warn!(path = %path.display(), entries = entries.len(), "index rebuilt");
        // The entries serve whether or not there is room to keep them.
        if let Err(error) = self.write_index(identity, &path, &entries) {
            tracing::warn!(path = %path.display(), %error, "rebuilt index not written");
        }
        Ok(entries)
    }

    fn write_index(&self, identity: &Identity, path: &Path, entries: &[Entry]) -> io::Result<()> {
        let mut bytes = index::header(identity).to_vec();
        for entry in entries {
            bytes.extend_from_slice(&entry.encode(identity.seed()));
        }
        // In place: writer and rebuilding write the same bytes to the same positions.
        self.disk.open(path, Open::CREATE)?.write_at(0, &bytes)
    }

    fn dir(&self, name: &TopicPartition) -> PathBuf {
        log_dir(&self.root, name)
    }

    fn names(&self, dir: &Path) -> Result<Vec<FileName>, Error> {
        let names = match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(disk::failed("list", dir))?,
        };
        Ok(names.iter().filter_map(|name| FileName::parse(name)).collect())
    }

    fn remove_file(&self, path: &Path) -> Result<(), Error> {
        let removed = match self.disk.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(disk::failed("remove", path)),
        };
        self.handles.forget(path);
        removed
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), Error> {
        use io::ErrorKind::{DirectoryNotEmpty, NotFound};
        match self.disk.remove(dir) {
            Err(error) if matches!(error.kind(), DirectoryNotEmpty | NotFound) => Ok(()),
            removed => removed.map_err(disk::failed("remove", dir)),
        }
    }
}

/// The entry with this number, if it is there and sound.
pub(crate) fn read_entry(file: &dyn File, seed: u32, number: u32) -> Option<Entry> {
    let mut bytes = [0; index::ENTRY_LEN];
    disk::read_exact_at(file, index::entry_position(number), &mut bytes).ok()?;
    Entry::decode(seed, &bytes)
}

/// What the index of this segment holds.
fn entries_of(
    identity: &Identity,
    segment: &Segment,
    log: &dyn File,
    path: &Path,
) -> Result<Vec<Entry>, Error> {
    let mut walk = Walk::new(log, path, identity, segment.file_len);
    let mut marker = Marker::new(identity.base);
    let mut entries = Vec::new();
    while let Some(step) = walk.step()? {
        if let Step::Frame(frame) = step {
            let (at, max) = (frame.position, frame.unverified.max_timestamp);
            entries.extend(marker.pass(at, frame.base_offset, max));
        }
    }
    // Where frames are damaged there are fewer. Their number stays, since the manifest counts them.
    let counted = usize::try_from(segment.index_entries).unwrap_or(usize::MAX);
    if let Some(last) = entries.last().copied() {
        entries.resize(counted, last);
    }
    entries.truncate(counted);
    Ok(entries)
}

impl Segment {
    pub(crate) fn identity(&self, name: &TopicPartition) -> Identity {
        Identity { name: *name, base: self.base, generation: self.generation }
    }
}
