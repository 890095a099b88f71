//! A disk in memory that forgets what was not made durable, and fails when told to.
//!
//! It is stricter than any real disk, so that code which survives it needs no luck:
//! - of the sectors (512 bytes) that were written and not synced, a power cut keeps any subset;
//! - of the names that were changed in a directory since it was synced, a power cut keeps the
//!   changes up to some point, whether or not the files' data is there;
//! - after a failed sync what was unsynced reads back until the power cut, and is gone after it,
//!   whatever later syncs say;
//! - a direct write that the power cut interrupts leaves any subset of its sectors.
//!
//! Everything random comes from the seed: the same calls give the same disk.

mod handle;
mod image;
mod names;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rafka_core::rng::{self, RngExt as _};
use rafka_core::{ByteSize, Rng};

use self::handle::Handle;
use self::image::Image;
use self::names::{Names, Node};
use super::{Disk, File, Lock, Mode, Open};

/// What a disk without a bound says is free.
const FREE_UNBOUNDED: ByteSize = ByteSize::gib(1024);

/// A disk in memory with faults. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

/// The calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// [`Disk::open`].
    Open,
    /// [`File::read_at`].
    Read,
    /// [`File::write_at`]: any part of the data may be written.
    Write,
    /// [`File::sync_data`] and [`Disk::sync_fs`]: the unsynced data is lost.
    Sync,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`Disk::rename`].
    Rename,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    names: Names,
    locks: BTreeSet<PathBuf>,
    /// Counts the deaths of the process. What an earlier process opened is dead.
    life: u64,
    /// The process dies when this many more changes were made.
    changes_left: Option<u64>,
    dead: bool,
    capacity: Option<ByteSize>,
    faults: Vec<Fault>,
    changes: u64,
    bytes_read: u64,
}

#[derive(Debug)]
struct Fault {
    verb: Verb,
    name: String,
    after: u64,
    error: fn() -> io::Error,
}

impl FaultyDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: rng::from_seed(seed),
            names: Names::default(),
            locks: BTreeSet::new(),
            life: 0,
            changes_left: None,
            dead: false,
            capacity: None,
            faults: Vec::new(),
            changes: 0,
            bytes_read: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Cuts the power and restores it: what was not durable may be lost. What was open is dead,
    /// what was locked is free, planned faults are forgotten.
    pub fn crash(&self) {
        let state = &mut *self.state.lock();
        state.end_life();
        for image in state.names.crash(&mut state.rng) {
            image.lock().crash(&mut state.rng);
        }
    }

    /// Kills the process: what was written stays, and what was not synced stays unsynced. What was
    /// open is dead, what was locked is free, planned faults are forgotten.
    pub fn kill(&self) {
        self.state.lock().end_life();
    }

    /// Lets the process die in the middle of a change, after `changes` more. From then on every
    /// call fails, until [`FaultyDisk::crash`] or [`FaultyDisk::kill`] says how it died.
    pub fn die_after(&self, changes: u64) {
        self.state.lock().changes_left = Some(changes);
    }

    /// Whether the process has died by [`FaultyDisk::die_after`].
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// How many changes (writes, syncs, changes of names and lengths) were made so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// How many bytes were read so far: the work of whoever searches a file.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.state.lock().bytes_read
    }

    /// Lets one call fail with an I/O error: of those of `verb` on a path that contains `name`, the
    /// one after `after` that succeed.
    pub fn fail(&self, verb: Verb, name: &str, after: u64) {
        let error = || rustix::io::Errno::IO.into();
        self.state.lock().faults.push(Fault { verb, name: name.to_owned(), after, error });
    }

    /// Lets one write find the disk full, as if others took the space for a moment: of those to a
    /// path that contains `name`, the one after `after` that succeed.
    pub fn refuse_space(&self, name: &str, after: u64) {
        let (verb, name) = (Verb::Write, name.to_owned());
        self.state.lock().faults.push(Fault { verb, name, after, error: full });
    }

    /// Bounds the disk: the lengths of all files together stay within `capacity`.
    pub fn set_capacity(&self, capacity: Option<ByteSize>) {
        self.state.lock().capacity = capacity;
    }

    /// Flips the bits of `mask` in one byte of a file, on the disk and in memory.
    ///
    /// # Panics
    /// If there is no such file, or it is shorter.
    pub fn flip(&self, path: &Path, position: u64, mask: u8) {
        let state = self.state.lock();
        state
            .names
            .file(path)
            .expect("the test names an existing file")
            .lock()
            .flip(position, mask);
    }

    /// What a process would read from a file.
    ///
    /// # Panics
    /// If there is no such file.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.state.lock();
        state.names.file(path).expect("the test names an existing file").lock().content().to_vec()
    }

    /// Puts a file there, durably, with the directories above it.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let state = &mut *self.state.lock();
        let image = Arc::new(Mutex::new(Image::default()));
        image.lock().write(0, content, Mode::Direct);
        if let Some(parent) = path.parent() {
            state.names.create_dir_all(parent);
        }
        state.names.put(path, Node::File(image));
        state.names.sync_all();
    }
}

