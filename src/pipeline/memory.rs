//! How much memory there is to use.

use std::fs;

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

/// What the control group leaves, version 2 and as seen from inside a container.
fn of_group() -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        text.trim().parse().ok()
    };
    // "max" is no number: then there is no limit.
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
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
#[allow(unsafe_code)]
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
}
