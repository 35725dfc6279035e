//! Which tokens the frames attend to in which block.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    error::{Error, Result},
};

/// What the global blocks attend to. Below `local` a block runs within each frame; below `sampled` it attends to the anchors'
/// special tokens and their patches in every `stride`th row and column; from there on to all tokens of the anchors.
///
/// As text, also in JSON: `LOCAL,SAMPLED,STRIDE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AnchorSchedule {
    /// Global blocks that run within each frame.
    pub local: usize,
    /// The first global block that attends to all tokens of the anchors.
    pub sampled: usize,
    /// Rows and columns of patches from one sampled patch to the next, from the first one on.
    pub stride: usize,
}

impl AnchorSchedule {
    /// The schedule of a network that was tuned on VGGT-1B's 24 blocks: local below block 2, every second row and column below
    /// block 9; scaled to the depth of `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let depth = config.aggregator.depth;
        let scaled = |of_24: usize| (of_24 * depth + 12) / 24;
        Self {
            local: scaled(2),
            sampled: scaled(9),
            stride: 2,
        }
    }

    /// Every block attends to all tokens of the anchors. With every frame an anchor that is the network as it was trained.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            local: 0,
            sampled: 0,
            stride: 1,
        }
    }

    /// Refuses schedules that a network of `config` does not have.
    ///
    /// # Errors
    /// [`Error::Input`] when the last block would not attend to the anchors, so that nothing relates the frames, or the order
    /// of the numbers is wrong.
    pub fn check(&self, config: &Config) -> Result<()> {
        let depth = config.aggregator.depth;
        let Self {
            local,
            sampled,
            stride,
        } = *self;
        if stride == 0 || local >= depth || sampled > depth || (sampled > 0 && sampled < local) {
            return Err(Error::Input(format!(
                "cannot attend to anchors by the schedule {local},{sampled},{stride}: expected LOCAL,SAMPLED,STRIDE with \
                 LOCAL below {depth}, SAMPLED from LOCAL to {depth}, and STRIDE from 1"
            )));
        }
        Ok(())
    }

    /// Returns the stride of the global block `layer`; `None` where it runs within each frame.
    pub(crate) fn stride_of(&self, layer: usize) -> Option<usize> {
        if layer < self.local {
            None
        } else if layer < self.sampled {
            Some(self.stride)
        } else {
            Some(1)
        }
    }
}

impl fmt::Display for AnchorSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.local, self.sampled, self.stride)
    }
}

impl FromStr for AnchorSchedule {
    type Err = Error;

    /// Reads `LOCAL,SAMPLED,STRIDE`.
    fn from_str(s: &str) -> Result<Self> {
        let numbers: Option<Vec<usize>> = s.split(',').map(|n| n.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[local, sampled, stride]) => Ok(Self {
                local,
                sampled,
                stride,
            }),
            _ => Err(Error::Input(format!(
                "cannot read {s:?} as a schedule: expected LOCAL,SAMPLED,STRIDE, such as 2,9,2"
            ))),
        }
    }
}

impl TryFrom<String> for AnchorSchedule {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<AnchorSchedule> for String {
    fn from(schedule: AnchorSchedule) -> Self {
        schedule.to_string()
    }
}

/// The tokens of a frame: the special ones, then the patches row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) special: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Grid {
    /// (row, column) of the special tokens and of the patches in every `stride`th row and column: 0 for the special tokens, patches
    /// count from 1.
    pub(crate) fn positions(self, stride: usize) -> Vec<(u32, u32)> {
        let special = std::iter::repeat_n((0, 0), self.special);
        let patches = self
            .patches(stride)
            .map(|(y, x)| (y as u32 + 1, x as u32 + 1));
        special.chain(patches).collect()
    }

    /// Returns the index of the same tokens in the frame.
    pub(crate) fn indices(self, stride: usize) -> Vec<u32> {
        let patches = self.patch_indices(stride);
        (0..self.special as u32).chain(patches).collect()
    }

    /// Returns the index in the frame of the patches in every `stride`th row and column.
    pub(crate) fn patch_indices(self, stride: usize) -> Vec<u32> {
        let index = |(y, x): (usize, usize)| (self.special + y * self.columns + x) as u32;
        self.patches(stride).map(index).collect()
    }

    fn patches(self, stride: usize) -> impl Iterator<Item = (usize, usize)> {
        let columns = self.columns;
        (0..self.rows)
            .step_by(stride)
            .flat_map(move |y| (0..columns).step_by(stride).map(move |x| (y, x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_scales_with_the_depth() {
        let of = |depth| {
            let mut config = Config::default();
            config.aggregator.depth = depth;
            let AnchorSchedule { local, sampled, .. } = AnchorSchedule::of(&config);
            (local, sampled)
        };
        assert_eq!(of(24), (2, 9));
        assert_eq!(of(12), (1, 5));
        assert_eq!(of(4), (0, 2));
        assert_eq!(of(1), (0, 0));
        for depth in 1..40 {
            let mut config = Config::default();
            config.aggregator.depth = depth;
            AnchorSchedule::of(&config).check(&config).unwrap();
        }
    }

    #[test]
    fn schedules_that_relate_no_frames_are_refused() {
        let config = Config::default();
        let check = |local, sampled, stride| {
            let schedule = AnchorSchedule {
                local,
                sampled,
                stride,
            };
            schedule.check(&config).is_ok()
        };
        assert!(check(0, 0, 1) && check(2, 9, 2) && check(23, 24, 5) && check(3, 0, 1));
        assert!(!check(24, 24, 1) && !check(2, 25, 1) && !check(5, 4, 1) && !check(2, 9, 0));
    }

    #[test]
    fn a_schedule_survives_text() {
        for text in ["2,9,2", "0,0,1"] {
            assert_eq!(text.parse::<AnchorSchedule>().unwrap().to_string(), text);
        }
        for text in ["", "2,9", "2,9,2,1", "-1,9,2", "a,b,c"] {
            let e = text.parse::<AnchorSchedule>().unwrap_err();
            assert!(e.to_string().contains("LOCAL,SAMPLED,STRIDE"), "{e}");
        }
    }

    #[test]
    fn sampled_patches_begin_with_the_first_row_and_column() {
        let grid = Grid {
            special: 2,
            rows: 3,
            columns: 4,
        };
        assert_eq!(grid.indices(2), [0, 1, 2, 4, 10, 12]);
        let positions = [(0, 0), (0, 0), (1, 1), (1, 3), (3, 1), (3, 3)];
        assert_eq!(grid.positions(2), positions);
        assert_eq!(grid.indices(1).len(), 2 + 3 * 4);
        assert_eq!(grid.patch_indices(100), [2]);
    }
}
