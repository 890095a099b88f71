//! Checking a whole data directory.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rafka_core::TopicPartition;
use serde::Serialize;

use super::{Item, files, read_file};
use crate::disk::{self, Disk, File, Open};
use crate::journal::Reach;
use crate::manifest::Contents;
use crate::segment::store::{self, Kind};
use crate::segment::{Segment, Store};
use crate::{Error, journal, manifest};

/// How a file was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Whole.
    Sound {
        /// What is worth knowing about it all the same.
        note: Option<String>,
    },
    /// Data is damaged or missing. The places, with what is wrong there.
    Damaged {
        /// Byte positions in the file, ascending.
        places: Vec<(u64, String)>,
    },
    /// Damaged, and made again from other files when it is needed. No data is lost.
    Repairable {
        /// What is wrong.
        what: String,
    },
    /// Written by a version of Rafka that this one does not know.
    UnknownVersion {
        /// The version it carries.
        found: u32,
        /// The newest version that we know.
        known: u32,
    },
    /// It cannot be read.
    Unreadable {
        /// What the system said.
        error: String,
    },
}

impl Verdict {
    const SOUND: Self = Self::Sound { note: None };

    fn note(note: impl Into<String>) -> Self {
        Self::Sound { note: Some(note.into()) }
    }

    fn missing(why: &str) -> Self {
        Self::Damaged { places: vec![(0, format!("it is missing, although {why}"))] }
    }

    fn of_error(error: &Error) -> Self {
        match error {
            Error::Corrupt { position, what, .. } => {
                Self::Damaged { places: vec![(*position, what.clone())] }
            }
            Error::UnknownVersion { found, known, .. } => {
                Self::UnknownVersion { found: *found, known: *known }
            }
            Error::Foreign { node, .. } => {
                Self::Damaged { places: vec![(0, format!("it belongs to node {node}"))] }
            }
            Error::Mismatched { what, .. } => Self::Damaged { places: vec![(0, what.clone())] },
            Error::Io { cause, .. } => Self::Unreadable { error: cause.to_string() },
            other => Self::Unreadable { error: other.to_string() },
        }
    }

    /// Whether no data is in doubt.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        matches!(self, Self::Sound { .. } | Self::Repairable { .. })
    }
}

/// A file, or all files of a lane of the journal, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// How it was found.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.verdict {
            Verdict::Sound { note: None } => write!(f, "ok        {path}"),
            Verdict::Sound { note: Some(note) } => write!(f, "ok        {path}: {note}"),
            Verdict::Repairable { what } => write!(f, "repair    {path}: {what}"),
            Verdict::UnknownVersion { found, known } => {
                write!(f, "unknown   {path}: format version {found}, known up to {known}")
            }
            Verdict::Unreadable { error } => write!(f, "unreadable {path}: {error}"),
            Verdict::Damaged { places } => {
                write!(f, "DAMAGED   {path}")?;
                places.iter().try_for_each(|(at, what)| write!(f, "\n    at byte {at}: {what}"))
            }
        }
    }
}

/// How a data directory was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// How many files were looked at.
    pub files: u64,
    /// In how many of them data is in doubt.
    pub unsound: u64,
}

/// Checks every file of a data directory against its checksums and against the manifest, and hands
/// out what it found for each.
///
/// # Errors
/// If a directory cannot be listed.
pub fn verify(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    out: &mut dyn FnMut(FileReport),
) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut found = |path: PathBuf, verdict: Verdict| {
        report.files += 1;
        report.unsound += u64::from(!verdict.is_sound());
        out(FileReport { path, verdict });
    };
    let path = data_dir.join(manifest::FILE_NAME);
    let read = read_file(&**disk, &path).and_then(|bytes| manifest::read(&bytes, &path));
    let contents = read.map(|(contents, _producers)| contents);
    match &contents {
        Ok(contents) if contents.is_clean() => found(path, Verdict::note("cleanly stopped")),
        Ok(_) => found(path, Verdict::SOUND),
        Err(error) => found(path, Verdict::of_error(error)),
    }
    verify_journal(disk, data_dir, contents.as_ref().ok(), &mut found);
    // Only for the names that it gives to files.
    let segments = Store::new(Arc::clone(disk), data_dir, 1);
    let mut named = BTreeSet::new();
    for log in contents.iter().flat_map(|contents| &contents.logs) {
        for segment in &log.checkpoint.segments {
            for kind in [Kind::Log, Kind::Index] {
                let path = segments.path(&segment.identity(&log.name), kind);
                if kind == Kind::Log || 0 < segment.index_entries {
                    let verdict = verify_named(&**disk, &path, &log.name, segment, kind);
                    found(path.clone(), verdict);
                }
                named.insert(path);
            }
        }
    }
    for path in segment_files(&**disk, &data_dir.join("logs"))? {
        if !named.contains(&path) {
            let verdict = verify_unnamed(&**disk, &path, contents.is_ok());
            found(path, verdict);
        }
    }
    Ok(report)
}

