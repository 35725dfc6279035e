//! How much memory a job may need, by its input: what a worker can be kept to.

use std::{fmt, str::FromStr};

/// Size of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum JobSize {
    /// At most 20 images.
    #[default]
    Small,
    /// At most 100 images.
    Medium,
    /// More images, or a video.
    Large,
}

impl JobSize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Returns the size of a job of so many images.
    pub fn of_images(count: usize) -> Self {
        match count {
            0..=20 => Self::Small,
            21..=100 => Self::Medium,
            _ => Self::Large,
        }
    }

    /// Returns the size in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

impl fmt::Display for JobSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|size| size.as_str() == text);
        found.ok_or("expected small, medium or large")
    }
}
