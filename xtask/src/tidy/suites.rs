//! What passes of the suites of others goes on passing: its list only grows.

use super::{Finding, Source};

const TESTS: &str = "compat/librdkafka/tests.txt";
const PASSING: &str = "compat/librdkafka/passing.txt";

/// How many tests of librdkafka pass. It may only be raised, with the list.
const PASSING_COUNT: usize = 76;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let text = |path| sources.iter().find(|source| source.path == path).map(|source| &*source.text);
    let (Some(tests), Some(passing)) = (text(TESTS), text(PASSING)) else {
        return vec![Finding::new(PASSING, 1, format!("{TESTS} or {PASSING} is missing"))];
    };
    check_list(tests, passing, PASSING_COUNT)
}

fn check_list(tests: &str, passing: &str, count: usize) -> Vec<Finding> {
    let listed: Vec<&str> = passing.lines().collect();
    let known = |test: &str| tests.lines().any(|line| line.split(' ').next() == Some(test));
    let mut findings = Vec::new();
    for (index, test) in listed.iter().enumerate() {
        if !known(test) {
            let what = format!("{test:?} is not a test of {TESTS}");
            findings.push(Finding::new(PASSING, index + 1, what));
        }
        if index.checked_sub(1).is_some_and(|before| *test <= listed[before]) {
            let what = format!("{test} is not in order, or there twice");
            findings.push(Finding::new(PASSING, index + 1, what));
        }
    }
    if listed.len() != count {
        let what = if listed.len() < count {
            format!("{} tests are listed, {count} passed: the list may only grow", listed.len())
        } else {
            let more = listed.len();
            format!(
                "{more} tests are listed: raise the count in xtask/src/tidy/suites.rs to {more}"
            )
        };
        findings.push(Finding::new(PASSING, listed.len(), what));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_what_passes_may_only_grow() {
        let tests = "0001\n0002 quick\n0003\n";
        let count = |passing| check_list(tests, passing, 2).len();
        assert_eq!(count("0001\n0002\n"), 0);
        assert_eq!(count("0001\n"), 1, "one was taken out");
        assert_eq!(count("0001\n0002\n0003\n"), 1, "the count is to be raised with the list");
        assert_eq!(count("0001\n0001\n"), 1, "the same twice");
        assert_eq!(count("0001\n0009\n"), 1, "there is no such test");
    }
}
