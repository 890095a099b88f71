//! Files have one reason to be opened: 600 lines of production code are the wall.

use super::{Finding, Source};

const LINES_MAX: usize = 600;

/// Files above the wall, with the count that they may only fall below.
const EXCEPTIONS: &[(&str, usize)] = &[];

pub(super) fn check(source: &Source) -> Option<Finding> {
    let count = production_lines(source);
    let exception = EXCEPTIONS.iter().find(|(path, _)| *path == source.path);
    let max = exception.map_or(LINES_MAX, |(_, max)| *max);
    (max < count).then(|| {
        let what = format!("{count} lines of production code, {max} are allowed: cut it by theme");
        Finding::new(&source.path, count, what)
    })
}

fn production_lines(source: &Source) -> usize {
    if source.path.ends_with("/tests.rs") || source.path.contains("/tests/") {
        return 0;
    }
    source.lines().take_while(|(_, line)| !line.starts_with("#[cfg(test)]")).count()
}

#[cfg(test)]
mod tests {
    use super::super::testing::source;
    use super::*;

    #[test]
    fn tests_do_not_count_and_code_does() {
        let code = "x\n".repeat(600);
        let tests = format!("{code}#[cfg(test)]\n{code}");
        assert_eq!(check(&source("src/a.rs", &tests)), None);
        assert!(check(&source("src/a.rs", &format!("{code}x\n"))).is_some());
    }
}
