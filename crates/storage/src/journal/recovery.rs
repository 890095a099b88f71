//! Takes up a lane where earlier processes left it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use rafka_core::rng::RngExt as _;
use uuid::Uuid;

use super::files::{DIRECTORY, Files, Name, Spare};
use super::format::{self, FileHeader, Start};
use super::machine::Machine;
use super::shared::Journal;
use super::space::{Armed, Inventory, Live, Space, first_capacity};
use super::survey::{Replay, Survey};
use super::{Mutant, Sequence, Settings, Sink, Surroundings};
use crate::disk::{self, Disk};
use crate::{Durability, Error, LogId};

/// A data directory, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct DataDir<'a> {
    /// The directory.
    pub path: &'a Path,
    /// The identity that its files carry.
    pub node: Uuid,
}

/// What is known elsewhere of the records of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Records below this may be gone, all others are to be there.
    pub released: Sequence,
    /// Whether the lane is needed at all. If not, it may end anywhere.
    pub in_use: bool,
    /// Records below this were there.
    pub durable: Sequence,
    /// The number of a file that was there. At least one that is as new is to be there.
    pub file: u64,
    /// Logs from this id on were never made.
    pub log_next: LogId,
}

impl Reach {
    /// Nothing is known: whatever is found will do.
    pub const UNKNOWN: Self = Self {
        released: Sequence(u64::MAX),
        in_use: false,
        durable: Sequence(0),
        file: 0,
        log_next: LogId(u64::MAX),
    };

    /// That what is found begins early enough.
    pub(super) fn check_begin(self, begin: Sequence, path: &Path) -> Result<(), Error> {
        if begin <= self.released.max(Sequence::FIRST) {
            return Ok(());
        }
        let what =
            format!("record {begin} is the first, and those from {} on are needed", self.released);
        Err(Error::Mismatched { path: path.to_owned(), what })
    }

    /// That a record can be of this log.
    pub(super) fn check_log(
        self,
        sequence: Sequence,
        log: LogId,
        path: &Path,
    ) -> Result<(), Error> {
        if log < self.log_next {
            return Ok(());
        }
        let what = format!("record {sequence} is of log {log}, which was never made");
        Err(Error::Mismatched { path: path.to_owned(), what })
    }

    /// That what is found ends late enough.
    pub(super) fn check_end(self, end: Sequence, file: u64, path: &Path) -> Result<(), Error> {
        let what = if !self.in_use {
            return Ok(());
        } else if file < self.file {
            format!("file {file} is the newest, and {} or a later one is needed", self.file)
        } else if end < self.durable {
            format!("it ends before record {end}, and those below {} were there", self.durable)
        } else {
            return Ok(());
        };
        Err(Error::Mismatched { path: path.to_owned(), what })
    }
}

/// What was found in a lane.
#[derive(Debug)]
pub struct Recovery {
    files: Files,
    node: Uuid,
    older: VecDeque<Live>,
    loose: Vec<Spare>,
    pool: Vec<Spare>,
    next_number: u64,
    begin: Option<Sequence>,
    /// The first sequence that does not count.
    cut: Sequence,
}

impl Recovery {
    /// Replays the records of a lane in the directory's `journal`, which is created if it is missing. When this
    /// returns, everything replayed is durable, whatever the state of the page cache was.
    ///
    /// # Errors
    /// If the files cannot be read, are damaged where they were durable, have an unknown version, are
    /// another node's, or do not reach as far as `reach` says; or what `replay` returns. Some entries
    /// may have been replayed by then, but none of files that begin too late. No file is changed.
    pub fn scan(
        disk: Arc<dyn Disk>,
        DataDir { path: dir, node }: DataDir<'_>,
        (lane, reach): (Durability, Reach),
        settings: Settings,
        replay: &mut Replay<'_>,
    ) -> Result<Self, Error> {
        let directory = dir.join(DIRECTORY);
        disk.create_dir_all(&directory).map_err(disk::failed("create", &directory))?;
        disk.sync_dir(dir).map_err(disk::failed("sync", dir))?;
        let files = Files { disk, directory, lane, settings, owner: Some(node) };
        files.sync_directory()?;
        let mut spares = Vec::new();
        for name in files.list()? {
            if let Name::Spare(number) = name {
                spares.push(Spare { number, capacity: files.measure(number)? });
            }
        }
        let survey = Survey::of(&files, reach, replay)?;
        survey.sync(&files)?;
        let idle = spares.iter().chain(&survey.loose).map(|spare| spare.number);
        let next_number = idle.chain(survey.live.iter().map(|live| live.number)).max();
        Ok(Self {
            files,
            node,
            older: survey.live,
            loose: survey.loose,
            pool: spares,
            next_number: next_number.unwrap_or(0).max(reach.file) + 1,
            begin: survey.begin,
            cut: survey.cut,
        })
    }

    /// The first sequence that was not replayed: everything below was.
    #[must_use]
    pub fn end(&self) -> Sequence {
        self.cut
    }

    /// Whether the lane has no file at all: it was never used, or what was in it is lost.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.older.is_empty() && self.loose.is_empty()
    }

    /// The first record that was replayed; `None` if there was none.
    #[must_use]
    pub fn begin(&self) -> Option<Sequence> {
        self.begin
    }

    /// Starts the journal with a new file, which is durable when this returns.
    ///
    /// `covered_below` is the lowest sequence that may be given out: one above every sequence that a
    /// checkpoint says it covers. In the os lane, a power cut may have taken records that a
    /// checkpoint covers.
    ///
    /// # Errors
    /// If the file cannot be written, or a thread not be started. Another start may follow.
    pub fn start(
        self,
        covered_below: Sequence,
        sink: Arc<dyn Sink>,
        surroundings: Surroundings,
    ) -> Result<Journal, Error> {
        let Self { files, node, older, loose, mut pool, mut next_number, cut, .. } = self;
        let Surroundings { clock, mut rng, driver } = surroundings;
        let usual = files.settings.file_bytes.0;
        let unusable = pool.extract_if(.., |spare| spare.capacity != usual);
        for spare in unusable {
            files.discard(spare.number)?;
        }
        let spare = match pool.pop() {
            Some(spare) => spare,
            None => {
                next_number += 1;
                files.make(next_number - 1, first_capacity(&files.settings))?
            }
        };
        let first_sequence = cut.max(covered_below);
        let header = FileHeader {
            lane: files.lane,
            incarnation: next_number,
            salt: rng.random(),
            capacity: spare.capacity,
            start: Start::Process { cut, first: first_sequence },
            node,
        };
        next_number += 1;
        let file = files.arm(spare, &header)?;
        let mutated = files.settings.has(Mutant::OldContentValid);
        let first = Armed {
            number: header.incarnation,
            capacity: header.capacity,
            file,
            seed: if mutated { format::Seed::NONE } else { header.seed() },
        };
        let inventory = Inventory { node, older, loose, pool, first, first_sequence, next_number };
        let space = Space::new(files.lane, &files.settings, rng, inventory);
        let machine = Machine::new(files.lane, &files.settings, space, first_sequence);
        Journal::begin(machine, files, clock, sink, driver)
    }
}
