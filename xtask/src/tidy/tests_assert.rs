//! Tests can fail: each holds something that does.

use super::{Finding, Source};

/// What fails a test. `check` is our word for an assertion over a table, `survives` for one over
/// damaged bytes, `$crate::contract` leads to a suite that several implementors share.
const FAILS: &[&str] = &[
    "assert",
    "check",
    "expect",
    "unwrap",
    "panic!",
    "?;",
    "?
",
    "?)",
    "verify",
    "survives",
    ".failed(",
    "$crate::contract",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines: Vec<(usize, &str)> = source.lines().collect();
    for (index, (_, line)) in lines.iter().enumerate() {
        let attribute = line.trim();
        if attribute == "#[ignore]" || attribute.starts_with("#[should_panic") {
            let what = format!("{attribute} is not used: assert the behaviour as it is");
            findings.push(Finding::new(&source.path, index + 1, what));
        }
        if attribute != "#[test]" && !attribute.starts_with("#[tokio::test") {
            continue;
        }
        // Formatted code: the test ends at the first brace as deep as its attribute.
        let depth = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(depth));
        let body: String = lines[index + 1..]
            .iter()
            .take_while(|(_, line)| *line != end)
            .flat_map(|(_, line)| [*line, "\n"])
            .collect();
        if !FAILS.iter().any(|word| body.contains(word)) {
            findings.push(Finding::new(&source.path, index + 1, "this test cannot fail"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, source};
    use super::*;

    #[test]
    fn a_test_without_assertion_is_found() {
        let text = "    #[test]\n    fn a() {\n        run();\n    }\n    #[test]\n    fn b() {\n        \
                    assert!(run());\n    }\n";
        assert_eq!(lines(&check(&source("a.rs", text))), [1]);
    }
}
