//! The commands in README.md and in the tutorial do what the pages say.

use std::fs;
use std::path::Path;

use crate::node::{Node, RAFKA, run};

/// A command of a page, and what the page shows of its output.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    command: String,
    shown: String,
}

/// The commands in the `console` blocks of a page: lines after `$ `, then what they print.
fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = line.trim() == "```console";
        } else if inside {
            match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => {
                    examples.push(Example { command: command.to_owned(), shown: String::new() });
                }
                (None, Some(last)) => last.shown += &format!("{line}\n"),
                (None, None) => panic!("a console block begins with {line:?}, not with a command"),
            }
        }
    }
    examples
}

/// Whether `found` is what the page shows, where `...` stands for anything.
fn fits(shown: &str, found: &str) -> bool {
    let mut rest = found;
    let mut parts = shown.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let mut open = false;
    for part in parts {
        open = true;
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty() || (open && shown.trim_end().ends_with("..."))
}

fn check(page: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(page)).expect(page);
    let node = Node::start(&[]);
    let bin = Path::new(RAFKA).parent().expect("a program lies in a directory");
    let path = std::env::join_paths([bin, Path::new("/usr/bin"), Path::new("/bin")]);
    let path = path.expect("no colon in the build directory");
    let mut ran = 0;
    for example in examples(&text) {
        // The page's node is the one that runs here already.
        let starts_node = ["rafka dev", "rafka serve", "cargo "];
        if starts_node.iter().any(|start| example.command.starts_with(start)) {
            continue;
        }
        let mut shell = std::process::Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &example.command]).env("PATH", &path);
        shell.env("RAFKA_BROKERS", node.grpc().to_string()).current_dir(node.dir());
        let done = run(shell, "");
        assert_eq!(done.code, Some(0), "{page}: {example:?}: {done:?}");
        let found = done.stdout + &done.stderr;
        assert!(fits(&example.shown, &found), "{page}: {example:?} printed {found:?}");
        ran += 1;
    }
    ran
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    assert!(0 < check("README.md"), "the README shows commands in console blocks");
}

#[test]
fn every_command_of_the_tutorial_does_what_it_says() {
    assert!(0 < check("docs/tutorials/first-messages.md"), "the tutorial shows commands");
}

#[test]
fn pages_are_read_as_they_are_meant() {
    let page =
        "text\n```console\n$ rafka version\nversion  0.1.0\n$ rafka x\n```\n```sh\nls\n```\n";
    let expected = [("rafka version", "version  0.1.0\n"), ("rafka x", "")]
        .map(|(command, shown)| Example { command: command.into(), shown: shown.into() });
    assert_eq!(examples(page), expected);
    for (shown, found, expected) in [
        ("", "", true),
        ("a\n", "a\n", true),
        ("a\n", "b\n", false),
        ("a ... c\n", "a b c\n", true),
        ("a ...\n", "a b c\n", true),
        ("a ... d\n", "a b c\n", false),
        ("", "surprise\n", false),
    ] {
        assert_eq!(fits(shown, found), expected, "{shown:?} against {found:?}");
    }
}
