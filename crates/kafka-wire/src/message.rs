//! Pure: what all requests and responses have in common.

use std::ops::RangeInclusive;

use crate::{ApiKey, DecodeError, EncodeError, Reader, Writer};

/// A request or a response of an API, in all the versions that this crate knows.
///
/// What a version does not have is read as its default. To write something else than the default
/// there is an error, unless Kafka says that the field may be ignored.
pub trait Message<'a>: Sized + Default {
    /// The API that it belongs to.
    const KEY: ApiKey;

    /// The versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;

    /// Reads the message, which ends where its frame ends.
    ///
    /// Texts borrow from the frame; [`bytes::Bytes`] are slices of it and keep it in memory as a
    /// whole, so that a small one which outlives its request is better copied.
    ///
    /// # Errors
    /// If the version is not one of [`Self::VERSIONS`], or the bytes are not a message of it.
    fn decode(version: i16, input: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Writes the message behind what `out` holds already.
    ///
    /// # Errors
    /// If the version is not one of [`Self::VERSIONS`], or does not have what the message holds.
    /// `out` is then of no further use.
    fn encode(&self, version: i16, out: &mut Writer) -> Result<(), EncodeError>;
}

impl ApiKey {
    /// Whether this version has compact lengths and tagged fields; also if it is too new for us.
    #[must_use]
    pub const fn flexible(self, version: i16) -> bool {
        match self.flexible_from() {
            Some(first) => first <= version,
            None => false,
        }
    }

    /// Whether the header of a response has tagged fields. That of `ApiVersions` never has: it is
    /// read by clients that do not know the broker's versions yet.
    #[must_use]
    pub const fn flexible_response_header(self, version: i16) -> bool {
        !matches!(self, Self::ApiVersions) && self.flexible(version)
    }
}
