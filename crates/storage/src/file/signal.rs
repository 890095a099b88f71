//! How the flusher is woken.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A flag that one thread sleeps on.
#[derive(Debug, Default)]
pub(super) struct Signal {
    state: Mutex<Wishes>,
    changed: Condvar,
}

/// What was asked for since the flusher last looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Look around.
    pub(super) look: bool,
    /// Look around for the last time.
    pub(super) stop: bool,
}

impl Signal {
    pub(super) fn kick(&self) {
        let mut state = self.state.lock();
        if !state.look {
            state.look = true;
            self.changed.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_one();
    }

    /// Waits for a wish, for at most `limit`, and takes it.
    pub(super) fn wait(&self, limit: Option<Duration>) -> Wishes {
        let mut state = self.state.lock();
        if *state == Wishes::default() {
            match limit {
                Some(limit) => drop(self.changed.wait_for(&mut state, limit)),
                None => self.changed.wait(&mut state),
            }
        }
        let wishes = *state;
        state.look = false;
        wishes
    }
}
