//! Pure: the files of a lane as a state machine: which one is written, which come next, which go.
//!
//! It decides; [`super::upkeep`] does what a [`Task`] says.

use std::collections::VecDeque;
use std::sync::Arc;

use rafka_core::rng::RngExt as _;
use rafka_core::{ByteSize, Rng};
use uuid::Uuid;

use super::files::Spare;
use super::format::{BLOCK, FileHeader, Seed, Start};
use super::{Sequence, Settings};
use crate::Durability;
use crate::disk::File;

/// A new directory begins with a small file, because zeros take time to write. Each file after it
/// is [`GROWTH`] times as large, up to the configured size.
const FILE_BYTES_FIRST: u64 = 4 << 20;
const GROWTH: u64 = 4;
/// Spare files that are kept to be used again. More would only hold space.
const POOL_FILES_MAX: usize = 4;

/// A file that holds records.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) number: u64,
    pub(super) capacity: u64,
    pub(super) first: Sequence,
    /// The sequence after the file's last; that of the current file is not known yet.
    pub(super) end: Sequence,
    /// When everything below this is durable, recovery knows where the file's sequences begin.
    /// `None`: nothing was written to it yet.
    pub(super) opened: Option<Sequence>,
    /// `None` for the files of earlier processes.
    pub(super) file: Option<Arc<dyn File>>,
}

/// A file of the journal that is ready to be written.
#[derive(Debug)]
pub(super) struct Armed {
    pub(super) number: u64,
    pub(super) capacity: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) seed: Seed,
}

/// Where a group goes.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: Arc<dyn File>,
    pub(super) number: u64,
    pub(super) seed: Seed,
    pub(super) position: u64,
}

/// Something to be done to a file. One at a time, in the order in which they are given out.
#[derive(Debug)]
pub(super) enum Task {
    /// Take it out of the journal, and keep it as a spare file or remove it.
    Retire {
        file: Spare,
        keep: bool,
        /// To be made durable before: without it recovery would not know where the lane goes on.
        successor: Option<Arc<dyn File>>,
    },
    /// Make a spare file.
    Make(Spare),
    /// Take a spare file into the journal.
    Arm(Spare, FileHeader),
    /// Remove a spare file.
    Discard(Spare),
}

/// The outcome of a task.
#[derive(Debug)]
pub(super) enum Done {
    Spare(Spare),
    Armed(Armed),
    Gone,
}

#[derive(Debug)]
struct Current {
    live: Live,
    file: Arc<dyn File>,
    seed: Seed,
    /// Where the next group goes.
    used: u64,
}

/// The files of a lane.
#[derive(Debug)]
pub(super) struct Space {
    lane: Durability,
    node: Uuid,
    file_bytes: u64,
    bytes_max: u64,
    rng: Rng,
    next_number: u64,
    /// Full files, oldest first.
    older: VecDeque<Live>,
    current: Current,
    /// The file after the current one.
    armed: Option<Armed>,
    pool: Vec<Spare>,
    /// Files to be taken out of the journal, oldest first.
    retiring: VecDeque<Spare>,
    /// The size of the file that the task under way is about.
    under_way: Option<u64>,
    /// The size of the group that waits for a file.
    blocked: Option<u64>,
    /// Everything below is covered elsewhere.
    released: Sequence,
}

/// What a lane begins with.
#[derive(Debug)]
pub(super) struct Inventory {
    /// Whose journal it is.
    pub(super) node: Uuid,
    pub(super) older: VecDeque<Live>,
    /// Files without records that may go at once.
    pub(super) loose: Vec<Spare>,
    pub(super) pool: Vec<Spare>,
    pub(super) first: Armed,
    pub(super) first_sequence: Sequence,
    pub(super) next_number: u64,
}

/// The size of the first file of a new directory.
pub(super) fn first_capacity(settings: &Settings) -> u64 {
    FILE_BYTES_FIRST.min(settings.file_bytes.0)
}

