//! How much memory there is to use.

use std::{fs, path::Path};

/// Bytes this process may still take without being killed: what the kernel calls available, or what its control group
/// leaves, whichever is less. `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    let of_machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?);
    match (of_machine, of_group()) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// What the control groups leave, version 2: the process's own, and those it lies in.
fn of_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    least_left(&groups, |file| fs::read_to_string(file).ok())
}

/// The least that any group on the way from the process's own up to the root leaves. `groups` is what
/// `/proc/self/cgroup` says; inside a container that names the root, and so does no text at all.
fn least_left(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let own = Path::new(own.unwrap_or_default().trim_start_matches('/'));
    let left = own.ancestors().filter_map(|group| {
        let folder = Path::new("/sys/fs/cgroup").join(group);
        let number = |name| read(&folder.join(name))?.trim().parse::<u64>().ok();
        // "max" is no number: then this group has no limit, but one above it may.
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    });
    left.min()
}

/// Tells the allocator to keep what is freed. A pass frees and asks for buffers of the same sizes hundreds of times; by
/// default each of them comes from the system anew, and its pages cost as much as what is computed on them: with
/// VGGT-1B on four frames a sixth of the time.
pub(super) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    allocator::keep_freed_memory();
}

/// Gives what was freed back to the system, once it is not needed for a while.
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    allocator::return_freed_memory();
}

/// glibc's.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "calls two functions of the C library")]
mod allocator {
    pub(super) fn keep_freed_memory() {
        // SAFETY: mallopt takes numbers and may be called at any time. One arena for all threads, since only the first
        // one grows without mapping; no mapping; no trimming.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }

    pub(super) fn return_freed_memory() {
        // SAFETY: it touches only memory that nobody holds.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        let text = "MemTotal:       24000 kB\nMemFree: 10 kB\nMemAvailable:   1000 kB\n";
        assert_eq!(meminfo(text), Some(1_024_000));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
    }

    /// What [`least_left`] finds where these groups have these limits and uses.
    fn left(groups: &str, files: &[(&str, &str, &str)]) -> Option<u64> {
        least_left(groups, |file| {
            let (_, max, current) = files
                .iter()
                .find(|(group, ..)| file.parent() == Some(Path::new(group)))?;
            let text = match file.file_name()?.to_str()? {
                "memory.max" => max,
                "memory.current" => current,
                _ => return None,
            };
            Some(format!("{text}\n"))
        })
    }

    #[test]
    fn the_tightest_group_on_the_way_to_the_root_counts() {
        let unit = "1:name=systemd:/\n0::/system.slice/vggt.service\n";
        let service = "/sys/fs/cgroup/system.slice/vggt.service";
        let slice = "/sys/fs/cgroup/system.slice";
        // The root of a machine has no such files.
        assert_eq!(
            left(unit, &[(service, "1000", "400"), (slice, "max", "900")]),
            Some(600)
        );
        assert_eq!(
            left(unit, &[(service, "1000", "400"), (slice, "1200", "900")]),
            Some(300)
        );
        assert_eq!(
            left(unit, &[(service, "max", "400"), (slice, "1200", "900")]),
            Some(300)
        );
        assert_eq!(left(unit, &[(service, "1000", "1001")]), Some(0));
        assert_eq!(left(unit, &[(service, "max", "1")]), None);
        // Another unit's limit is not this one's.
        assert_eq!(
            left(
                unit,
                &[("/sys/fs/cgroup/system.slice/other.service", "10", "0")]
            ),
            None
        );
    }

    #[test]
    fn inside_a_container_the_root_is_asked() {
        let root = [("/sys/fs/cgroup", "1000", "250")];
        for groups in ["0::/\n", "0::/../../other\n", ""] {
            assert_eq!(left(groups, &root), Some(750), "{groups:?}");
        }
    }
}
