//! What a reconstruction will take: memory, and time by what this machine is seen to reach.

use std::fmt;

use vggt_model::{Isa, Precision, measured_peak};

/// Share of its peak that a processor reaches in a pass over VGGT-1B, heads included. Measured: 0.4 to 0.7 in f32, 0.5 to 0.6 in
/// integers.
const SHARE_OF_PEAK: f64 = 0.5;

/// Returns the seconds that a pass of so many operations of the transformers takes on the CPU, estimated from what the processor is
/// seen to reach now. `None` where it has no vectors to measure.
#[must_use]
pub fn seconds_on_cpu(flops: u64, precision: Precision) -> Option<f64> {
    Some(flops as f64 / (measured_peak(Isa::best()?, precision) * SHARE_OF_PEAK))
}

/// What the network is about to compute.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Frames.
    pub frames: usize,
    /// Their height and width in pixels.
    pub size: (usize, usize),
    /// The number of anchors that all frames attend to; `None` where each attends to all.
    pub anchors: Option<usize>,
    /// `cpu` or `cuda`.
    pub device: &'static str,
    /// Threads of the CPU that compute.
    pub threads: Option<usize>,
    /// Upper estimate of the memory that it takes, weights included.
    pub memory_bytes: u64,
    /// Seconds that it takes, estimated from what this machine was seen to reach; `None` where that is not known or not worth
    /// measuring.
    pub seconds: Option<f64>,
    /// Whether it takes long enough for a line in the log of a service.
    pub is_long: bool,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (height, width) = self.size;
        let s = if self.frames == 1 { "" } else { "s" };
        write!(f, "{} frame{s} of {width} x {height}", self.frames)?;
        match self.anchors {
            Some(anchors) => write!(f, ", all to {anchors} anchors")?,
            None if self.frames > 1 => f.write_str(", all to all")?,
            None => {}
        }
        write!(f, "; {}", self.device)?;
        if let Some(threads) = self.threads {
            let s = if threads == 1 { "" } else { "s" };
            write!(f, ", {threads} thread{s}")?;
        }
        write!(f, "; needs {:.1} GB", self.memory_bytes as f64 / 1e9)?;
        match self.seconds {
            Some(seconds) => write!(f, "; about {}", in_words(seconds)),
            None => Ok(()),
        }
    }
}

/// Returns a length of time in seconds as people say it: `40 s`, `12 min`, `3.5 h`.
#[must_use]
pub fn in_words(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{:.0} s", s.max(1.0)),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_told_in_one_line() {
        let mut work = Work {
            frames: 40,
            size: (392, 518),
            anchors: None,
            device: "cpu",
            threads: Some(2),
            memory_bytes: 7_960_000_000,
            seconds: Some(240.0),
            is_long: true,
        };
        assert_eq!(
            work.to_string(),
            "40 frames of 518 x 392, all to all; cpu, 2 threads; needs 8.0 GB; about 4 min"
        );
        work = Work {
            frames: 1,
            device: "cuda",
            threads: None,
            seconds: None,
            ..work
        };
        assert_eq!(work.to_string(), "1 frame of 518 x 392; cuda; needs 8.0 GB");
    }

    #[test]
    fn times_are_told_in_one_unit() {
        assert_eq!(in_words(0.2), "1 s");
        assert_eq!(in_words(89.0), "89 s");
        assert_eq!(in_words(600.0), "10 min");
        assert_eq!(in_words(9000.0), "2.5 h");
    }
}
