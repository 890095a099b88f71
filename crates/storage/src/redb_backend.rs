//! Lets redb keep its file on the disk seam, so that the faults of a test reach it too.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use crate::disk::{self, File};

/// A redb file on a [`Disk`](crate::disk::Disk).
///
/// It takes no lock: the data directory has one, and nobody else opens what lies in it.
#[derive(Debug)]
pub struct DiskBackend {
    file: Arc<dyn File>,
}

impl DiskBackend {
    /// Keeps the database in `file`, which was opened [`Buffered`](crate::disk::Mode::Buffered).
    #[must_use]
    pub fn new(file: Arc<dyn File>) -> Self {
        Self { file }
    }
}

impl StorageBackend for DiskBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        disk::read_exact_at(&*self.file, offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }
}
