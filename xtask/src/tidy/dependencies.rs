//! Dependencies that nobody uses.

use std::collections::BTreeSet;

use cargo_metadata::Metadata;

use super::{Finding, Source, code};

pub(super) fn check(metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let root = metadata.workspace_root.as_str();
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let manifest = package.manifest_path.as_str();
        let manifest = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        let folder = manifest.trim_end_matches("Cargo.toml");
        let used: BTreeSet<String> = sources
            .iter()
            .filter(|source| source.is_rust() && belongs(&source.path, folder))
            .flat_map(|source| names(&source.text))
            .collect();
        for dependency in &package.dependencies {
            // A dependency with a "-" in its name is written with a "_" in code.
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
            if !used.contains(&name) {
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

/// What code of a crate may call another crate: the beginnings of its paths, macros, attributes.
fn names(text: &str) -> impl Iterator<Item = String> {
    let named = code::paths(text).into_iter().filter(|named| named.is_certain);
    named.filter_map(|named| named.segments.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_used(name: &str, text: &str) -> bool {
        names(text).any(|used| used == name)
    }

    #[test]
    fn a_name_counts_only_where_it_names_a_crate() {
        for good in [
            "use bytes::Bytes;",
            "use bytes;",
            "fn f(a: bytes::Bytes) {}",
            "bytes!(1);",
            "#[bytes(a)] struct B;",
            "use ::bytes::{Buf, BufMut};",
        ] {
            assert!(is_used("bytes", good), "{good}");
        }
        for bad in [
            "// use bytes::Bytes;",
            "let a = \"bytes::Bytes\";",
            "let bytes = as_bytes; f(bytes, bytes_max(2)); a.bytes()",
            "use std::bytes;",
            "use other::{bytes::Bytes};",
            "bytes_more::a();",
        ] {
            assert!(!is_used("bytes", bad), "{bad}");
        }
        assert!(!is_used("serde", "serde_json::json!({})"));
    }

    #[test]
    fn the_binary_does_not_own_the_files_of_the_crates() {
        assert!(belongs("src/main.rs", ""));
        assert!(!belongs("crates/core/src/lib.rs", ""));
        assert!(belongs("tests/it/main.rs", ""));
        assert!(belongs("crates/core/src/lib.rs", "crates/core/"));
    }
}
