//! Memory, from `/proc/meminfo` and `/proc/PID/status`.

use std::fs;

/// Bytes of memory that are in use: all but what the kernel calls available.
pub(super) fn used_bytes(meminfo: &str) -> Option<u64> {
    let total = kib(meminfo, "MemTotal:")?;
    let available = kib(meminfo, "MemAvailable:")?;
    Some(total.saturating_sub(available) << 10)
}

/// Bytes of a process that are resident; `None` for one without memory of its own, a kernel thread or one that has ended.
pub(super) fn resident_bytes(status: &str) -> Option<u64> {
    kib(status, "VmRSS:").map(|kib| kib << 10)
}

/// Returns the bytes of this process that are resident; `None` where the system does not tell.
pub fn own_resident_bytes() -> Option<u64> {
    resident_bytes(&fs::read_to_string("/proc/self/status").ok()?)
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_caches_can_give_back_is_not_in_use() {
        let text =
            "MemTotal:       24000 kB\nMemFree: 10 kB\nMemAvailable:   1000 kB\nCached: 990 kB\n";
        assert_eq!(used_bytes(text), Some(23_000 << 10));
        assert_eq!(used_bytes("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_kernel_thread_has_no_memory() {
        assert_eq!(
            resident_bytes("Name:\ta\nVmRSS:\t   12 kB\n"),
            Some(12 << 10)
        );
        assert_eq!(resident_bytes("Name:\tkthreadd\n"), None);
    }
}
