//! The disk of the machine.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rafka_core::ByteSize;
use rustix::fs::{FallocateFlags, OFlags};

use super::{Disk, File, Lock, Mode, Open};

/// The disk of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let file = match open.mode {
            Mode::Read | Mode::Buffered => options(open, OFlags::empty()).open(path)?,
            Mode::Direct => open_direct(path, open)?,
        };
        Ok(Arc::new(OsFile { file }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_dir() {
            fs::remove_dir(path)
        } else {
            fs::remove_file(path)
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn sync_fs(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(fs::File::open(path)?)?)
    }

    fn free_space(&self, path: &Path) -> io::Result<ByteSize> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn total_space(&self, path: &Path) -> io::Result<ByteSize> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(ByteSize(stat.f_blocks.saturating_mul(stat.f_frsize)))
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = options(Open::CREATE, OFlags::empty()).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock::held_by(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(cause)) => Err(cause),
        }
    }
}

fn options(open: Open, flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(open.mode != Mode::Read).create(open.create);
    options.custom_flags(flags.bits().cast_signed());
    options
}

/// Opens past the page cache, or with synchronous writes through it where the file system (tmpfs
/// and some network and stacked ones) refuses `O_DIRECT` with `EINVAL`.
fn open_direct(path: &Path, open: Open) -> io::Result<fs::File> {
    let refused = io::Error::from(rustix::io::Errno::INVAL).kind();
    match options(open, OFlags::DIRECT | OFlags::DSYNC).open(path) {
        Err(cause) if cause.kind() == refused => options(open, OFlags::DSYNC).open(path),
        result => result,
    }
}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
}

impl File for OsFile {
    fn read_at(&self, position: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(&mut out[done..], position + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(done)
    }

    fn write_at(&self, position: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, position)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Without the call, only writing reserves space.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let mut position = self.len()?;
                let zeros = vec![0; 1 << 20];
                while position < len {
                    let step = (len - position).min(zeros.len() as u64);
                    self.write_at(position, &zeros[..usize::try_from(step).unwrap_or(0)])?;
                    position += step;
                }
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
