//! Pure: the codecs of record batches, inflating never beyond a limit.

use std::io::{self, Read, Write as _};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::ByteSize;

/// The codec of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, in the framing of snappy-java; raw blocks are read too.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

/// Records could not be compressed or inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They inflate to more than is allowed.
    #[error("the records inflate to more than {0}")]
    TooLarge(ByteSize),
    /// The compressed bytes are malformed.
    #[error("the {codec} data is malformed: {reason}")]
    Malformed {
        /// The codec's name.
        codec: &'static str,
        /// What the codec said.
        reason: String,
    },
}

/// Opens a stream of snappy-java: magic, version 1, compatible with version 1.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// What snappy-java puts into one block.
const XERIAL_BLOCK_LEN: usize = 32 * 1024;

impl Compression {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in a batch's attributes.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec with this number.
    #[must_use]
    pub fn from_id(id: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.id() == id)
    }

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses `bytes`.
    ///
    /// # Errors
    /// If the codec fails, which it does not for bytes in memory.
    pub fn compress(self, bytes: Bytes) -> Result<Bytes, Error> {
        let compressed = match self {
            Self::None => return Ok(bytes),
            Self::Gzip => gzip(&bytes),
            Self::Snappy => snappy(&bytes),
            Self::Lz4 => lz4(&bytes),
            Self::Zstd => zstd::bulk::compress(&bytes, zstd::DEFAULT_COMPRESSION_LEVEL),
        };
        compressed.map(Bytes::from).map_err(|cause| self.malformed(&cause))
    }

    /// Inflates `bytes` to at most `limit`.
    ///
    /// # Errors
    /// If they are malformed or would take more; no more than `limit` was allocated by then.
    pub fn inflate(self, bytes: Bytes, limit: ByteSize) -> Result<Bytes, Error> {
        let inflated = match self {
            Self::None if limit.as_usize() < bytes.len() => None,
            Self::None => return Ok(bytes),
            Self::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(bytes.as_ref()), limit)
                .map_err(|cause| self.malformed(&cause))?,
            Self::Snappy => {
                unsnappy(bytes.as_ref(), limit).map_err(|cause| self.malformed(&cause))?
            }
            Self::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(bytes.as_ref()), limit)
                .map_err(|cause| self.malformed(&cause))?,
            Self::Zstd => unzstd(bytes.as_ref(), limit).map_err(|cause| self.malformed(&cause))?,
        };
        inflated.ok_or(Error::TooLarge(limit))
    }

    fn malformed(self, cause: &io::Error) -> Error {
        Error::Malformed { codec: self.name(), reason: cause.to_string() }
    }
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn lz4(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes)?;
    encoder.finish().map_err(io::Error::other)
}

fn snappy(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut out = BytesMut::from(XERIAL_HEADER.as_slice());
    for block in bytes.chunks(XERIAL_BLOCK_LEN) {
        let compressed = encoder.compress_vec(block).map_err(io::Error::other)?;
        out.put_u32(u32::try_from(compressed.len()).expect("a block of 32 KiB stays small"));
        out.put_slice(&compressed);
    }
    Ok(out.into())
}

/// Reads to the end; `None` if that is more than `limit`.
fn read_bounded(reader: impl Read, limit: ByteSize) -> io::Result<Option<Bytes>> {
    let mut out = Vec::new();
    let read = reader.take(limit.0.saturating_add(1)).read_to_end(&mut out)?;
    Ok((read <= limit.as_usize()).then(|| Bytes::from(out)))
}

fn unzstd(bytes: &[u8], limit: ByteSize) -> io::Result<Option<Bytes>> {
    // The window is allocated before the first byte comes out: 8 MiB is what level 19 needs.
    const WINDOW_LOG_MAX: u32 = 23;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    read_bounded(decoder, limit)
}

fn unsnappy(bytes: &[u8], limit: ByteSize) -> io::Result<Option<Bytes>> {
    let mut out = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(XERIAL_HEADER.as_slice()) else {
        let fits = unsnappy_block(bytes, &mut out, limit)?;
        return Ok(fits.then(|| Bytes::from(out)));
    };
    while !rest.is_empty() {
        let cut = || io::Error::other("a block is cut off");
        let length = rest.try_get_u32().map_err(|_short| cut())?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let (block, after) = rest.split_at_checked(length).ok_or_else(cut)?;
        if !unsnappy_block(block, &mut out, limit)? {
            return Ok(None);
        }
        rest = after;
    }
    Ok(Some(Bytes::from(out)))
}

/// Inflates one block behind what `out` holds; false if that would go beyond `limit`.
fn unsnappy_block(block: &[u8], out: &mut Vec<u8>, limit: ByteSize) -> io::Result<bool> {
    let start = out.len();
    let end = start.saturating_add(snap::raw::decompress_len(block)?);
    if limit.as_usize() < end {
        return Ok(false);
    }
    out.resize(end, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: ByteSize = ByteSize::mib(1);

    #[test]
    fn every_codec_gives_back_what_it_took() {
        let text = Bytes::from("all work and no play ".repeat(5000));
        for codec in Compression::ALL {
            for bytes in [Bytes::new(), Bytes::from_static(b"x"), text.clone()] {
                let compressed = codec.compress(bytes.clone()).expect("memory does not fail");
                assert_eq!(codec.inflate(compressed, LIMIT), Ok(bytes), "{codec:?}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = Bytes::from(vec![0; 64 << 20]);
        for codec in Compression::ALL {
            let bomb = codec.compress(zeros.clone()).expect("memory does not fail");
            assert_eq!(codec.inflate(bomb, LIMIT), Err(Error::TooLarge(LIMIT)), "{codec:?}");
        }
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let raw = snap::raw::Encoder::new().compress_vec(b"hello hello").expect("it compresses");
        let inflated = Compression::Snappy.inflate(raw.into(), LIMIT);
        assert_eq!(inflated, Ok(Bytes::from_static(b"hello hello")));
    }

    #[test]
    fn malformed_data_is_an_error_that_names_the_codec() {
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let error = codec.inflate(Bytes::from_static(&[0xff; 64]), LIMIT);
            assert!(
                matches!(&error, Err(Error::Malformed { codec: name, .. }) if *name == codec.name()),
                "{codec:?}: {error:?}"
            );
        }
    }
}
