//! The reference page of the command line, made from the command line itself.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use crate::cli::Cli;

/// How wide the page's help texts are.
const WIDTH: usize = 100;

const HEAD: &str = "\
# The command line

Made by `rafka reference`; a test holds page and program equal.

`rafka` alone runs `rafka demo`. Results go to standard output, everything else to standard error;
progress is shown on a terminal only. Every command takes the global options of the first section.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | carried out, and something in it failed: a request was refused, a record not acknowledged, a check not passed |
| 2 | the command line is wrong |
| 3 | the configuration is invalid or cannot be read |
| 4 | no node answers at the address |
| 5 | the time limit passed; what was asked may still have been done |
| 6 | what was named does not exist |
| 130 | a signal ended a command before it was done, or a second signal a node before it could stop in order; nothing acked is lost |
";

/// The page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    let root = Cli::command().term_width(WIDTH);
    section(&mut page, root.clone(), "rafka");
    // Global options are shown once, at the top.
    let root = root.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    sections(&mut page, &root, "rafka");
    page
}

fn sections(page: &mut String, parent: &Command, path: &str) {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set()) {
        let path = format!("{path} {}", command.get_name());
        let command = command.clone().term_width(WIDTH).disable_help_flag(true);
        let command = command.disable_help_subcommand(true).disable_version_flag(true);
        section(page, command.clone(), &path);
        sections(page, &command, &path);
    }
}

fn section(page: &mut String, command: Command, path: &str) {
    let help = command.bin_name(path).render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _infallible =
        write!(page, "\n## {path}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn the_page_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/cli.md");
        let found = std::fs::read_to_string(path).expect("the page exists");
        assert!(
            found == page(),
            "{path} is stale: run `cargo run -- reference > docs/reference/cli.md`"
        );
    }

    #[test]
    fn every_exit_code_is_on_the_page() {
        let codes = [
            Exit::Failed,
            Exit::Usage,
            Exit::Config,
            Exit::Unreachable,
            Exit::Timeout,
            Exit::NotFound,
            Exit::Aborted,
        ];
        for code in codes {
            assert!(HEAD.contains(&format!("\n| {} | ", code as u8)), "{code:?}");
        }
    }
}
