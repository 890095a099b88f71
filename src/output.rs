//! What commands print: rows as a table, JSON or YAML on standard output, notes on standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::exit::Outcome;

/// How often a line of progress is drawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// In which form results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Something that is printed as a row.
pub(crate) trait Row: Serialize {
    /// The columns' names.
    const HEAD: &'static [&'static str];
    /// The columns' values.
    fn cells(&self) -> Vec<String>;
}

/// Where a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// The form of results.
    pub(crate) form: Form,
    /// Whether notes are left out.
    pub(crate) quiet: bool,
}

impl Output {
    /// Prints a list.
    pub(crate) fn rows<R: Row>(self, rows: &[R]) -> Outcome {
        let text = match self.form {
            Form::Table => table(R::HEAD, rows.iter().map(Row::cells)),
            Form::Json | Form::Yaml => return self.document(&rows),
        };
        print(text.as_bytes())
    }

    /// Prints one thing. As a table it is a list of its fields.
    pub(crate) fn document(self, document: &impl Serialize) -> Outcome {
        let text = match self.form {
            Form::Table => fields(&serde_json::to_value(document)?),
            Form::Json => serde_json::to_string_pretty(document)? + "\n",
            Form::Yaml => serde_saphyr::to_string(document)?,
        };
        print(text.as_bytes())
    }

    /// Shows what the command is at until it is dropped, unless quiet. The template is one of
    /// `indicatif`: `{pos}` is what was added, `{per_sec}` how fast.
    pub(crate) fn progress(self, template: &str) -> Progress {
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template(&format!("{{spinner}} {template}"));
        bar.set_style(style.expect("our templates are sound"));
        if !bar.is_hidden() {
            bar.enable_steady_tick(REDRAW_INTERVAL);
        }
        Progress { bar }
    }

    /// Says on standard error what was done, unless quiet.
    pub(crate) fn note(self, note: impl Display) {
        if !self.quiet {
            warn(note);
        }
    }
}

/// What a long command is at: a line on standard error that comes and goes. There is none where
/// standard error is no terminal.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `count` more are done of what the template counts.
    pub(crate) fn add(&self, count: u64) {
        self.bar.inc(count);
    }

    /// Writes a line to standard error, above this one.
    pub(crate) fn warn(&self, line: impl Display) {
        self.bar.suspend(|| warn(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is no failure.
pub(crate) fn print(text: &[u8]) -> Outcome {
    print_while_open(text).map(drop)
}

/// Writes to standard output, and says whether there is still somebody who reads it.
pub(crate) fn print_while_open(text: &[u8]) -> Outcome<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A number with what it counts: `1 record`, `2 records`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Writes a line to standard error. When that is closed there is nobody left to tell.
pub(crate) fn warn(line: impl Display) {
    let _closed = writeln!(io::stderr().lock(), "{line}");
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

fn fields(document: &serde_json::Value) -> String {
    let serde_json::Value::Object(fields) = document else {
        return format!("{}\n", plain(document));
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in fields {
        table.add_row([name.replace('_', " "), plain(value)]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::Number(number) if number.is_f64() => {
            format!("{:.2}", number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_their_columns() {
        let rows =
            [vec!["orders".to_owned(), "12".to_owned()], vec!["a".to_owned(), "3".to_owned()]];
        assert_eq!(
            table(&["topic", "partitions"], rows.into_iter()),
            "TOPIC   PARTITIONS\norders  12\na       3\n"
        );
        assert_eq!(
            fields(&serde_json::json!({"node_id": 0, "rack": null, "ready_ms": 12.345_678})),
            "node id   0\nrack      -\nready ms  12.35\n"
        );
    }
}
