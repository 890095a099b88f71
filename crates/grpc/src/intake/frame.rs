//! Pure: finds where gRPC messages begin in the frames of a body.

use tonic::Status;

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

/// Follows the messages of one body.
#[derive(Debug)]
pub(super) struct Splitter {
    message_max: usize,
    /// The part of a prefix that has come.
    prefix: [u8; PREFIX_LEN],
    prefix_len: usize,
    /// What is still to come of the present message.
    left: usize,
}

impl Splitter {
    pub(super) fn new(message_max: usize) -> Self {
        Self { message_max, prefix: [0; PREFIX_LEN], prefix_len: 0, left: 0 }
    }

    /// Whether a message or its prefix has begun and not ended.
    pub(super) fn is_inside_message(&self) -> bool {
        0 < self.left || 0 < self.prefix_len
    }

    /// Takes the next bytes of the body; the sizes, with prefix, of messages whose length is known
    /// now.
    pub(super) fn begun_in(&mut self, mut data: &[u8]) -> Result<Vec<usize>, TooLarge> {
        let mut begun = Vec::new();
        while !data.is_empty() {
            if 0 < self.left {
                let (_, rest) = data.split_at(self.left.min(data.len()));
                self.left -= data.len() - rest.len();
                data = rest;
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
                begun.push(PREFIX_LEN + found);
            }
        }
        Ok(begun)
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
                found.extend(splitter.begun_in(frame).expect("all are small enough"));
            }
            assert_eq!(found, [8, 5, 15, 6], "frames of {frame_len}");
            assert!(!splitter.is_inside_message(), "frames of {frame_len}");
        }
    }

    #[test]
    fn a_message_is_known_as_soon_as_its_length_is() {
        let mut splitter = Splitter::new(10);
        let body = message(10);
        assert_eq!(splitter.begun_in(&body[..4]), Ok(vec![]));
        assert!(splitter.is_inside_message());
        assert_eq!(splitter.begun_in(&body[4..5]), Ok(vec![15]));
        assert!(splitter.is_inside_message());
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_anything_follows() {
        let check = |prefix: [u8; 5], found| {
            assert_eq!(Splitter::new(10).begun_in(&prefix), Err(TooLarge { found, max: 10 }));
        };
        check([0, 0, 0, 0, 11], 11);
        check([0, 0x7f, 0xff, 0xff, 0xff], 0x7fff_ffff);
        check([1, 0xff, 0xff, 0xff, 0xff], 0xffff_ffff);
    }
}
