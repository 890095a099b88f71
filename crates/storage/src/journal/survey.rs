//! Reads all files of a lane and decides what counts.
//!
//! The files of one process join without a gap. Its records count up to the first hole; a hole that
//! a later record says was durable is no hole but damage. When another process followed, the header
//! of its first file has settled where the cut was.

use std::collections::VecDeque;
use std::sync::Arc;

use super::files::{Files, Name, Spare};
use super::format::{BLOCK, Start};
use super::reader::{Reader, corrupt};
use super::space::Live;
use super::{Entry, Mutant, Reach, Sequence};
use crate::{Error, disk};

/// What takes the entries of a replay, in sequence.
pub(super) type Replay<'a> = dyn FnMut(Sequence, Entry) -> Result<(), Error> + 'a;

/// What the files of a lane hold.
pub(super) struct Survey {
    pub(super) live: VecDeque<Live>,
    /// Files without records that say nothing about those of others.
    pub(super) loose: Vec<Spare>,
    /// The first record that counts; `None` if there is none.
    pub(super) begin: Option<Sequence>,
    /// The first sequence that does not count.
    pub(super) cut: Sequence,
    /// The first file of the last process.
    last_process: u64,
}

impl Survey {
    /// Reads the files. Changes nothing.
    pub(super) fn of(files: &Files, reach: Reach, replay: &mut Replay<'_>) -> Result<Self, Error> {
        let mut processes: Vec<Vec<Reader>> = Vec::new();
        let mut newest = None;
        for name in files.list()? {
            let Name::Wal(number) = name else { continue };
            let reader = open(files, number)?;
            newest = newest.max(Some(number));
            match (reader.header().start, processes.last_mut()) {
                (Start::Continues, Some(process)) => process.push(reader),
                (Start::Continues, None) | (Start::Process { .. }, _) => {
                    processes.push(vec![reader]);
                }
            }
        }
        let mut survey = Self {
            live: VecDeque::new(),
            loose: Vec::new(),
            begin: None,
            cut: Sequence::FIRST,
            last_process: 0,
        };
        let strict = !files.settings.has(Mutant::OldContentValid);
        let mut processes = processes.into_iter().peekable();
        while let Some(readers) = processes.next() {
            let limit = processes.peek().and_then(|next| match next[0].header().start {
                Start::Process { cut, .. } => Some(cut),
                Start::Continues => None,
            });
            survey.last_process = readers[0].header().incarnation;
            let process = Process { strict, reach, limit, expected: None, end: (0, BLOCK) };
            survey.cut = process.walk(readers, &mut survey, replay)?;
        }
        if let Some(newest) = newest {
            let path = files.any_wal();
            reach.check_begin(survey.begin.unwrap_or(survey.cut), &path)?;
            reach.check_end(survey.cut, newest, &path)?;
        }
        Ok(survey)
    }

    /// Makes durable what was read: after a process was killed, it may be in the page cache alone.
    /// What earlier processes left was made durable by the last one.
    pub(super) fn sync(&self, files: &Files) -> Result<(), Error> {
        for live in self.live.iter().filter(|live| self.last_process <= live.number) {
            if let Some(file) = &live.file {
                let path = files.wal(live.number);
                file.sync_data().map_err(disk::failed("sync", &path))?;
            }
        }
        Ok(())
    }

    fn note(&mut self, reader: &Reader, first: Sequence, end: Sequence) {
        let header = reader.header();
        let (number, capacity) = (header.incarnation, header.capacity);
        let says_where_it_begins = match header.start {
            Start::Process { cut, first } => cut != first,
            Start::Continues => false,
        };
        if first == end && !says_where_it_begins {
            self.loose.push(Spare { number, capacity });
        } else {
            let opened = Some(Sequence::default());
            let file = Some(Arc::clone(reader.file()));
            self.live.push_back(Live { number, capacity, first, end, opened, file });
        }
    }
}

