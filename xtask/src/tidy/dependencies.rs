//! Dependencies that nobody uses.

use cargo_metadata::Metadata;

use super::{Finding, Source};

pub(super) fn check(metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let root = metadata.workspace_root.as_str();
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let manifest = package.manifest_path.as_str();
        let manifest = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        let folder = manifest.trim_end_matches("Cargo.toml");
        let texts: Vec<&str> = sources
            .iter()
            .filter(|source| source.is_rust() && belongs(&source.path, folder))
            .map(|source| source.text.as_str())
            .collect();
        for dependency in &package.dependencies {
            // A dependency with a "-" in its name is written with a "_" in code.
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
            if !is_used(&name, &texts) {
                let what = format!("{} does not use {}: remove it", package.name, dependency.name);
                findings.push(Finding::new(manifest, 1, what));
            }
        }
    }
    findings
}

/// Whether a file is part of the package in `folder`; the root's own lie outside of all folders.
fn belongs(path: &str, folder: &str) -> bool {
    if folder.is_empty() {
        ["src/", "tests/", "benches/", "build.rs"].iter().any(|own| path.starts_with(own))
    } else {
        path.starts_with(folder)
    }
}

fn is_used(name: &str, texts: &[&str]) -> bool {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    texts.iter().any(|text| {
        text.match_indices(name).any(|(at, found)| {
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            let after = text.get(at + found.len()..).and_then(|after| after.chars().next());
            !before.is_some_and(of_word) && !after.is_some_and(of_word)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_only_as_a_whole_word() {
        assert!(is_used("bytes", &["use bytes::Bytes;"]));
        assert!(!is_used("bytes", &["let as_bytes = 1; bytes_max(2)"]));
        assert!(!is_used("serde", &["serde_json::json!({})"]));
    }

    #[test]
    fn the_binary_does_not_own_the_files_of_the_crates() {
        assert!(belongs("src/main.rs", ""));
        assert!(!belongs("crates/core/src/lib.rs", ""));
        assert!(belongs("tests/it/main.rs", ""));
        assert!(belongs("crates/core/src/lib.rs", "crates/core/"));
    }
}
