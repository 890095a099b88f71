//! The disk seam: the handful of verbs through which the engines touch files.
//!
//! Everything that must survive a power cut goes through here, so that tests can take away what the
//! caller did not make durable. The rules are those of POSIX read strictly: data is durable after
//! [`File::sync_data`] (or, opened [`Mode::Direct`], when the write returns), a name is durable
//! after [`Disk::sync_dir`] of the directory that holds it, and neither implies the other.

mod aligned;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
mod os;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rafka_core::ByteSize;

pub use aligned::AlignedBuffer;
pub use os::OsDisk;

use crate::Error;

/// What direct writes must be aligned to: position, length and memory.
///
/// The largest logical block of the disks in use; 512-byte disks take it as well.
pub const BLOCK: usize = 4096;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Whether a missing file is created. Its name is durable after [`Disk::sync_dir`].
    pub create: bool,
    /// What reads and writes go through.
    pub mode: Mode,
}

impl Open {
    /// An existing file, only to be read.
    pub const READ: Self = Self { create: false, mode: Mode::Read };
    /// An existing file, through the page cache.
    pub const EXISTING: Self = Self { create: false, mode: Mode::Buffered };
    /// A file through the page cache, created if it is missing.
    pub const CREATE: Self = Self { create: true, mode: Mode::Buffered };
    /// An existing file, past the page cache.
    pub const DIRECT: Self = Self { create: false, mode: Mode::Direct };
}

/// What reads and writes of a file go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reads only, through the page cache.
    Read,
    /// The page cache: writes are durable after [`File::sync_data`].
    Buffered,
    /// Past the page cache: a write is durable when it returns. Position, length and memory of each
    /// write are multiples of [`BLOCK`]. Where the file system has no direct writes, they go through
    /// the page cache and are durable when they return all the same. Not meant for reading.
    Direct,
}

/// A place that holds files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound` if it is missing and not to be created; what the system says otherwise.
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>>;

    /// Creates a directory and what is missing above it. The names are durable after
    /// [`Disk::sync_dir`] of each parent.
    ///
    /// # Errors
    /// What the system says. Some parents may exist by then.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Renames a file or directory, replacing a file of the new name, atomically. Durable after
    /// [`Disk::sync_dir`] of the parent.
    ///
    /// # Errors
    /// What the system says. Then nothing was renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file or an empty directory. Durable after [`Disk::sync_dir`] of the parent.
    ///
    /// # Errors
    /// What the system says. Then nothing was removed.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in ascending order. Names that are not UTF-8 are not ours and are
    /// left out.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory; what the system says otherwise.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system says. Then the names may or may not be durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes everything on the file system that holds `path` durable: one call instead of many when
    /// many files were written.
    ///
    /// # Errors
    /// What the system says. Then anything may or may not be durable.
    fn sync_fs(&self, path: &Path) -> io::Result<()>;

    /// How much can still be written to the file system that holds `path`.
    ///
    /// # Errors
    /// What the system says.
    fn free_space(&self, path: &Path) -> io::Result<ByteSize>;

    /// The size of the file system that holds `path`.
    ///
    /// # Errors
    /// What the system says.
    fn total_space(&self, path: &Path) -> io::Result<ByteSize>;

    /// Takes the exclusive lock of a file, creating it, until the guard is dropped. The lock goes
    /// with the process when it dies.
    ///
    /// # Errors
    /// `WouldBlock` if another holds it; what the system says otherwise.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
}

/// An open file. All calls may be made from several threads at once.
#[expect(clippy::len_without_is_empty, reason = "the length may be unreadable; nobody asks for 0")]
pub trait File: Send + Sync + fmt::Debug {
    /// Reads into `out` from `position` on. Returns the number of bytes read, which is less than
    /// `out.len()` only at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, position: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `data` at `position`, growing the file if it ends earlier.
    ///
    /// # Errors
    /// What the system says. Then any part of it may have been written.
    fn write_at(&self, position: u64, data: &[u8]) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it by zeros that need no space yet.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Extends the file to at least `len`, reserving the space, so that writes below `len` do not
    /// fail for want of it. What is new reads as zeros.
    ///
    /// # Errors
    /// `StorageFull` if there is not enough space; what the system says otherwise.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Makes the written data and the length durable.
    ///
    /// # Errors
    /// What the system says. Then what was written since the last sync is unknown: a second call
    /// may succeed although the data is lost.
    fn sync_data(&self) -> io::Result<()>;
}

/// Holds the exclusive lock of a file until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _guard: Box<dyn Guard>,
}

trait Guard: Send + Sync + fmt::Debug {}

impl<T: Send + Sync + fmt::Debug> Guard for T {}

impl Lock {
    fn held_by(guard: impl Send + Sync + fmt::Debug + 'static) -> Self {
        Self { _guard: Box::new(guard) }
    }
}

/// Reads exactly `out.len()` bytes, or says `UnexpectedEof`.
///
/// # Errors
/// What the system says, or that the file ends too early.
pub(crate) fn read_exact_at(file: &dyn File, position: u64, out: &mut [u8]) -> io::Result<()> {
    let read = file.read_at(position, out)?;
    if read < out.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// The names in a directory; none if it is missing, or no directory.
pub(crate) fn names_in(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, Error> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match disk.list(dir) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(Vec::new()),
        listed => listed.map_err(failed("list", dir)),
    }
}

/// Names the file and the verb of a failed call.
pub(crate) fn failed<'a>(
    verb: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> Error + use<'a> {
    move |cause| Error::Io { verb, path: path.to_owned(), cause: Arc::new(cause) }
}

#[cfg(test)]
mod tests;
