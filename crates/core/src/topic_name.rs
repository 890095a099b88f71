//! Pure: topic names, checked once.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest topic name, in bytes (Kafka's limit).
const LENGTH_MAX: usize = 249;

/// A valid topic name: 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks `name`.
    ///
    /// # Errors
    /// If Kafka would not accept it, with the rule it breaks.
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        let refuse = |rule| Err(InvalidTopicName { name: shortened(name), rule });
        match name {
            "" => return refuse("it is empty"),
            "." | ".." => return refuse("\".\" and \"..\" are not names"),
            _ => {}
        }
        if LENGTH_MAX < name.len() {
            return refuse("it is longer than 249 characters");
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !name.chars().all(allowed) {
            return refuse("only a-z, A-Z, 0-9, '.', '_' and '-' are allowed");
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of the broker's own topics, which clients may not create or write.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(self.as_str(), "__consumer_offsets" | "__transaction_state")
    }
}

/// Enough of a bad name to recognise it: it may be megabytes of anything.
fn shortened(name: &str) -> String {
    let mut shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    if shown.len() < name.len() && 64 < name.chars().count() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl TryFrom<String> for TopicName {
    type Error = InvalidTopicName;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A topic name that Kafka would not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic name \"{name}\" is invalid: {rule}")]
pub struct InvalidTopicName {
    name: String,
    rule: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_kafka() {
        let longest = "x".repeat(249);
        for name in ["a", "A.b_c-9", "...", "__consumer_offsets", &longest] {
            assert!(TopicName::new(name).is_ok(), "{name}");
        }
        let too_long = "x".repeat(250);
        for name in ["", ".", "..", "a b", "ä", "a/b", "a\0", &too_long] {
            assert!(TopicName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_bad_name_is_shown_short_and_escaped() {
        let error = TopicName::new(&"\n".repeat(1 << 20)).expect_err("newlines are not allowed");
        assert!(error.to_string().len() < 256);
        assert!(!error.to_string().contains('\n'));
    }
}
