//! Pure: record batches on their way through, unread and uncopied.

use bytes::{Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

/// Record batches, in pieces that follow each other.
///
/// As read from a frame they are one piece: a slice of that frame, which keeps all of it in
/// memory. To be written they may be many, as a log hands them out. Two are equal if they hold the
/// same bytes, however cut.
#[derive(Debug, Clone, Default)]
pub struct Records {
    pieces: SmallVec<[Bytes; 1]>,
}

impl Records {
    /// The pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether there is not a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    /// All bytes in one piece. Copies only if there are several.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.pieces.len() <= 1 {
            return self.pieces.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.len());
        for piece in &self.pieces {
            joined.extend_from_slice(piece);
        }
        joined.freeze()
    }
}

impl From<Bytes> for Records {
    fn from(piece: Bytes) -> Self {
        Self { pieces: smallvec![piece] }
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        Self { pieces: pieces.into_iter().collect() }
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |records: &'_ Self| -> Bytes { records.clone().into_bytes() };
        self.len() == other.len() && bytes(self) == bytes(other)
    }
}

impl Eq for Records {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_same_records_however_they_are_cut() {
        let whole = Records::from(Bytes::from_static(b"abcd"));
        let cut: Records = [&b"ab"[..], b"", b"cd"].map(Bytes::from_static).into_iter().collect();
        assert_eq!(whole, cut);
        assert_eq!((cut.len(), cut.is_empty()), (4, false));
        assert_ne!(whole, Records::from(Bytes::from_static(b"abcx")));
        assert!(Records::default().is_empty());
    }

    #[test]
    fn one_piece_is_handed_on_and_several_are_joined() {
        let piece = Bytes::from(vec![7; 100]);
        assert_eq!(Records::from(piece.clone()).into_bytes().as_ptr(), piece.as_ptr());
        let twice: Records = [piece.clone(), piece].into_iter().collect();
        assert_eq!(twice.into_bytes(), Bytes::from(vec![7; 200]));
    }
}
