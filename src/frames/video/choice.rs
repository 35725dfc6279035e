//! What may be asked for of a video, and what became of its frames.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which frames of a video are taken.
#[derive(Debug, Clone, PartialEq)]
pub enum VideoChoice {
    /// So many from each second.
    Fps(f64),
    /// So many of the sharpest and most different ones, or all where there are fewer.
    Keyframes(usize),
    /// Those of these numbers, which count from 1 and ascend: as an earlier reading has chosen them.
    Numbers(Vec<u64>),
}

/// What became of the frames of a video of which the sharpest and most different ones were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyframes {
    /// Frames that were looked at: all that could be decoded.
    pub frames: u64,
    /// Frames that were taken.
    pub chosen: u64,
    /// Frames that were left out since a neighbor that shows the same is sharper.
    pub less_sharp: u64,
    /// Frames that were left out since they have almost no detail, such as black ones, or much less of it and of contrast than
    /// most of their neighbors, such as those of a fade.
    pub plain: u64,
    /// Frames that were left out since they are like others that were taken.
    pub similar: u64,
}

impl fmt::Display for Keyframes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, chosen, .. } = self;
        write!(
            f,
            "taking {chosen} of {frames} frames: the sharpest and most different"
        )?;
        let left_out = [
            (self.similar, "too similar"),
            (self.less_sharp, "less sharp than a neighbor"),
            (self.plain, "dark or almost without detail"),
        ];
        let left_out = left_out.into_iter().filter(|(count, _)| *count > 0);
        for (i, (count, why)) in left_out.enumerate() {
            let begin = if i == 0 { "; left out: " } else { ", " };
            write!(f, "{begin}{count} {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_told() {
        let all = Keyframes {
            frames: 900,
            chosen: 40,
            less_sharp: 120,
            plain: 0,
            similar: 740,
        };
        assert_eq!(
            all.to_string(),
            "taking 40 of 900 frames: the sharpest and most different; left out: 740 too similar, 120 less sharp than a neighbor"
        );
        let none = Keyframes {
            frames: 3,
            chosen: 3,
            less_sharp: 0,
            plain: 0,
            similar: 0,
        };
        assert_eq!(
            none.to_string(),
            "taking 3 of 3 frames: the sharpest and most different"
        );
    }
}
