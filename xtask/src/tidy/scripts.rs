//! Scripts can be run: they have a first line that says how, and the run bit.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::{Finding, Source};

pub(super) fn check(root: &Path, sources: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| is_script(source)) {
        let status = std::fs::metadata(root.join(&source.path))
            .with_context(|| format!("cannot look at {}", source.path))?;
        findings.extend(check_script(source, status.permissions().mode()));
    }
    Ok(findings)
}

/// Whether it is run: it says how, or its name promises it. `lib.sh` is what the others source, and
/// `#![` is an attribute.
fn is_script(source: &Source) -> bool {
    let says_how = source.text.starts_with("#!") && !source.text.starts_with("#![");
    says_how || source.path.ends_with(".sh") && !source.path.ends_with("/lib.sh")
}

fn check_script(source: &Source, mode: u32) -> Option<Finding> {
    let what = if !source.text.starts_with("#!") {
        "the script does not begin with #!"
    } else if mode & 0o111 == 0 {
        "the script is not executable: chmod +x"
    } else {
        return None;
    };
    Some(Finding::new(&source.path, 1, what))
}

#[cfg(test)]
mod tests {
    use super::super::testing::source;
    use super::*;

    #[test]
    fn a_script_needs_its_first_line_and_the_run_bit() {
        let script = source("scripts/a.sh", "#!/usr/bin/env bash\n");
        assert_eq!(check_script(&script, 0o755), None);
        assert!(check_script(&script, 0o644).is_some());
        assert!(check_script(&source("scripts/a.sh", "echo"), 0o755).is_some());
    }

    #[test]
    fn whatever_says_how_it_is_run_is_a_script() {
        for path in ["compat/run", "compat/kcat/checks", ".ci/run", "scripts/lib.sh"] {
            assert!(is_script(&source(path, "#!/usr/bin/env bash\n")), "{path}");
        }
        assert!(is_script(&source("scripts/a.sh", "echo")));
        assert!(!is_script(&source("scripts/lib.sh", "# Shared.")));
        assert!(!is_script(&source("src/main.rs", "#![expect(a)]\n")));
    }
}
