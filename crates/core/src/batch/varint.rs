//! Pure: zigzag varints, as records use them.
#![deny(clippy::indexing_slicing)]

use bytes::{BufMut, BytesMut};

/// A 64-bit varint has at most ten bytes.
const LEN_MAX: u32 = 10;

/// Takes an unsigned varint off the front. `None` if the bytes end first or it has over 64 bits.
#[inline]
fn take_unsigned(bytes: &mut &[u8]) -> Option<u64> {
    // Nearly all have one byte: the deltas, lengths and counts of small records.
    if let [byte @ ..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return Some(u64::from(*byte));
    }
    take_long(bytes)
}

fn take_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for index in 0..LEN_MAX {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if index == LEN_MAX - 1 && 1 < bits {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes a zigzag varint of up to 64 bits off the front.
#[inline]
pub(super) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let zigzag = take_unsigned(bytes)?;
    Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
}

/// Takes a zigzag varint of up to 32 bits off the front.
#[inline]
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    i32::try_from(take_i64(bytes)?).ok()
}

/// Appends a zigzag varint.
pub(super) fn put_i64(out: &mut BytesMut, value: i64) {
    let mut zigzag = (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned();
    loop {
        let low = u8::try_from(zigzag & 0x7f).expect("seven bits fit a byte");
        zigzag >>= 7;
        if zigzag == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// The bytes that [`put_i64`] takes for `value`.
pub(super) fn len(value: i64) -> usize {
    let zigzag = (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned();
    let bits = (u64::BITS - zigzag.leading_zeros()).max(1);
    usize::try_from(bits.div_ceil(7)).expect("at most ten")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_survives_a_round_trip() {
        let edges = (0..63).flat_map(|bit| [1_i64 << bit, -(1 << bit), (1 << bit) - 1]);
        for value in edges.chain([i64::MIN, i64::MAX]) {
            let mut out = BytesMut::new();
            put_i64(&mut out, value);
            assert_eq!(out.len(), len(value), "{value}");
            assert_eq!(take_i64(&mut &out[..]), Some(value));
        }
    }

    #[test]
    fn endless_and_cut_varints_are_refused() {
        for bytes in [&[0x80; 11][..], &[0xff; 10], &[0x80], &[]] {
            assert_eq!(take_i64(&mut &*bytes), None, "{bytes:?}");
        }
        let mut wide = BytesMut::new();
        put_i64(&mut wide, i64::from(i32::MAX) + 1);
        assert_eq!(take_i32(&mut &wide[..]), None);
    }
}
