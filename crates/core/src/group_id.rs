//! Pure: ids of consumer groups, checked once.

use std::fmt;
use std::sync::Arc;

/// The longest group id, in bytes: far above any real one, far below what could hurt.
const LENGTH_MAX: usize = 1024;

/// A valid group id: not empty, at most 1024 bytes, no control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Arc<str>);

impl GroupId {
    /// Checks `id`.
    ///
    /// # Errors
    /// If it is empty, longer than 1024 bytes, or holds a control character.
    pub fn new(id: &str) -> Result<Self, InvalidGroupId> {
        if id.is_empty() {
            return Err(InvalidGroupId("it is empty"));
        }
        if LENGTH_MAX < id.len() {
            return Err(InvalidGroupId("it is longer than 1024 bytes"));
        }
        if id.chars().any(char::is_control) {
            return Err(InvalidGroupId("it holds a control character"));
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Why a text is not a group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group id is invalid: {0}")]
pub struct InvalidGroupId(&'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_endless_and_unprintable_ids_are_refused() {
        assert!(GroupId::new("workers / eu-1 ü").is_ok());
        assert!(GroupId::new(&"x".repeat(1024)).is_ok());
        for id in ["", "a\nb", "\0"] {
            assert!(GroupId::new(id).is_err(), "{id:?}");
        }
        assert!(GroupId::new(&"x".repeat(1025)).is_err());
    }
}
