//! How exactly the transformer multiplies.

use std::{fmt, str::FromStr};

/// How the aggregator multiplies in its linear layers and for the scores of its attention; everything else is always F32 on
/// the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// In F32 on the CPU, in the type of the weights on CUDA.
    #[default]
    Exact,
    /// In 16-bit integers: in linear layers with a scale for every 256 of them, near 4e-4 relative error in each
    /// layer; for scores with a scale for each query and key, near 1e-4 of the largest. Between F32 and BF16. On the CPU
    /// only.
    Fast,
}

impl Precision {
    /// As the command line spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "exact" => Ok(Self::Exact),
            "fast" => Ok(Self::Fast),
            _ => Err(format!("{s:?} is no precision; it takes exact or fast")),
        }
    }
}