impl Space {
    pub(super) fn new(
        lane: Durability,
        settings: &Settings,
        rng: Rng,
        inventory: Inventory,
    ) -> Self {
        let Inventory { node, older, loose, pool, first, first_sequence, next_number } = inventory;
        let live = Live {
            number: first.number,
            capacity: first.capacity,
            first: first_sequence,
            end: first_sequence,
            // Its header says where it begins.
            opened: Some(Sequence::default()),
            file: Some(Arc::clone(&first.file)),
        };
        let mut space = Self {
            lane,
            node,
            file_bytes: settings.file_bytes.0,
            bytes_max: settings.bytes_max.0,
            rng,
            next_number,
            older,
            current: Current { live, file: first.file, seed: first.seed, used: BLOCK },
            armed: None,
            pool,
            // Newest first: without its predecessor, an empty file would not know where it begins.
            retiring: loose.into_iter().rev().collect(),
            under_way: None,
            blocked: None,
            released: Sequence::default(),
        };
        space.retire_covered(Sequence::default());
        space
    }

    /// Makes sure that a group of `len` bytes (whole blocks) fits the current file, going on to the
    /// next one if it does not. `first` is the sequence that the group begins with. False: there is
    /// no file for it yet.
    pub(super) fn make_room(&mut self, len: u64, first: Sequence) -> bool {
        if len <= self.room() {
            return true;
        }
        let Some(armed) = self.armed.take_if(|armed| len <= armed.capacity - BLOCK) else {
            self.blocked = Some(len);
            return false;
        };
        self.blocked = None;
        let live = Live {
            number: armed.number,
            capacity: armed.capacity,
            first,
            end: first,
            opened: None,
            file: Some(Arc::clone(&armed.file)),
        };
        let next = Current { live, file: armed.file, seed: armed.seed, used: BLOCK };
        let mut full = std::mem::replace(&mut self.current, next);
        full.live.end = first;
        self.older.push_back(full.live);
        true
    }

    /// What is left of the current file.
    pub(super) fn room(&self) -> u64 {
        self.current.live.capacity - self.current.used
    }

    /// Gives the next `len` bytes (whole blocks) of the current file to the group that ends below
    /// `end`.
    pub(super) fn take(&mut self, len: u64, end: Sequence) -> Place {
        assert!(len <= self.room(), "{len} bytes do not fit the {} left", self.room());
        let current = &mut self.current;
        current.live.opened.get_or_insert(end);
        let position = current.used;
        current.used += len;
        Place {
            file: Arc::clone(&current.file),
            number: current.live.number,
            seed: current.seed,
            position,
        }
    }

    /// The number of the file that is written.
    pub(super) fn file(&self) -> u64 {
        self.current.live.number
    }

    /// Whether a release up to there is the one that gives the oldest file back.
    pub(super) fn frees(&self, below: Sequence) -> bool {
        let ends = self.older.front().map(|oldest| oldest.end);
        ends.is_some_and(|end| self.released < end && end <= below)
    }

    pub(super) fn release(&mut self, below: Sequence, durable: Sequence) {
        self.released = self.released.max(below);
        self.retire_covered(durable);
    }

    /// Takes out the oldest files whose records are all released, but none whose successor could not
    /// tell on its own where its sequences begin.
    pub(super) fn retire_covered(&mut self, durable: Sequence) {
        while let Some(oldest) = self.older.front() {
            let successor = self.older.get(1).unwrap_or(&self.current.live);
            let covered = oldest.end <= self.released || oldest.first == oldest.end;
            if !covered || successor.opened.is_none_or(|opened| durable < opened) {
                break;
            }
            let file = Spare { number: oldest.number, capacity: oldest.capacity };
            self.retiring.push_back(file);
            self.older.pop_front();
        }
    }

    /// The sequence that the oldest file begins with.
    pub(super) fn oldest(&self) -> Sequence {
        self.older.front().unwrap_or(&self.current.live).first
    }

    /// Up to where records must be released for the oldest file to be used again, once three
    /// quarters of the bound are taken.
    pub(super) fn must_release(&self) -> Option<Sequence> {
        let scarce = self.bytes_max - self.bytes_max / 4 <= self.total();
        self.older.front().filter(|_| scarce).map(|oldest| oldest.end)
    }

