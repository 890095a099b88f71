//! One write of the journal: a group of records and the place they go to.

use std::io;
use std::sync::Arc;

use super::format::{self, Seed};
use super::{Entry, Sequence};
use crate::disk::{AlignedBuffer, File};

/// A group of records on its way to a file.
#[derive(Debug)]
pub struct WriteJob {
    pub(super) file: Arc<dyn File>,
    /// The number of the file.
    pub(super) number: u64,
    pub(super) seed: Seed,
    pub(super) position: u64,
    /// Whole blocks.
    pub(super) len: usize,
    /// What the records name as durable.
    pub(super) durable: Sequence,
    pub(super) first: Sequence,
    /// In sequence, from `first` on; `None` is a seal.
    pub(super) records: Vec<Option<Entry>>,
}

impl WriteJob {
    /// The sequences that it holds: from the first to below the second.
    #[must_use]
    pub fn sequences(&self) -> (Sequence, Sequence) {
        (self.first, Sequence(self.first.0 + self.records.len() as u64))
    }

    /// Builds the group in `scratch` and writes it.
    pub(super) fn write(&self, scratch: &mut Scratch) -> io::Result<()> {
        let block = scratch.at_least(self.len);
        let group = &mut block.as_mut_slice()[..self.len];
        let mut end = 0;
        let mut sequence = self.first;
        for entry in &self.records {
            let out = &mut group[end..];
            end += format::put_record(out, self.seed, sequence, self.durable, entry.as_ref());
            sequence = sequence.next();
        }
        group[end..].fill(0);
        self.file.write_at(self.position, group)
    }
}

/// The memory in which a writer builds its groups.
#[derive(Debug)]
pub(super) struct Scratch {
    usual: AlignedBuffer,
    /// For a record that is larger than a usual group; given back with the next usual one.
    large: Option<AlignedBuffer>,
}

impl Scratch {
    pub(super) fn new(usual: usize) -> Self {
        Self { usual: AlignedBuffer::zeroed(usual), large: None }
    }

    fn at_least(&mut self, len: usize) -> &mut AlignedBuffer {
        if len <= self.usual.as_slice().len() {
            self.large = None;
            &mut self.usual
        } else {
            self.large.insert(AlignedBuffer::zeroed(len))
        }
    }
}
