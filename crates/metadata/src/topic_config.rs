//! Pure: the configuration of topics: which keys there are, what they accept and what they mean.
//!
//! A key is listed here only if it does something. Names and defaults are Kafka's.

mod defaults;
mod reference;
mod table;
mod typed;

pub use defaults::{ConfigEntry, Defaults, Layer, Source, TopicDefaults};
pub use reference::markdown;
pub use table::{Key, Kind, Spec};
pub use typed::TopicConfig;

/// The longest value, in bytes. The longest that makes sense has 19.
pub const VALUE_BYTES_MAX: usize = 1024;

/// A key or value that a topic cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// There is no such key.
    #[error("unknown config {name:?}{}", hint(.nearest))]
    UnknownKey {
        /// The key, shortened.
        name: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The key does not take this value.
    #[error("{name} is {value:?}, and must be {accepted}")]
    InvalidValue {
        /// The key.
        name: &'static str,
        /// The value, shortened.
        value: String,
        /// What the key takes.
        accepted: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

/// Checks one key and its value.
///
/// # Errors
/// If there is no such key, or it does not take the value; the message says what it takes.
pub fn check(name: &str, value: &str) -> Result<Key, InvalidConfig> {
    let key = find(name)?;
    check_value(key, value)?;
    Ok(key)
}

/// Checks one value.
///
/// # Errors
/// If the key does not take it.
pub fn check_value(key: Key, value: &str) -> Result<(), InvalidConfig> {
    TopicConfig::default().set(key, value)
}

/// The key of this name.
///
/// # Errors
/// If there is none; the error suggests the nearest.
pub fn find(name: &str) -> Result<Key, InvalidConfig> {
    Key::ALL
        .iter()
        .copied()
        .find(|key| key.spec().name == name)
        .ok_or_else(|| unknown(name, Key::ALL.iter().map(|key| key.spec().name)))
}

/// The key whose default on the node has this name (`log.retention.ms`).
///
/// # Errors
/// If there is none; the error suggests the nearest.
pub fn find_default(broker_name: &str) -> Result<Key, InvalidConfig> {
    Key::of_broker_name(broker_name)
        .ok_or_else(|| unknown(broker_name, Key::ALL.iter().map(|key| key.spec().broker_name)))
}

fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> InvalidConfig {
    // A long text is nobody's typing error, and measuring it costs its length squared.
    let is_near = |known: &&'static str| strsim::jaro_winkler(name, known) >= 0.8;
    let nearest = (name.len() <= 64)
        .then(|| {
            known.filter(is_near).max_by(|a, b| {
                strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b))
            })
        })
        .flatten();
    InvalidConfig::UnknownKey { name: shortened(name), nearest }
}

/// Enough of a text to recognise it: it may be megabytes of anything.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(64).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
