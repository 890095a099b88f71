//! Going on without the journal, when it is lost for good and the segments are not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::recover::{check_manifest, claim};
use crate::disk::Disk;
use crate::manifest::{self, Manifest};
use crate::{Error, journal};

/// Sets the journal's files aside, under names that nobody reads, and takes what the segments hold for
/// all there is: what only the journal held is given up. Returns where the files are.
///
/// No engine may be open. If it dies half-way, or is repeated, no more is given up.
///
/// # Errors
/// If another process holds the directory, if there is no manifest or it is damaged, or if something
/// cannot be read or written.
pub fn abandon_journal(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let _lock = claim(&**disk, dir)?;
    check_manifest(&**disk, dir)?;
    let manifest = Manifest::open(Arc::clone(disk), dir)?;
    let contents = manifest.load()?;
    let aside = journal::set_aside(&**disk, dir)?;
    manifest.commit(&manifest::not_needed(&contents.lanes))?;
    manifest.close();
    Ok(aside)
}
