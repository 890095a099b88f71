//! Reads what earlier processes left in a lane, and starts the journal behind it.
//!
//! The files of one process join without a gap. Its records count up to the first hole; a hole that
//! a later record says was durable is no hole but damage. What counts is settled by the header of the
//! file that the next process begins with: it says where the cut was.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use rafka_core::rng::RngExt as _;

use super::files::{Files, Name, Spare};
use super::format::{self, BLOCK, FileHeader, Start};
use super::machine::Machine;
use super::reader::{Reader, corrupt};
use super::shared::Journal;
use super::space::{Armed, Inventory, Live, Space, first_capacity};
use super::{Entry, Mutant, Sequence, Settings, Sink, Surroundings};
use crate::disk::{self, Disk};
use crate::{Durability, Error};

/// What takes the entries of a replay, in sequence.
pub(super) type Replay<'a> = dyn FnMut(Sequence, Entry) -> Result<(), Error> + 'a;

/// What was found in a lane.
#[derive(Debug)]
pub struct Recovery {
    files: Files,
    older: VecDeque<Live>,
    pool: Vec<Spare>,
    next_number: u64,
    /// The first sequence that does not count.
    cut: Sequence,
}

impl Recovery {
    /// Replays the records of a lane in `<dir>/journal`, which is created if it is missing. When this
    /// returns, everything replayed is durable, whatever the state of the page cache was.
    ///
    /// # Errors
    /// If the files cannot be read, are damaged where they were durable, or have an unknown version;
    /// or what `replay` returns. Some entries may have been replayed by then. No file is changed.
    pub fn scan(
        disk: Arc<dyn Disk>,
        dir: &Path,
        lane: Durability,
        settings: Settings,
        replay: &mut Replay<'_>,
    ) -> Result<Self, Error> {
        let directory = dir.join("journal");
        disk.create_dir_all(&directory).map_err(disk::failed("create", &directory))?;
        disk.sync_dir(dir).map_err(disk::failed("sync", dir))?;
        let files = Files { disk, directory, lane, settings };
        files.sync_directory()?;
        let mut spares = Vec::new();
        for name in files.list()? {
            if let Name::Spare(number) = name {
                spares.push(Spare { number, capacity: files.measure(number)? });
            }
        }
        let survey = Survey::of(&files, replay)?;
        survey.sync(&files)?;
        let numbers = spares.iter().map(|spare| spare.number);
        let next_number = numbers.chain(survey.live.iter().map(|live| live.number)).max();
        Ok(Self {
            files,
            older: survey.live,
            pool: spares,
            next_number: next_number.unwrap_or(0) + 1,
            cut: survey.cut,
        })
    }

    /// The first sequence that was not replayed: everything below was.
    #[must_use]
    pub fn end(&self) -> Sequence {
        self.cut
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
        let Self { files, older, mut pool, mut next_number, cut } = self;
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
        let inventory = Inventory { older, pool, first, first_sequence, next_number };
        let space = Space::new(files.lane, &files.settings, rng, inventory);
        let machine = Machine::new(files.lane, &files.settings, space, first_sequence);
        Journal::begin(machine, files, clock, sink, driver)
    }
}

/// What the files of a lane hold.
pub(super) struct Survey {
    pub(super) live: VecDeque<Live>,
    pub(super) cut: Sequence,
    /// How many of the last files are of the last process.
    last_process: usize,
}

impl Survey {
    /// Reads all files of a lane. Changes nothing.
    pub(super) fn of(files: &Files, replay: &mut Replay<'_>) -> Result<Self, Error> {
        let mut readers = Vec::new();
        for name in files.list()? {
            if let Name::Wal(number) = name {
                readers.push(open(files, number)?);
            }
        }
        let mut survey = Self { live: VecDeque::new(), cut: Sequence::FIRST, last_process: 0 };
        let mut processes: Vec<Vec<Reader>> = Vec::new();
        for reader in readers {
            match (reader.header().start, processes.last_mut()) {
                (Start::Continues, Some(process)) => process.push(reader),
                (Start::Continues, None) | (Start::Process { .. }, _) => {
                    processes.push(vec![reader]);
                }
            }
        }
        let mut processes = processes.into_iter().peekable();
        while let Some(process) = processes.next() {
            let limit = processes.peek().and_then(|next| cut_of(&next[0]));
            survey.last_process = process.len();
            Walk::new(files, &mut survey, limit, replay).process(process)?;
        }
        Ok(survey)
    }

    /// Makes durable what was read: after a killed process it may be in the page cache alone.
    fn sync(&self, files: &Files) -> Result<(), Error> {
        let earlier = self.live.len() - self.last_process;
        for live in self.live.iter().skip(earlier) {
            let path = files.wal(live.number);
            let file = live.file.as_ref().expect("the survey keeps them open");
            file.sync_data().map_err(disk::failed("sync", &path))?;
        }
        Ok(())
    }
}

fn open(files: &Files, number: u64) -> Result<Reader, Error> {
    let path = files.wal(number);
    let reader = Reader::open(&*files.disk, &path, &files.settings)?;
    let header = reader.header();
    if header.incarnation != number || header.lane != files.lane {
        let what = format!("it was written as file {} of another name", header.incarnation);
        return Err(corrupt(&path, 0, what));
    }
    Ok(reader)
}

fn cut_of(reader: &Reader) -> Option<Sequence> {
    match reader.header().start {
        Start::Process { cut, .. } => Some(cut),
        Start::Continues => None,
    }
}

/// The way through the files of one process.
struct Walk<'a, 'b> {
    strict: bool,
    survey: &'a mut Survey,
    /// Where the next process cut; `None` for the last one.
    limit: Option<Sequence>,
    replay: &'a mut Replay<'b>,
    /// The sequence that comes next; `None` before the first record of a file that does not say.
    expected: Option<Sequence>,
    /// Where the records end: the file, by its index, and the position in it.
    end: (usize, u64),
}

impl<'a, 'b> Walk<'a, 'b> {
    fn new(
        files: &Files,
        survey: &'a mut Survey,
        limit: Option<Sequence>,
        replay: &'a mut Replay<'b>,
    ) -> Self {
        let strict = !files.settings.has(Mutant::OldContentValid);
        Self { strict, survey, limit, replay, expected: None, end: (0, BLOCK) }
    }

    fn process(mut self, mut readers: Vec<Reader>) -> Result<(), Error> {
        if let Start::Process { first, .. } = readers[0].header().start {
            self.expected = Some(first);
        }
        let mut joined = true;
        for (index, reader) in readers.iter_mut().enumerate() {
            let begin = self.expected;
            // A file whose predecessor has a hole holds nothing that counts.
            joined = joined && (index == 0 || self.joins(reader)?);
            if joined {
                self.end = (index, self.file(reader)?);
            }
            let Some(end) = self.expected else {
                return Err(corrupt(reader.path(), BLOCK, "the first record of the lane is missing"));
            };
            let first = begin.unwrap_or_else(|| self.first_of(reader, end));
            self.survey.live.push_back(Live {
                number: reader.header().incarnation,
                capacity: reader.header().capacity,
                first,
                end,
                opened: (first < end || index == 0).then_some(end),
                file: Some(reader.share_file()),
            });
        }
        let end = self.expected.expect("set with the first file");
        self.check_end(&mut readers, end)?;
        self.survey.cut = end;
        Ok(())
    }
}
