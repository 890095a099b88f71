//! The annotated default configuration and its reference name the same keys.
//!
//! That the defaults are those of the code is a test of the binary.

use std::collections::BTreeSet;

use super::{Finding, Source};

const DEFAULTS: &str = "config/config.yaml";
const REFERENCE: &str = "docs/reference/config.md";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let text = |path| sources.iter().find(|source| source.path == path).map(|source| &*source.text);
    let (Some(defaults), Some(reference)) = (text(DEFAULTS), text(REFERENCE)) else {
        return vec![Finding::new(DEFAULTS, 1, format!("{DEFAULTS} or {REFERENCE} is missing"))];
    };
    let (known, documented) = (keys_of_yaml(defaults), keys_of_reference(reference));
    let undocumented = known
        .difference(&documented)
        .map(|key| Finding::new(REFERENCE, 1, format!("{key} is not documented")));
    let unknown = documented
        .difference(&known)
        .map(|key| Finding::new(REFERENCE, 1, format!("{key} is documented and does not exist")));
    undocumented.chain(unknown).collect()
}

/// The dotted paths of all values. The file is block style with two blanks a level, by convention.
fn keys_of_yaml(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut path: Vec<&str> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        let Some((key, value)) = content.split_once(':') else { continue };
        if key.starts_with(['#', '-']) {
            continue;
        }
        path.truncate((line.len() - content.len()) / 2);
        path.push(key);
        let value = value.split(" #").next().unwrap_or("").trim();
        if !value.is_empty() && !value.starts_with('#') {
            keys.insert(path.join("."));
        }
    }
    keys
}

/// The keys in the first column of the tables, each under its section: `## log`, `` | `level` | ``.
fn keys_of_reference(text: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.trim().trim_matches('`');
        }
        if let Some((key, _)) = line.strip_prefix("| `").and_then(|cell| cell.split_once('`')) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::super::testing::source;
    use super::*;

    #[test]
    fn a_key_on_one_side_only_is_found() {
        let yaml =
            source(DEFAULTS, "# top\nlog:\n  level: info # text\ngrpc:\n  # a\n  listen: x\n");
        let reference = |text| source(REFERENCE, text);
        let good = reference("## log\n\n| `level` | a |\n\n## grpc\n| `listen` | b |\n");
        assert_eq!(check(&[yaml.clone(), good]), []);
        let bad = reference("## log\n| `level` | a |\n## grpc\n| `port` | b |\n");
        assert_eq!(check(&[yaml, bad]).len(), 2);
    }
}
