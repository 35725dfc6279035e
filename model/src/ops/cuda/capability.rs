//! Compute capabilities: which instructions a CUDA device has.

use std::fmt;

/// The compute capability of a device or of compiled code, such as 8.6. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ComputeCapability {
    /// The generation. Machine code runs only within its own.
    pub major: usize,
    /// The version within the generation.
    pub minor: usize,
}

impl ComputeCapability {
    /// Compute capability `major`.`minor`.
    pub const fn new(major: usize, minor: usize) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_capabilities_are_greater() {
        let ordered = [(7, 5), (8, 0), (8, 9), (9, 0), (10, 3), (12, 0)]
            .map(|(major, minor)| ComputeCapability::new(major, minor));
        assert!(ordered.is_sorted());
        assert_eq!(ordered[2].to_string(), "8.9");
    }
}
