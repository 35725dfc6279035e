//! What the system counts for this process.

use std::fs;

/// Seconds of processor time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CpuSeconds {
    pub(super) user: f64,
    pub(super) system: f64,
}

impl CpuSeconds {
    /// What this process has used so far; `None` where the system does not say.
    pub(super) fn now() -> Option<Self> {
        /// Linux counts in hundredths for user space whatever the kernel uses.
        const TICKS: f64 = 100.0;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The command's name is in parentheses and may hold anything; utime and stime are fields 12 and 13 after it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut next = || Some(fields.next()?.parse::<f64>().ok()? / TICKS);
        Some(Self {
            user: next()?,
            system: next()?,
        })
    }

    /// What was used since `start`, for each of `passes`.
    pub(super) fn per_pass_since(self, start: Self, passes: u32) -> Self {
        let passes = f64::from(passes.max(1));
        Self {
            user: (self.user - start.user) / passes,
            system: (self.system - start.system) / passes,
        }
    }
}

/// The most memory this process had resident since the start or [`reset_peak_rss`]; `None` where the system does not say.
pub(super) fn peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Starts the count of [`peak_rss_bytes`] anew at what is resident now, where the system allows it.
pub(super) fn reset_peak_rss() {
    // 5 is CLEAR_REFS_MM_HIWATER_RSS, see proc_pid_clear_refs(5). Without it the peak is that of all passes so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
}
