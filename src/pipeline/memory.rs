//! Available memory.

use std::{fs, path::Path};

use super::control_groups;
use crate::system;

/// Returns the bytes that this process can still allocate without being killed: what the kernel reports as available, or
/// what its control groups leave, whichever is less. `None` where the system does not report it.
pub fn available_memory() -> Option<u64> {
    // In an empty root there is no /proc.
    let text = fs::read_to_string("/proc/meminfo").ok();
    let of_machine = text
        .as_deref()
        .and_then(meminfo)
        .or_else(system::free_memory);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = control_groups::least_left(Path::new(control_groups::ROOT), &own);
    match (of_machine, of_groups) {
        (Some(machine), Some(groups)) => Some(machine.min(groups)),
        (machine, groups) => machine.or(groups),
    }
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
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

    #[test]
    #[cfg(linux_calls)]
    fn without_proc_the_kernel_is_asked() {
        assert!(system::free_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
