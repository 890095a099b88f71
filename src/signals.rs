//! SIGTERM and SIGINT.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure, Outcome};

/// Listens to both. From its making on the process is no longer ended by them.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for the first signal.
pub(crate) async fn next() -> io::Result<&'static str> {
    Ok(Signals::new()?.next().await)
}

/// Runs work that must clean up after itself: a signal drops it, where the system's way of ending a
/// process would leave its files and its node behind.
pub(crate) async fn interruptible(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        biased;
        signal = next() => {
            Err(Failure::message(Exit::Aborted, format_args!("interrupted by {}", signal?)))
        }
        outcome = work => outcome,
    }
}
