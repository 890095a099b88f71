//! Makes the generated code of the workspace, and checks that the committed code is what is made.

mod kafka;
mod proto;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

/// A folder of generated code, and the files that belong there: names and contents.
struct Output {
    folder: &'static str,
    /// What the code is made from.
    source: &'static str,
    files: Vec<(String, Vec<u8>)>,
}

/// Writes the generated files, or, to `check`, compares them with those that are there.
///
/// # Errors
/// If a source is malformed, a file cannot be read or written, or, on check, a file is not fresh.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent folder, which should be the workspace")?;
    for output in [proto::generate(root)?, kafka::generate(root)?] {
        let folder = root.join(output.folder);
        if !check {
            write(&folder, &output)?;
        }
        for (name, content) in &output.files {
            confirm(&folder.join(name), content, output.source)?;
        }
        confirm_no_more(&folder, &output)?;
    }
    Ok(())
}

fn write(folder: &Path, output: &Output) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, content) in &output.files {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn confirm(path: &Path, fresh: &[u8], source: &str) -> anyhow::Result<()> {
    let found = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if found != fresh {
        bail!("{} is not what {source} makes: run `cargo xtask codegen`", path.display());
    }
    Ok(())
}

/// A file that nothing makes any more is stale too.
fn confirm_no_more(folder: &Path, output: &Output) -> anyhow::Result<()> {
    let made: BTreeSet<&str> = output.files.iter().map(|(name, _)| name.as_str()).collect();
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in listed {
        let name = entry.with_context(|| format!("cannot list {}", folder.display()))?.file_name();
        if !name.to_str().is_some_and(|name| made.contains(name)) {
            let path = folder.join(name);
            bail!("{} is not made from {}: remove it", path.display(), output.source);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_code_is_what_the_sources_make() {
        run(true).expect("fresh");
    }

    #[test]
    fn a_stale_file_is_named_with_its_mend() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stale = folder.path().join("rafka.v1.rs");
        fs::write(&stale, "// old").expect("written");
        let error =
            confirm(&stale, b"// new", "proto/").expect_err("the contents differ").to_string();
        assert!(error.contains("rafka.v1.rs") && error.contains("cargo xtask codegen"), "{error}");

        let output = Output { folder: "gen", source: "proto/", files: Vec::new() };
        let error = confirm_no_more(folder.path(), &output).expect_err("nothing makes it");
        assert!(error.to_string().contains("rafka.v1.rs"), "{error}");
    }
}