fn verify_journal(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    manifest: Option<&Contents>,
    found: &mut impl FnMut(PathBuf, Verdict),
) {
    let owner = manifest.and_then(|contents| contents.node);
    let reach = |lane| manifest.map_or(Reach::UNKNOWN, |contents| contents.reach(lane));
    let lanes = match journal::verify(disk, data_dir, owner, &reach) {
        Ok(lanes) => lanes,
        Err(error) => {
            let path = match &error {
                Error::Corrupt { path, .. }
                | Error::UnknownVersion { path, .. }
                | Error::Foreign { path, .. }
                | Error::Mismatched { path, .. }
                | Error::Io { path, .. } => path.clone(),
                _ => data_dir.to_owned(),
            };
            return found(path, Verdict::of_error(&error));
        }
    };
    for journal::Found { lane, files, records, end } in lanes {
        let is_in_use = manifest.is_some_and(|contents| contents.lanes.of(lane).in_use);
        let verdict = match (files, is_in_use) {
            (0, false) => continue,
            (0, true) => Verdict::missing("the last stop did not write everything out"),
            _ => Verdict::note(format!("files: {files}, records: {records}, next sequence: {end}")),
        };
        found(journal::files_of(data_dir, lane), verdict);
    }
}

/// A file that the manifest names, as far as it counts.
fn verify_named(
    disk: &dyn Disk,
    path: &Path,
    name: &TopicPartition,
    segment: &Segment,
    kind: Kind,
) -> Verdict {
    let file = match disk.open(path, Open::READ) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match kind {
                Kind::Log => Verdict::missing("the manifest names it"),
                Kind::Index => Verdict::Repairable { what: "it is missing".to_owned() },
            };
        }
        Err(error) => return Verdict::Unreadable { error: error.to_string() },
    };
    let verdict = match kind {
        Kind::Log => verify_log(&*file, path, name, segment),
        Kind::Index => verify_index(&*file, path, name, segment),
    };
    verdict.unwrap_or_else(|error| Verdict::of_error(&error))
}

fn verify_log(
    file: &dyn File,
    path: &Path,
    name: &TopicPartition,
    segment: &Segment,
) -> Result<Verdict, Error> {
    let expected = segment.identity(name);
    let mut places = Vec::new();
    let mut header_damage = None;
    match files::identity(file, path)? {
        Ok(found) if found == expected => {}
        Ok(_) => places.push((0, "its header names another segment".to_owned())),
        Err(what) => header_damage = Some(what),
    }
    let mut batch_bytes = 0;
    files::go_through(file, path, &expected, segment.file_len, &mut |item| match item {
        Item::Batch { bytes, .. } => batch_bytes += bytes as u64,
        Item::Damage { position, what } => places.push((position, what)),
        _ => {}
    })?;
    if places.is_empty() && batch_bytes != segment.batch_bytes {
        let what = format!("{batch_bytes} bytes of batches, not {}", segment.batch_bytes);
        places.push((segment.file_len, what));
    }
    if !places.is_empty() {
        return Ok(Verdict::Damaged { places });
    }
    let len = file.len().map_err(disk::failed("measure", path))?;
    Ok(match (header_damage, len.saturating_sub(segment.file_len)) {
        (Some(what), _) => Verdict::Repairable { what: format!("the header: {what}") },
        (None, 0) => Verdict::SOUND,
        (None, rest) => Verdict::note(format!("{rest} bytes more than the manifest counts")),
    })
}

fn verify_index(
    file: &dyn File,
    path: &Path,
    name: &TopicPartition,
    segment: &Segment,
) -> Result<Verdict, Error> {
    let seed = segment.identity(name).seed();
    let repairable = |what: String| Ok(Verdict::Repairable { what });
    match files::seed(file, path)? {
        Ok(found) if found == seed => {}
        Ok(_) => return repairable("its header names another segment".to_owned()),
        Err(what) => return repairable(what.to_owned()),
    }
    let missing = (0..segment.index_entries).find(|n| store::read_entry(file, seed, *n).is_none());
    match missing {
        Some(number) => repairable(format!("entry {number} is missing or damaged")),
        None => Ok(Verdict::SOUND),
    }
}

/// A file that no manifest names: left over, or all there is when the manifest is lost.
fn verify_unnamed(disk: &dyn Disk, path: &Path, manifest_is_sound: bool) -> Verdict {
    if manifest_is_sound {
        return Verdict::note("not in the manifest: to be removed");
    }
    let mut places = Vec::new();
    let result = super::dump(disk, path, &mut |item| {
        if let Item::Damage { position, what } = item {
            places.push((position, what));
        }
    });
    match result {
        Err(error) => Verdict::of_error(&error),
        Ok(()) if places.is_empty() => Verdict::SOUND,
        Ok(()) => Verdict::Damaged { places },
    }
}

/// All files below `logs` whose names are those of segments.
fn segment_files(disk: &dyn Disk, logs: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for topic in disk::names_in(disk, logs)? {
        for partition in disk::names_in(disk, &logs.join(&topic))? {
            let dir = logs.join(&topic).join(partition);
            let names = disk::names_in(disk, &dir)?;
            let ours = names.iter().filter(|name| store::FileName::parse(name).is_some());
            paths.extend(ours.map(|name| dir.join(name)));
        }
    }
    Ok(paths)
}