impl State {
    fn end_life(&mut self) {
        self.life += 1;
        self.dead = false;
        self.changes_left = None;
        self.locks.clear();
        self.faults.clear();
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the process is dead")) } else { Ok(()) }
    }

    /// Whether this call goes on, fails by plan, or finds the process dead.
    fn begin(&mut self, verb: Verb, path: &Path) -> io::Result<()> {
        self.check_alive()?;
        let text = path.to_string_lossy();
        let matching = self
            .faults
            .iter_mut()
            .enumerate()
            .filter(|(_, fault)| fault.verb == verb && text.contains(&fault.name));
        let mut due = None;
        for (index, fault) in matching {
            if fault.after == 0 {
                due = Some(index);
            } else {
                fault.after -= 1;
            }
        }
        if let Some(index) = due {
            return Err((self.faults.remove(index).error)());
        }
        Ok(())
    }

    /// Counts a change. False: the process dies in the middle of this one.
    fn survives_change(&mut self) -> bool {
        self.changes += 1;
        match &mut self.changes_left {
            Some(0) => {
                self.dead = true;
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    /// As [`State::survives_change`], for changes that are whole or not at all: the coin decides.
    fn change(&mut self) -> io::Result<()> {
        if self.survives_change() || self.rng.random() {
            return Ok(());
        }
        Err(died())
    }

    fn has_room_for(&self, growth: u64) -> bool {
        self.capacity.is_none_or(|capacity| self.names.bytes() + growth <= capacity.0)
    }
}

fn died() -> io::Error {
    io::Error::other("the process died in this call")
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let state = &mut *self.state.lock();
        state.begin(Verb::Open, path)?;
        let image = match state.names.file(path) {
            Ok(image) => image,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && open.create => {
                state.names.check_parent(path)?;
                state.change()?;
                let image = Arc::new(Mutex::new(Image::default()));
                state.names.put(path, Node::File(Arc::clone(&image)));
                image
            }
            Err(cause) => return Err(cause),
        };
        Ok(Arc::new(Handle {
            disk: self.clone(),
            life: state.life,
            path: path.to_owned(),
            mode: open.mode,
            image,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.begin(Verb::Open, path)?;
        state.change()?;
        state.names.create_dir_all(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.begin(Verb::Rename, from)?;
        state.names.check_parent(to)?;
        state.change()?;
        state.names.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.begin(Verb::Open, path)?;
        state.change()?;
        state.names.remove(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = &mut *self.state.lock();
        state.begin(Verb::Open, path)?;
        state.names.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.begin(Verb::SyncDir, path)?;
        state.change()?;
        state.names.sync_dir(path)
    }

    fn sync_fs(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.check_alive()?;
        let result = state.begin(Verb::Sync, path);
        if result.is_ok() {
            state.change()?;
            state.names.sync_all();
        }
        for image in state.names.images() {
            let mut image = image.lock();
            if result.is_ok() { image.sync() } else { image.fail_sync() }
        }
        result
    }

    fn free_space(&self, path: &Path) -> io::Result<ByteSize> {
        let state = &mut *self.state.lock();
        state.begin(Verb::Open, path)?;
        let free = |capacity: ByteSize| ByteSize(capacity.0.saturating_sub(state.names.bytes()));
        Ok(state.capacity.map_or(FREE_UNBOUNDED, free))
    }

    fn total_space(&self, path: &Path) -> io::Result<ByteSize> {
        let state = &mut *self.state.lock();
        state.begin(Verb::Open, path)?;
        Ok(state.capacity.unwrap_or(FREE_UNBOUNDED))
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.open(path, Open::CREATE)?;
        let mut state = self.state.lock();
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Lock::held_by(HeldLock { disk: self.clone(), life: state.life, path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct HeldLock {
    disk: FaultyDisk,
    life: u64,
    path: PathBuf,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}
