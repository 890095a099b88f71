//! An open file of the faulty disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::image::Image;
use super::{FaultyDisk, State, Verb, died, full};
use crate::disk::{BLOCK, File, Mode};

#[derive(Debug)]
pub(super) struct Handle {
    pub(super) disk: FaultyDisk,
    pub(super) life: u64,
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
    pub(super) image: Arc<Mutex<Image>>,
}

impl Handle {
    fn check_alive(&self, state: &State) -> io::Result<()> {
        if state.life == self.life { Ok(()) } else { Err(died()) }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.mode == Mode::Read { Err(rustix::io::Errno::BADF.into()) } else { Ok(()) }
    }
}

/// The rules of [`Mode::Direct`], as the strictest disk has them.
fn check_aligned(position: u64, data: &[u8]) -> io::Result<()> {
    let misaligned = !position.is_multiple_of(BLOCK as u64)
        || !data.len().is_multiple_of(BLOCK)
        || data.as_ptr().align_offset(BLOCK) != 0;
    if misaligned { Err(rustix::io::Errno::INVAL.into()) } else { Ok(()) }
}

impl File for Handle {
    fn read_at(&self, position: u64, out: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.disk.state.lock();
        self.check_alive(state)?;
        state.begin(Verb::Read, &self.path)?;
        let read = self.image.lock().read(position, out);
        state.bytes_read += read as u64;
        Ok(read)
    }

    fn write_at(&self, position: u64, data: &[u8]) -> io::Result<()> {
        let state = &mut *self.disk.state.lock();
        self.check_alive(state)?;
        self.check_writable()?;
        state.check_alive()?;
        let result = state.begin(Verb::Write, &self.path);
        if self.mode == Mode::Direct {
            check_aligned(position, data)?;
        }
        let mut image = self.image.lock();
        let growth = (position + data.len() as u64).saturating_sub(image.len());
        drop(image);
        if growth != 0 && !state.has_room_for(growth) {
            return Err(full());
        }
        image = self.image.lock();
        let survives = state.survives_change();
        if survives && result.is_ok() {
            image.write(position, data, self.mode);
            return Ok(());
        }
        image.write_torn(position, data, self.mode, &mut state.rng);
        result.and(Err(died()))
    }

    fn len(&self) -> io::Result<u64> {
        let state = &mut *self.disk.state.lock();
        self.check_alive(state)?;
        state.begin(Verb::Open, &self.path)?;
        Ok(self.image.lock().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let state = &mut *self.disk.state.lock();
        self.check_alive(state)?;
        self.check_writable()?;
        state.begin(Verb::Open, &self.path)?;
        let growth = len.saturating_sub(self.image.lock().len());
        if growth != 0 && !state.has_room_for(growth) {
            return Err(full());
        }
        state.change()?;
        self.image.lock().set_len(len);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let state = &mut *self.disk.state.lock();
        self.check_alive(state)?;
        state.check_alive()?;
        if let Err(cause) = state.begin(Verb::Sync, &self.path) {
            self.image.lock().fail_sync();
            return Err(cause);
        }
        state.change()?;
        self.image.lock().sync();
        Ok(())
    }
}
