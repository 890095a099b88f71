//! Pure: a finished frame as pieces for a vectored write.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A frame with its length in front, ready to be sent.
///
/// It is a [`Buf`]: `write_all_buf` of a socket that can write vectored sends many pieces at once.
#[derive(Debug, Clone)]
pub struct Frame {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Frame {
    pub(crate) fn new(pieces: VecDeque<Bytes>) -> Self {
        let left = pieces.iter().map(Bytes::len).sum();
        Self { pieces, left }
    }

    /// The pieces that are not sent yet, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let count = slices.len().min(self.pieces.len());
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.left, "{count} bytes of a frame were sent, {} were left", self.left);
        self.left -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame::new([&b"abc"[..], b"d", b"ef"].map(Bytes::from_static).into())
    }

    #[test]
    fn a_write_may_stop_anywhere() {
        for first in 0..=6 {
            for second in 0..=6 - first {
                let mut frame = frame();
                frame.advance(first);
                frame.advance(second);
                assert_eq!(frame.remaining(), 6 - first - second);
                let rest = &b"abcdef"[first + second..];
                assert_eq!(frame.copy_to_bytes(frame.remaining()), rest);
            }
        }
    }

    #[test]
    fn a_vectored_write_gets_as_many_pieces_as_it_has_room_for() {
        let check = |room: usize, expected: &[&[u8]]| {
            let frame = frame();
            let mut slices = vec![IoSlice::new(&[]); room];
            let count = frame.chunks_vectored(&mut slices);
            let found: Vec<&[u8]> = slices[..count].iter().map(|slice| &**slice).collect();
            assert_eq!(found, expected);
        };
        check(0, &[]);
        check(2, &[b"abc", b"d"]);
        check(9, &[b"abc", b"d", b"ef"]);
    }
}
