//! How much memory this process may use: the machine's, or less if a cgroup says so.

use std::fs;
use std::path::Path;

use rafka_core::ByteSize;

/// The memory that this process may use: the smaller of the machine's and of every cgroup (version 1
/// or 2) that holds it. `None` where neither can be read.
#[must_use]
pub fn memory_limit() -> Option<ByteSize> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    smallest(&read)
}

/// Where the kernel shows the two kinds of cgroups that limit memory.
const V2_ROOT: &str = "/sys/fs/cgroup";
const V1_ROOT: &str = "/sys/fs/cgroup/memory";

fn smallest(read: &dyn Fn(&Path) -> Option<String>) -> Option<ByteSize> {
    let machine = read(Path::new("/proc/meminfo")).as_deref().and_then(meminfo_total);
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| group_limits(line, read));
    machine.into_iter().chain(limits).min()
}

/// The limits on the way from a process's group up to the root.
///
/// Inside a container the named group is often not mounted, and the root shows the container's own.
fn group_limits(line: &str, read: &dyn Fn(&Path) -> Option<String>) -> Vec<ByteSize> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (root, file) = if controllers.is_empty() {
        (V2_ROOT, "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        (V1_ROOT, "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    Path::new(group.trim_start_matches('/'))
        .ancestors()
        .filter_map(|group| read(&Path::new(root).join(group).join(file)))
        // Version 2 writes `max` for no limit; version 1 a number larger than any machine.
        .filter_map(|text| text.trim().parse().ok().map(ByteSize))
        .collect()
}

fn meminfo_total(meminfo: &str) -> Option<ByteSize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(ByteSize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16384 kB\nMemFree:        1 kB\n";

    fn check(files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(smallest(&read), expected.map(ByteSize), "{files:?}");
    }

    #[test]
    fn the_smallest_limit_counts() {
        check(&[], None);
        check(&[("/proc/meminfo", MEMINFO)], Some(16_384 * 1024));
        check(
            &[
                ("/proc/meminfo", MEMINFO),
                ("/proc/self/cgroup", "0::/a/b\n"),
                ("/sys/fs/cgroup/a/memory.max", "4096\n"),
                ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ],
            Some(4096),
        );
        check(
            &[
                ("/proc/meminfo", MEMINFO),
                ("/proc/self/cgroup", "5:cpu,memory:/box\n4:cpuset:/box\n0::/\n"),
                ("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "8192\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
            Some(8192),
        );
        // A container: the group's name is the host's, and only the root is mounted.
        check(
            &[("/proc/self/cgroup", "0::/host/pod\n"), ("/sys/fs/cgroup/memory.max", "512\n")],
            Some(512),
        );
    }
}
