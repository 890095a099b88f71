//! `rafka log`: what the files of a data directory hold, and whether they are whole.

mod metadata;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rafka_storage::disk::{Disk, OsDisk};
use rafka_storage::inspect::{FileReport, Verdict};
use rafka_storage::{Error, inspect};
use serde::Serialize;

use crate::cli::LogCommand;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Form, Output, print};

/// Runs the command. Blocks.
pub(crate) fn run(command: &LogCommand, out: Output) -> Outcome {
    match command {
        LogCommand::Dump { file } => dump(file, out),
        LogCommand::Verify { dir } => verify(dir, out),
        LogCommand::AbandonJournal { dir } => abandon_journal(dir, out),
    }
}

fn dump(file: &Path, out: Output) -> Outcome {
    let mut printed = Ok(());
    if file.file_name().is_some_and(|name| name == metadata::FILE_NAME) {
        let contents =
            metadata::read(file).map_err(|error| missing(file).unwrap_or(error.into()))?;
        metadata::items(&contents).for_each(|item| note(&mut printed, &item, out));
        return printed;
    }
    inspect::dump(&OsDisk, file, &mut |item| note(&mut printed, &item, out))
        .map_err(|error| missing(file).unwrap_or_else(|| explain(error)))?;
    printed
}

/// That there is no such file, whatever its name says.
fn missing(file: &Path) -> Option<Failure> {
    let message = || format!("there is no file {}", file.display());
    (!file.exists()).then(|| Failure::message(Exit::NotFound, message()))
}

fn verify(dir: &Path, out: Output) -> Outcome {
    check_is_data_dir(dir)?;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut printed = Ok(());
    let mut tell = |file: FileReport| {
        if !(out.quiet && file.verdict.is_sound()) {
            note(&mut printed, &file, out);
        }
    };
    let mut report = inspect::verify(&disk, dir, &mut tell).map_err(explain)?;
    let path = dir.join(metadata::FILE_NAME);
    let verdict = match metadata::read(&path) {
        Ok(_) => Verdict::Sound { note: None },
        Err(error) => Verdict::Damaged { places: vec![(0, format!("{error:#}"))] },
    };
    report.files += 1;
    report.unsound += u64::from(!verdict.is_sound());
    tell(FileReport { path, verdict });
    printed?;
    out.note(format_args!("{} files, {} with data in doubt", report.files, report.unsound));
    if report.unsound == 0 { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

fn abandon_journal(dir: &Path, out: Output) -> Outcome {
    check_is_data_dir(dir)?;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let aside = rafka_storage::abandon_journal(&disk, dir).map_err(explain)?;
    for path in &aside {
        out.note(format_args!("set aside {}", path.display()));
    }
    out.note(format_args!("a node starts in {} with what its segments hold", dir.display()));
    Ok(())
}

/// What holds nothing of ours is a mistake of the caller, not a damaged directory.
fn check_is_data_dir(dir: &Path) -> Outcome {
    if ["manifest.redb", "journal", "logs"].iter().any(|name| dir.join(name).exists()) {
        return Ok(());
    }
    let missing = format!("{} is no data directory: it has no manifest.redb", dir.display());
    Err(Failure::message(Exit::NotFound, missing))
}

/// Prints one thing as a line; a file may hold millions. After a failure nothing more is printed.
fn note<T: Display + Serialize>(printed: &mut Outcome, thing: &T, out: Output) {
    if printed.is_ok() {
        *printed = line(thing, out);
    }
}

fn line<T: Display + Serialize>(thing: &T, out: Output) -> Outcome {
    let line = match out.form {
        Form::Table => format!("{thing}\n"),
        Form::Json => serde_json::to_string(thing)? + "\n",
        Form::Yaml => format!("---\n{}", serde_saphyr::to_string(thing)?),
    };
    print(line.as_bytes())
}

fn explain(error: Error) -> Failure {
    let exit = match &error {
        Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}
