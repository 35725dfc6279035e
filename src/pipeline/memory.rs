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
