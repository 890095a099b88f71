//! A bounded number of open files, so that a log that nobody reads holds none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Error;
use crate::disk::{self, Disk, File, Open};

/// Open files by path, the least recently used ones closed first.
///
/// A caller keeps the handle that it got for as long as it needs it: closing means that the cache
/// drops its share.
#[derive(Debug)]
pub(crate) struct HandleCache {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<PathBuf, Handle>,
    /// Counts look-ups: the time that recency is measured in.
    uses: u64,
    /// Counts forgotten paths, so that a handle opened before is not kept after.
    forgotten: u64,
}

#[derive(Debug)]
struct Handle {
    file: Arc<dyn File>,
    used: u64,
}

impl HandleCache {
    /// Keeps up to `capacity` files open.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(0 < capacity, "a cache of no handles would open a file for every look-up");
        Self { capacity, state: Mutex::default() }
    }

    /// The file at `path`, opened for reading and writing if it is not open.
    pub(crate) fn get(&self, disk: &dyn Disk, path: &Path) -> Result<Arc<dyn File>, Error> {
        let forgotten = {
            let mut state = self.state.lock();
            if let Some(file) = state.touch(path) {
                return Ok(file);
            }
            state.forgotten
        };
        let file = disk.open(path, Open::EXISTING).map_err(disk::failed("open", path))?;
        let mut state = self.state.lock();
        // Meanwhile the file may have been removed, and another made under its name.
        if state.forgotten == forgotten {
            state.keep(path, &file, self.capacity);
        }
        Ok(file)
    }

    /// Closes the file at `path`. Called after the file was removed or replaced.
    pub(crate) fn forget(&self, path: &Path) {
        let mut state = self.state.lock();
        state.forgotten += 1;
        state.open.remove(path);
    }

    /// How many files are open.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().open.len()
    }
}

impl State {
    fn touch(&mut self, path: &Path) -> Option<Arc<dyn File>> {
        self.uses += 1;
        let handle = self.open.get_mut(path)?;
        handle.used = self.uses;
        Some(Arc::clone(&handle.file))
    }

    fn keep(&mut self, path: &Path, file: &Arc<dyn File>, capacity: usize) {
        if capacity <= self.open.len() && !self.open.contains_key(path) {
            // A walk over a few hundred entries costs less than the open that led here.
            let oldest = self.open.iter().min_by_key(|(_, handle)| handle.used);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                self.open.remove(&oldest);
            }
        }
        let handle = Handle { file: Arc::clone(file), used: self.uses };
        self.open.insert(path.to_owned(), handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faulty::FaultyDisk;

    fn disk_with_files(count: usize) -> (FaultyDisk, Vec<PathBuf>) {
        let disk = FaultyDisk::new(1);
        disk.create_dir_all(Path::new("/d")).expect("a new disk has room");
        let paths: Vec<_> = (0..count).map(|n| PathBuf::from(format!("/d/{n}"))).collect();
        for path in &paths {
            disk.open(path, Open::CREATE).expect("a new disk has room");
        }
        (disk, paths)
    }

    #[test]
    fn never_more_files_are_open_than_allowed_and_the_recent_ones_stay() {
        let (disk, paths) = disk_with_files(4);
        let cache = HandleCache::new(3);
        let first = cache.get(&disk, &paths[0]).expect("it exists");
        for path in [&paths[1], &paths[2], &paths[0], &paths[3]] {
            cache.get(&disk, path).expect("it exists");
            assert!(cache.len() <= 3);
        }
        let again = cache.get(&disk, &paths[0]).expect("it exists");
        assert!(Arc::ptr_eq(&first, &again), "the file used in between was closed");
    }

    #[test]
    fn a_forgotten_file_is_opened_anew() {
        let (disk, paths) = disk_with_files(1);
        let cache = HandleCache::new(3);
        let old = cache.get(&disk, &paths[0]).expect("it exists");
        old.write_at(0, b"old").expect("there is room");
        disk.remove(&paths[0]).expect("it exists");
        cache.forget(&paths[0]);
        disk.open(&paths[0], Open::CREATE).expect("there is room");
        let new = cache.get(&disk, &paths[0]).expect("it exists");
        assert_eq!(new.len().expect("it is open"), 0);
    }
}
