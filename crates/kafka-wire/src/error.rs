//! Pure: what is wrong with bytes that are no message, and with messages that no bytes can say.

use std::fmt;

use crate::ApiKey;

/// The bytes are not the message that they should be. Nothing was kept of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (in {field}, at byte {at} of the frame)")]
pub struct DecodeError {
    /// The field, with the fields that enclose it: `topics.partitions.index`.
    pub field: &'static str,
    /// Where in the frame, its length not counted.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The frame, or the tagged field, ends before the field does.
    Truncated {
        /// The bytes that the field needs.
        needed: usize,
        /// The bytes that there are.
        left: usize,
    },
    /// More elements, or tagged fields, than the bytes that are left can hold.
    Count {
        /// The count that is stated.
        count: usize,
        /// The bytes that there are.
        left: usize,
    },
    /// Elements that take more memory than a frame of this size may ask for.
    Memory {
        /// The count that is stated.
        count: usize,
    },
    /// A length or count below zero that does not stand for null.
    Negative(i32),
    /// A length whose continuation does not end within 32 bits.
    Endless,
    /// Null where it is not allowed.
    Null,
    /// A text that is not UTF-8.
    NotUtf8,
    /// Bytes behind the end of the message or of a tagged field.
    Trailing(usize),
    /// A version of the message that this crate does not know.
    UnknownVersion(i16),
    /// The key of an API that this crate does not know.
    UnknownKey(i16),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, left } => {
                write!(f, "{needed} bytes are needed, {left} are left")
            }
            Self::Count { count, left } => {
                write!(f, "{count} elements do not fit into the {left} bytes that are left")
            }
            Self::Memory { count } => {
                write!(f, "{count} elements take more memory than the frame may ask for")
            }
            Self::Negative(value) => write!(f, "{value} is no length or count"),
            Self::Endless => write!(f, "the variable length is longer than 32 bits"),
            Self::Null => write!(f, "null is not allowed"),
            Self::NotUtf8 => write!(f, "the text is not UTF-8"),
            Self::Trailing(count) => write!(f, "{count} bytes follow the end"),
            Self::UnknownVersion(version) => write!(f, "version {version} is not known"),
            Self::UnknownKey(code) => write!(f, "API key {code} is not known"),
        }
    }
}

/// The message cannot be said in the version. What was written of it is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The version is not one that this crate knows.
    #[error("{} has no version {version} here", key.name())]
    UnknownVersion {
        /// The API.
        key: ApiKey,
        /// The version that was asked for.
        version: i16,
    },
    /// The version does not have a field that holds something which may not be left out.
    #[error("version {version} has no {field}, which holds something")]
    Absent {
        /// The field, with the fields that enclose it.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A field is null that may not be so in the version.
    #[error("{field} may not be null in version {version}")]
    Null {
        /// The field, with the fields that enclose it.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A field is longer than its length can say.
    #[error("{field} is too long: {len}")]
    TooLong {
        /// The field, with the fields that enclose it.
        field: &'static str,
        /// Its length or count.
        len: usize,
    },
}
