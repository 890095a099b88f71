//! Single lines: opening sentences, leftovers, blanks at the end, names that say nothing.

use super::{Finding, Source};

/// Words of unfinished work, split so that this file does not find itself.
const LEFTOVERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Endings of type names that name no idea.
const EMPTY_SUFFIXES: &[&str] = &["Manager", "Helper", "Util", "Utils", "Impl"];

/// Endings of file names that git makes needless.
const VERSION_SUFFIXES: &[&str] = &["_old", "_new", "_v2", "_copy", "_backup"];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = check_name(source);
    let path = &source.path;
    if source.is_generated() || path.ends_with(".lock") || path.contains("/corpus/") {
        return findings;
    }
    if source.is_rust() && !source.text.starts_with("//! ") {
        let what = "the file does not open with a sentence that says what it is for (//! ...)";
        findings.push(Finding::new(path, 1, what));
    }
    for (number, line) in source.lines() {
        let mut find = |what: String| findings.push(Finding::new(path, number, what));
        if line.ends_with([' ', '\t']) {
            find("blanks at the end of the line".to_owned());
        }
        let words = || line.split(|c: char| !c.is_alphanumeric());
        if let Some(word) = LEFTOVERS.iter().find(|word| words().any(|known| known == **word)) {
            find(format!("{word}: finish it, or write it into docs/roadmap.md"));
        }
        if let Some(name) = empty_name(line) {
            find(format!("{name} names no idea: say what it is"));
        }
    }
    findings
}

fn check_name(source: &Source) -> Vec<Finding> {
    let file = source.path.rsplit('/').next().unwrap_or("");
    let stem = file.split('.').next().unwrap_or("");
    let versioned = VERSION_SUFFIXES.iter().any(|suffix| stem.ends_with(suffix));
    let what = "git remembers versions: a file name does not";
    versioned.then(|| Finding::new(&source.path, 1, what)).into_iter().collect()
}

/// The name of a type declared on this line, if it ends in a word that says nothing.
fn empty_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    if !matches!(words.next()?, "struct" | "enum" | "trait") {
        return None;
    }
    let name = words.next()?.split(|c: char| !c.is_alphanumeric()).next()?;
    EMPTY_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, source};
    use super::*;

    #[test]
    fn each_kind_of_bad_line_is_found() {
        let bad = format!(
            "fn a() {{}} \n// {}: later\npub struct TopicManager;\nstruct Topic;\n",
            LEFTOVERS[0]
        );
        assert_eq!(lines(&check(&source("src/a.rs", &bad))), [1, 1, 2, 3]);
        assert_eq!(lines(&check(&source("src/a_old.rs", "//! A file.\n"))), [1]);
        assert!(check(&source("src/a.rs", "//! A file.\nstruct Topic;\n")).is_empty());
    }
}
