//! Which licences dependencies may have: those that an MIT binary can be shipped with.

use cargo_metadata::Metadata;
use spdx::{Expression, LicenseReq, ParseMode};

use super::Finding;

const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    metadata
        .packages
        .iter()
        .filter(|package| !is_allowed(package.license.as_deref().unwrap_or("")))
        .map(|package| {
            let licence = package.license.as_deref().unwrap_or("none");
            let what = format!(
                "{} {} has the licence {licence}, which is not on the list",
                package.name, package.version
            );
            Finding::new("Cargo.lock", 1, what)
        })
        .collect()
}

/// Whether an SPDX expression can be fulfilled with allowed licences. A slash is an old "OR".
fn is_allowed(expression: &str) -> bool {
    let allowed = |wanted: &LicenseReq| ALLOWED.contains(&&*wanted.to_string());
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|known| known.evaluate(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_that_binds_the_binary_is_refused() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "GPL-3.0 OR MIT",
            "Apache-2.0 AND ISC",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "(MIT OR GPL-3.0) AND (ISC OR (AGPL-3.0 AND MIT))",
            "MIT OR Apache-2.0 AND GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "none of these",
            "GPL-3.0",
            "GPL-3.0-or-later",
            "AGPL-3.0 AND MIT",
            "BUSL-1.1",
            "(MIT OR Apache-2.0) AND GPL-3.0",
            "GPL-3.0 AND (MIT OR Apache-2.0)",
            "(GPL-3.0 OR MIT) AND (AGPL-3.0 OR GPL-2.0)",
            "GPL-2.0 WITH Classpath-exception-2.0",
            "MIT WITH LLVM-exception",
            "(MIT OR Apache-2.0",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
