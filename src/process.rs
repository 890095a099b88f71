//! What a process uses, as the kernel counts it, and may use.

use std::time::Duration;

use rafka_core::ByteSize;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The kernel's unit of processor time in `/proc`: fixed at 100 a second for user space on Linux.
const TICK: Duration = Duration::from_millis(10);

/// Memory and processor time of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident memory.
    pub(crate) resident: ByteSize,
    /// Processor time since its start, user and system.
    pub(crate) cpu: Duration,
}

/// What the process uses now; nothing where there is no `/proc`.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Usage { resident: resident(&status)?, cpu: cpu(&stat)? })
}

/// How many files this process may have open, after asking for as many as it may ask for. `None`: as
/// many as it likes.
pub(crate) fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            limit.current
        }
    }
}

fn resident(status: &str) -> Option<ByteSize> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteSize::kib(kib))
}

fn cpu(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_understood() {
        let status = "Name:\trafka\nVmPeak:\t 99 kB\nVmRSS:\t   14000 kB\nThreads:\t4\n";
        assert_eq!(resident(status), Some(ByteSize::kib(14_000)));
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!((resident(""), cpu("")), (None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn our_own_process_uses_memory() {
        let usage = usage(std::process::id()).expect("there is a /proc");
        assert!(ByteSize::kib(100) < usage.resident, "{usage:?}");
    }
}
