//! Segments: the files that hold the flushed part of a log, each with its sparse index.
//!
//! `docs/formats/segment.md` draws the bytes. What a segment holds, and how far, is said by the
//! manifest alone: bytes beyond [`Segment::file_len`] do not count and are cut off before the next
//! append. A file's name is made of base offset and generation, and no log uses a name twice.

pub(crate) mod format;
pub(crate) mod index;
mod reader;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod truncate;
pub(crate) mod walk;
mod writer;

use rafka_core::{Offset, Timestamp};

pub(crate) use reader::{INFLATE_MAX, Wanted};
pub(crate) use store::Store;
pub(crate) use writer::Writer;

/// What the manifest says of one segment: a value, good for as long as the manifest holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// No batch in it begins below this. Names the file, together with the generation.
    pub(crate) base: Offset,
    /// Which of the log's rewritings made it. See [`crate::manifest::Checkpoint::generation`].
    pub(crate) generation: u32,
    /// Every batch in it ends at or below this.
    pub(crate) end: Offset,
    /// How many bytes of the file count, its header included.
    pub(crate) file_len: u64,
    /// How many bytes the batches take, as they would be read.
    pub(crate) batch_bytes: u64,
    /// How many entries of the index count. The index file begins to exist with the first.
    pub(crate) index_entries: u32,
    /// The largest timestamp of its records.
    pub(crate) max_timestamp: Timestamp,
    /// When its first batch was appended, by the node's own clock.
    pub(crate) first_append: Timestamp,
    /// When its last batch was appended, by the node's own clock.
    pub(crate) last_append: Timestamp,
}

impl Segment {
    /// The newest thing about it: retention waits for both, so that a jumping clock, or producers
    /// who invent timestamps, delete nothing early.
    pub(crate) fn newest(&self) -> Timestamp {
        self.max_timestamp.max(self.last_append)
    }
}
