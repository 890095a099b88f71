//! How requests name topics.

use std::fmt;

use rafka_core::{TopicId, TopicName};

/// A topic as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef {
    /// By its name.
    Name(TopicName),
    /// By its identity (KIP-516): never means a later topic of the same name.
    Id(TopicId),
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl From<TopicName> for TopicRef {
    fn from(name: TopicName) -> Self {
        Self::Name(name)
    }
}