fn open(files: &Files, number: u64) -> Result<Reader, Error> {
    let path = files.wal(number);
    let reader = Reader::open(&*files.disk, &path, &files.settings)?;
    let header = reader.header();
    if header.incarnation != number || header.lane != files.lane {
        let what = format!("it is file {} by its header, of another name", header.incarnation);
        return Err(corrupt(&path, 0, what));
    }
    if files.owner.is_some_and(|owner| owner != header.node) {
        return Err(Error::Foreign { path, node: header.node });
    }
    Ok(reader)
}

/// The way through the files of one process.
struct Process {
    /// Whether sequences are looked at, as they must be.
    strict: bool,
    reach: Reach,
    /// Where the next process cut; `None` for the last one.
    limit: Option<Sequence>,
    /// The sequence that comes next; `None` before the first record of a file that does not say.
    expected: Option<Sequence>,
    /// Where what counts ends: in which file, by its index, and where in it.
    end: (usize, u64),
}

impl Process {
    /// Replays what counts and returns the sequence after it.
    fn walk(
        mut self,
        mut readers: Vec<Reader>,
        survey: &mut Survey,
        replay: &mut Replay<'_>,
    ) -> Result<Sequence, Error> {
        if let Start::Process { first, .. } = readers[0].header().start {
            self.expected = Some(first);
        }
        for (index, reader) in readers.iter_mut().enumerate() {
            let (first, end) = self.file(index, reader, (survey, replay))?;
            survey.note(reader, first, end);
        }
        let path_end = readers[self.end.0].path().to_owned();
        let Some(end) = self.expected else {
            return Err(corrupt(&path_end, BLOCK, "the first record of the lane is missing"));
        };
        match self.limit {
            Some(limit) if end < limit => {
                let what = format!("record {end} is missing, which was there at an earlier start");
                Err(corrupt(&path_end, self.end.1, what))
            }
            Some(_) => Ok(end),
            None => {
                self.check_hole(&mut readers, end)?;
                tracing::info!(
                    file = %path_end.display(),
                    byte = self.end.1,
                    next = %end,
                    "the journal ends here: nothing behind it was durable"
                );
                Ok(end)
            }
        }
    }

    /// Replays what counts of one file. Its first record only counts if it is the one that comes
    /// next, so that nothing counts behind a hole.
    fn file(
        &mut self,
        index: usize,
        reader: &mut Reader,
        (survey, replay): (&mut Survey, &mut Replay<'_>),
    ) -> Result<(Sequence, Sequence), Error> {
        let mut first = self.expected;
        let path = reader.path().to_owned();
        let mut position = BLOCK;
        while let Some(record) = reader.next_record(position)? {
            let sequence = record.header.sequence;
            let expected = *self.expected.get_or_insert(sequence);
            let counts = sequence == expected && Some(sequence) != self.limit;
            if self.strict && !counts {
                break;
            }
            first.get_or_insert(sequence);
            if survey.begin.is_none() {
                self.reach.check_begin(sequence, &path)?;
                survey.begin = Some(sequence);
            }
            if let Some(entry) = record.entry()? {
                self.reach.check_log(sequence, record.header.log, &path)?;
                replay(sequence, entry)?;
            }
            self.expected = Some(sequence.next());
            position = record.next;
            self.end = (index, position);
        }
        let end = self.expected.unwrap_or_default();
        Ok((first.unwrap_or(end), end))
    }

    /// Makes sure that the record that is missing was never durable.
    fn check_hole(&self, readers: &mut [Reader], missing: Sequence) -> Result<(), Error> {
        let (index, position) = self.end;
        let path = readers[index].path().to_owned();
        for (ahead, reader) in readers[index..].iter_mut().enumerate() {
            let from = if ahead == 0 { position } else { BLOCK };
            if let Some((at, witness)) = reader.find_witness(from, missing)? {
                let what = format!(
                    "record {missing} is missing, which was durable: record {} at byte {at} of {} \
                     says so for everything below {}",
                    witness.sequence,
                    reader.path().display(),
                    witness.durable,
                );
                return Err(corrupt(&path, position, what));
            }
        }
        Ok(())
    }
}
