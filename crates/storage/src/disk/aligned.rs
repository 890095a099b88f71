//! Memory whose address suits direct writes.

use super::BLOCK;

/// A buffer that begins at a multiple of [`BLOCK`] in memory.
#[derive(Debug)]
pub struct AlignedBuffer {
    /// Never grows: that could move it.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// A zeroed buffer of `len` bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![0; len + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        // `align_offset` may give up, in theory; a file without direct writes still takes this.
        let start = if start <= BLOCK { start } else { 0 };
        Self { memory, start, len }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The bytes, to be written to.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
