//! SIGTERM and SIGINT, which ask a process to stop in order.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::exit::{Exit, Failure, Outcome};

/// Some ask twice at once: `timeout` signals its child, and then the group that the child is in.
const ONE_WISH: Duration = Duration::from_millis(300);

/// Listens to both. From its making on the process is no longer ended by them.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    last: Option<Instant>,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            last: None,
        })
    }

    /// The name of the next one that is a wish of its own.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            };
            let now = Instant::now();
            if self.last.is_none_or(|last| ONE_WISH < now - last) {
                self.last = Some(now);
                return name;
            }
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
