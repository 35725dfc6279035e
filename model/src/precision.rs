//! How exactly the transformer multiplies.

use std::{fmt, str::FromStr};

/// How the aggregator multiplies in its linear layers and in its attention; everything else is always F32 on the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// In F32 on the CPU, in the type of the weights on CUDA.
    #[default]
    Exact,
    /// In 16-bit integers, with a scale for each row of up to 512 of them: near 2e-4 relative error in each layer, between F32
    /// and BF16, which has 3e-3. The weights are converted once, when they are loaded, and take as much memory as in F16. On the
    /// CPU only.
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