    pub(super) fn usage(&self) -> (ByteSize, ByteSize) {
        (ByteSize(self.total()), ByteSize(self.bytes_max))
    }

    fn total(&self) -> u64 {
        let older: u64 = self.older.iter().map(|live| live.capacity).sum();
        let spare: u64 = self.pool.iter().chain(&self.retiring).map(|spare| spare.capacity).sum();
        let armed = self.armed.as_ref().map_or(0, |armed| armed.capacity);
        older + self.current.live.capacity + armed + spare + self.under_way.unwrap_or(0)
    }

    /// Whether [`Space::next_task`] has one.
    pub(super) fn has_task(&self) -> bool {
        self.under_way.is_none() && self.choose().is_some()
    }

    /// Whether a task is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// What is to be done next, if nothing is under way.
    pub(super) fn next_task(&mut self) -> Option<Task> {
        if self.under_way.is_some() {
            return None;
        }
        let (task, capacity) = match self.choose()? {
            Choice::Retire => {
                let file = self.retiring.pop_front()?;
                let keep = file.capacity == self.file_bytes && self.pool.len() < POOL_FILES_MAX;
                (Task::Retire { file, keep, successor: self.successor() }, file.capacity)
            }
            Choice::Disarm => {
                let armed = self.armed.take()?;
                let file = Spare { number: armed.number, capacity: armed.capacity };
                let keep = file.capacity == self.file_bytes;
                (Task::Retire { file, keep, successor: None }, file.capacity)
            }
            Choice::Arm(index) => {
                let spare = self.pool.swap_remove(index);
                (Task::Arm(spare, self.header(spare.capacity)), spare.capacity)
            }
            Choice::Make(capacity) => {
                let number = self.take_number();
                (Task::Make(Spare { number, capacity }), capacity)
            }
            Choice::Discard => {
                let spare = self.pool.pop()?;
                (Task::Discard(spare), spare.capacity)
            }
        };
        self.under_way = Some(capacity);
        Some(task)
    }

    /// Ends the task under way.
    pub(super) fn finish(&mut self, done: Done) {
        self.under_way = None;
        match done {
            Done::Spare(spare) => self.pool.push(spare),
            Done::Armed(armed) => self.armed = Some(armed),
            Done::Gone => {}
        }
    }

    fn choose(&self) -> Option<Choice> {
        if !self.retiring.is_empty() {
            return Some(Choice::Retire);
        }
        let current = &self.current;
        let needed = self.blocked.map_or(0, |len| len + BLOCK);
        if let Some(armed) = &self.armed {
            return (armed.capacity < needed).then_some(Choice::Disarm);
        }
        // Ahead of need, so that going on costs nothing; but not much, so that a quiet node neither
        // writes zeros for nothing nor reads them at its next start.
        let arms = self.blocked.is_some() || current.live.capacity <= 2 * current.used;
        let makes = arms || current.live.capacity <= 4 * current.used;
        let fitting = self.pool.iter().position(|spare| needed <= spare.capacity);
        if let Some(index) = fitting {
            return arms.then_some(Choice::Arm(index));
        }
        if !makes {
            return None;
        }
        let usual = self.file_bytes.min(GROWTH.saturating_mul(current.live.capacity));
        let capacity = usual.max(needed);
        if self.total() + capacity <= self.bytes_max {
            Some(Choice::Make(capacity))
        } else {
            (!self.pool.is_empty()).then_some(Choice::Discard)
        }
    }

    /// In the os lane nothing else makes the next file's first records durable.
    fn successor(&self) -> Option<Arc<dyn File>> {
        let oldest = self.older.front().unwrap_or(&self.current.live);
        oldest.file.clone().filter(|_| self.lane == Durability::Os)
    }

    fn header(&mut self, capacity: u64) -> FileHeader {
        FileHeader {
            lane: self.lane,
            incarnation: self.take_number(),
            salt: self.rng.random(),
            capacity,
            start: Start::Continues,
            node: self.node,
        }
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}

enum Choice {
    Retire,
    /// The file that was armed is too small for the record that comes next.
    Disarm,
    Arm(usize),
    Make(u64),
    Discard,
}
