//! `cargo xtask tidy`: what the compiler and clippy do not check.
//!
//! Each check is a file, lists its findings with file, line and mend, and has a test that shows it
//! failing on a bad sample.

mod arrows;
mod code;
mod config;
mod dependencies;
mod length;
mod licences;
mod lines;
mod purity;
mod scripts;
mod suites;
mod tests_assert;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// Something to mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.into(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A file of the tree: its path from the root, and its text.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether `cargo xtask codegen` wrote it.
    fn is_generated(&self) -> bool {
        ["crates/proto/src/gen/", "crates/kafka-wire/src/gen/"]
            .iter()
            .any(|folder| self.path.starts_with(folder))
    }

    /// The lines, numbered as editors number them.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Runs every check and lists what they found.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = root()?;
    let sources = sources(&root)?;
    let metadata = cargo_metadata::MetadataCommand::new()
        .current_dir(&root)
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .context("cannot read the workspace with cargo metadata")?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&metadata));
    findings.extend(licences::check(&metadata));
    findings.extend(dependencies::check(&metadata, &sources));
    findings.extend(config::check(&sources));
    findings.extend(scripts::check(&root, &sources)?);
    findings.extend(suites::check(&sources));
    for source in &sources {
        findings.extend(lines::check(source));
        if source.is_rust() && !source.is_generated() {
            findings.extend(arrows::check_places(source));
            findings.extend(purity::check(source));
            findings.extend(length::check(source));
            findings.extend(tests_assert::check(source));
        }
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "tidy found {} things to mend", findings.len());
    crate::codegen::run(true)?;
    println!("tidy: {} files checked, nothing to mend", sources.len());
    Ok(())
}

fn root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask lies in the workspace's root")?.to_owned())
}

/// Every text file that git tracks or would track.
fn sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listed = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut sources = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A deleted file is listed until the deletion is committed; binary files have no lines.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod testing {
    use super::{Finding, Source};

    /// A file for a check to look at.
    pub(super) fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    /// The lines that findings name.
    pub(super) fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }
}
