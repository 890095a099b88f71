//! Pure: finds where gRPC messages begin in the frames of a body.

use std::collections::VecDeque;

use bytes::Bytes;
use tonic::Status;

/// A message of this size or more comes in pieces of its own.
const CUT_FROM: usize = 4 << 10;

/// The compression flag and the length, which come before each message.
const PREFIX_LEN: usize = 5;

/// A message announces more than may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message has {found} bytes, {max} are allowed")]
pub(crate) struct TooLarge {
    found: usize,
    max: usize,
}

impl From<TooLarge> for Status {
    fn from(error: TooLarge) -> Self {
        Self::out_of_range(error.to_string())
    }
}

/// What was found in one frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The sizes, with prefix, of messages whose length is known now.
    pub(super) begun: Vec<usize>,
    /// Where the contents of large messages begin and where they end, ascending. The decoder makes
    /// room when it has read a prefix; what has come with it by then would be moved, and what comes
    /// behind the message would make the room grow.
    cuts: Vec<usize>,
}

impl Found {
    /// The pieces in which the frame is to be handed on.
    pub(super) fn pieces(&self, mut data: Bytes) -> VecDeque<Bytes> {
        let mut from = 0;
        let mut pieces = VecDeque::with_capacity(self.cuts.len() + 1);
        for cut in &self.cuts {
            pieces.push_back(data.split_to(cut - from));
            from = *cut;
        }
        if !data.is_empty() {
            pieces.push_back(data);
        }
        pieces
    }
}

/// Follows the messages of one body.
#[derive(Debug)]
pub(super) struct Splitter {
    message_max: usize,
    /// The part of a prefix that has come.
    prefix: [u8; PREFIX_LEN],
    prefix_len: usize,
    /// The size of the present message, its prefix included.
    len: usize,
    /// What is still to come of it.
    left: usize,
    /// Whether the present message comes in pieces of its own.
    is_large: bool,
}

impl Splitter {
    pub(super) fn new(message_max: usize) -> Self {
        Self {
            message_max,
            prefix: [0; PREFIX_LEN],
            prefix_len: 0,
            len: 0,
            left: 0,
            is_large: false,
        }
    }

    /// Whether a message or its prefix has begun and not ended.
    pub(super) fn is_inside_message(&self) -> bool {
        0 < self.left || 0 < self.prefix_len
    }

    /// How many bytes of the present message are still to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// How many bytes of the present message have come, its prefix included.
    pub(super) fn came(&self) -> usize {
        self.len - self.left
    }

    /// Takes the next bytes of the body.
    pub(super) fn take(&mut self, frame: &[u8]) -> Result<Found, TooLarge> {
        let mut data = frame;
        let mut seen = Found::default();
        while !data.is_empty() {
            if 0 < self.left {
                let (_, rest) = data.split_at(self.left.min(data.len()));
                self.left -= data.len() - rest.len();
                data = rest;
                if self.left == 0 && self.is_large {
                    seen.cuts.push(frame.len() - data.len());
                }
                continue;
            }
            let missing = &mut self.prefix[self.prefix_len..];
            let (new, rest) = data.split_at(missing.len().min(data.len()));
            missing[..new.len()].copy_from_slice(new);
            self.prefix_len += new.len();
            data = rest;
            if self.prefix_len == PREFIX_LEN {
                let [_flag, length @ ..] = self.prefix;
                let found = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                let max = self.message_max;
                if max < found {
                    return Err(TooLarge { found, max });
                }
                self.prefix_len = 0;
                self.left = found;
                self.len = PREFIX_LEN + found;
                self.is_large = CUT_FROM <= found;
                if self.is_large {
                    seen.cuts.push(frame.len() - data.len());
                }
                seen.begun.push(PREFIX_LEN + found);
            }
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(len.to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, usize::try_from(len).expect("small")));
        bytes
    }

    #[test]
    fn messages_are_found_wherever_frames_cut_them() {
        let body: Vec<u8> = [3, 0, 10, 1].into_iter().flat_map(message).collect();
        for frame_len in 1..=body.len() {
            let mut splitter = Splitter::new(10);
            let mut found = Vec::new();
            for frame in body.chunks(frame_len) {
                found.extend(splitter.take(frame).expect("all are small enough").begun);
            }
            assert_eq!(found, [8, 5, 15, 6], "frames of {frame_len}");
            assert!(!splitter.is_inside_message(), "frames of {frame_len}");
        }
    }

    #[test]
    fn a_large_message_comes_in_pieces_of_its_own() {
        let large = u32::try_from(CUT_FROM).expect("small");
        let body: Vec<u8> = [3, large, 10, large + 1, 2].into_iter().flat_map(message).collect();
        let begins = [3 + 5 + 5, body.len() - (2 + 5) - (CUT_FROM + 1)];
        let ends = [begins[0] + CUT_FROM, body.len() - (2 + 5)];
        for frame_len in (1..40).chain(CUT_FROM - 20..CUT_FROM + 40).chain([body.len()]) {
            let mut splitter = Splitter::new(usize::MAX);
            let mut cuts = Vec::new();
            let mut read = 0;
            for frame in body.chunks(frame_len) {
                let found = splitter.take(frame).expect("any size is allowed");
                let pieces = found.pieces(Bytes::copy_from_slice(frame));
                assert_eq!(pieces.iter().flatten().copied().collect::<Vec<u8>>(), frame);
                assert!(pieces.iter().all(|piece| !piece.is_empty()), "frames of {frame_len}");
                for piece in pieces {
                    read += piece.len();
                    cuts.push(read);
                }
            }
            for cut in begins.into_iter().chain(ends) {
                assert!(cuts.contains(&cut), "frames of {frame_len}: {cut} is not in {cuts:?}");
            }
        }
    }

    #[test]
    fn a_message_is_known_as_soon_as_its_length_is() {
        let mut splitter = Splitter::new(10);
        let body = message(10);
        assert_eq!(splitter.take(&body[..4]), Ok(Found::default()));
        assert!(splitter.is_inside_message());
        assert_eq!(splitter.take(&body[4..5]).map(|found| found.begun), Ok(vec![15]));
        assert!(splitter.is_inside_message());
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_anything_follows() {
        let check = |prefix: [u8; 5], found| {
            assert_eq!(Splitter::new(10).take(&prefix), Err(TooLarge { found, max: 10 }));
        };
        check([0, 0, 0, 0, 11], 11);
        check([0, 0x7f, 0xff, 0xff, 0xff], 0x7fff_ffff);
        check([1, 0xff, 0xff, 0xff, 0xff], 0xffff_ffff);
    }
}
