//! Open-loop pacing: requests are due at fixed times, whatever the answers do.
//!
//! The runtime's timer ticks in milliseconds, which is ten requests at 10 000 a second. So a thread
//! of its own sleeps to the microsecond and hands out the times.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rafka_core::{Clock, Time};
use tokio::sync::mpsc;

/// Times waiting to be used: when this many are late, the node under test is far behind anyway, and
/// lateness is counted from the due time in any case.
const DUE_MAX: usize = 1 << 16;

/// When the request of each number is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    /// When the first is.
    pub(super) start: Time,
    /// Requests a second.
    pub(super) rate: u64,
}

impl Schedule {
    /// When this one is due.
    pub(super) fn due(self, number: u64) -> Time {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Hands out due times to `takers` in turn until `end`. Joined when dropped.
#[derive(Debug)]
pub(super) struct Pacer {
    thread: Option<thread::JoinHandle<()>>,
}

impl Pacer {
    /// Starts a pacer, and gives each taker its times.
    pub(super) fn start(
        schedule: Schedule,
        end: Time,
        takers: usize,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<(Self, Vec<mpsc::Receiver<Time>>)> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..takers).map(|_| mpsc::channel(DUE_MAX)).unzip();
        let thread = thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || hand_out(schedule, end, &senders, clock.as_ref()))?;
        Ok((Self { thread: Some(thread) }, receivers))
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It ends at its time, or as soon as a taker is gone. A panic there was reported there.
            let _ended = thread.join();
        }
    }
}

fn hand_out(schedule: Schedule, end: Time, takers: &[mpsc::Sender<Time>], clock: &dyn Clock) {
    // By default the kernel may wake us 50 us late. Where it cannot be told otherwise, it may.
    let _slack = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    for (number, taker) in (0_u64..).zip(takers.iter().cycle()) {
        let due = schedule.due(number);
        if end <= due {
            return;
        }
        sleep(due - clock.now());
        if taker.blocking_send(due).is_err() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, outside of the runtime")]
fn sleep(span: Duration) {
    if !span.is_zero() {
        thread::sleep(span);
    }
}

#[cfg(test)]
mod tests {
    use rafka_core::SystemClock;

    use super::*;

    #[test]
    fn times_are_spread_evenly_and_do_not_drift() {
        let schedule = Schedule { start: Time(1000), rate: 3 };
        assert_eq!(schedule.due(0), Time(1000));
        assert_eq!(schedule.due(1), Time(333_334_333));
        assert_eq!(schedule.due(3_000_000), Time(1000) + Duration::from_secs(1_000_000));
    }

    #[test]
    fn every_due_time_is_handed_out_once_in_turn() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let schedule = Schedule { start: clock.now(), rate: 10_000 };
        let end = schedule.start + Duration::from_millis(2);
        let (pacer, mut takers) = Pacer::start(schedule, end, 2, clock).expect("threads are there");
        let mut handed = Vec::new();
        'all: loop {
            for taker in &mut takers {
                match taker.blocking_recv() {
                    Some(due) => handed.push(due),
                    None => break 'all,
                }
            }
        }
        drop(pacer);
        let expected: Vec<_> = (0..20).map(|number| schedule.due(number)).collect();
        assert_eq!(handed, expected);
    }
}
