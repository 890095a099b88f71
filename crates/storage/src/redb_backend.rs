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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use redb::{Database, ReadableDatabase as _, TableDefinition};

    use super::*;
    use crate::disk::faulty::FaultyDisk;
    use crate::disk::{Disk as _, Open};

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

    fn open(disk: &FaultyDisk) -> Database {
        let file = disk.open(Path::new("/data/test.redb"), Open::CREATE).unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        Database::builder().create_with_backend(DiskBackend::new(file)).unwrap()
    }

    fn insert(database: &Database, number: u64) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?.insert(number, number)?;
        Ok(transaction.commit()?)
    }

    #[test]
    fn a_commit_survives_a_power_cut_at_any_later_point() {
        for seed in 0..20 {
            let disk = FaultyDisk::new(seed);
            disk.put(Path::new("/data/lock"), b"");
            let database = open(&disk);
            insert(&database, 1).unwrap();
            disk.die_after(seed);
            insert(&database, 2).ok();
            drop(database);
            disk.crash();
            let database = open(&disk);
            let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
            assert_eq!(table.get(1).unwrap().map(|found| found.value()), Some(1), "seed {seed}");
        }
    }
}
