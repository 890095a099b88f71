//! Pure: the list of keys with their meanings, taken from the annotated default configuration.
//!
//! `config/config.yaml` is where a key is documented, and nowhere else: the reference page and
//! `rafka config schema` are made from it, and tests hold it against the defaults in code.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::Row;

/// The annotated default configuration.
pub(crate) const ANNOTATED: &str = include_str!("../../config/config.yaml");

/// A key, as documented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Key {
    /// The full name: `section.key`.
    pub(crate) key: String,
    /// The default, as the file shows it.
    pub(crate) default: String,
    /// The environment variable that sets it.
    pub(crate) env: String,
    /// Meaning, unit, range.
    pub(crate) description: String,
}

impl Row for Key {
    const HEAD: &'static [&'static str] = &["key", "default", "description"];
    fn cells(&self) -> Vec<String> {
        vec![self.key.clone(), self.default.clone(), self.description.clone()]
    }
}

/// All keys of the annotated file, in its order.
pub(crate) fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    let mut sections: Vec<&str> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in ANNOTATED.lines() {
        let body = line.trim();
        if let Some(words) = body.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        if let Some((name, value)) = body.split_once(':') {
            // Each level is indented by two spaces more.
            sections.truncate((line.len() - line.trim_start().len()) / 2);
            if value.is_empty() {
                sections.push(name);
            } else {
                keys.push(key(&sections, name, value.trim(), &comment.join(" ")));
            }
        }
        comment.clear();
    }
    keys
}

fn key(sections: &[&str], name: &str, default: &str, description: &str) -> Key {
    let path = [sections, &[name]].concat();
    Key {
        key: path.join("."),
        default: default.to_owned(),
        env: format!("RAFKA__{}", path.join("__").to_uppercase()),
        description: description.to_owned(),
    }
}

/// The reference page of all keys.
pub(crate) fn reference() -> String {
    let mut page = String::from(REFERENCE_HEAD);
    let mut section = String::new();
    for key in keys() {
        let (own, name) = key.key.rsplit_once('.').unwrap_or(("", &key.key));
        if own != section {
            section = own.to_owned();
            let _infallible =
                write!(page, "\n## {section}\n\n| key | default | meaning |\n|---|---|---|\n");
        }
        let _infallible = writeln!(page, "| `{name}` | `{}` | {} |", key.default, key.description);
    }
    page
}

const REFERENCE_HEAD: &str = "\
# Configuration

Made from `config/config.yaml` by `rafka config schema --markdown`; a test holds the two equal.

Settings come in layers, each over the one before: the defaults in code, the file (`--config FILE`
or `RAFKA_CONFIG`), environment variables, flags. A variable is named `RAFKA__<SECTION>__<KEY>`,
with two underscores: `RAFKA__NODE__DATA_DIR=/srv/rafka`. Its value is read as YAML.

An unknown key is an error that names line, column and the nearest known key. `rafka config check`
checks without starting, `rafka config show` prints what is in effect. Every change needs a restart.
Sizes are whole numbers of bytes, `KiB`, `MiB`, `GiB` or `TiB`; durations are whole numbers of `ms`,
`s`, `min`, `h` or `d`.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, layers};

    #[test]
    fn the_annotated_file_says_exactly_what_the_code_does() {
        let plain = |settings: &Settings| serde_json::to_value(settings).expect("plain data");
        let parsed = layers::parse(ANNOTATED).expect("the file is valid");
        assert_eq!(plain(&parsed), plain(&Settings::default()));
    }

    #[test]
    fn every_key_is_documented_and_every_documented_key_exists() {
        let mut expected = layers::known_keys(&Settings::default());
        let mut found: Vec<_> = keys().into_iter().map(|key| key.key).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        for key in keys() {
            assert!(20 <= key.description.len(), "{} lacks a description", key.key);
        }
    }

    #[test]
    fn the_reference_page_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/config.md");
        let page = std::fs::read_to_string(path).expect("the page exists");
        assert!(
            page == reference(),
            "{path} is stale: run `cargo run -- config schema --markdown > docs/reference/config.md`"
        );
    }
}
