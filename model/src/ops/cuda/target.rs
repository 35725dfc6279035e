//! What the kernels were compiled for, and what of it a card runs.

#[cfg(feature = "cuda")]
use std::sync::LazyLock;

use super::ComputeCapability;

/// The targets of our own kernels.
#[cfg(feature = "cuda")]
pub(crate) static BUILT: LazyLock<Targets> = LazyLock::new(|| {
    Targets::new(
        env!("VGGT_CUDA_MACHINE_TARGETS"),
        env!("VGGT_CUDA_PTX_TARGET"),
    )
});

/// Compute capabilities that kernels were compiled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Those with machine code.
    pub machine: Vec<ComputeCapability>,
    /// That of the PTX, which a driver compiles.
    pub ptx: Option<ComputeCapability>,
}

/// `"75"` is 7.5.
fn of(number: &str) -> Option<ComputeCapability> {
    let number = number.parse().ok();
    number.map(|n: usize| ComputeCapability::new(n / 10, n % 10))
}

impl Targets {
    /// Reads what `build.rs` writes: versions without their point, as in `"75,80,90"` and `"90"`. Anything else is left
    /// out.
    pub fn new(machine: &str, ptx: &str) -> Self {
        Self {
            machine: machine.split(',').filter_map(of).collect(),
            ptx: of(ptx),
        }
    }

    /// The target whose code a card of this compute capability runs: machine code of its generation that is not newer than
    /// it, else PTX that is not newer; `None` when it can run nothing. Origin: CUDA's programming guide, application
    /// compatibility.
    pub fn on(&self, card: ComputeCapability) -> Option<ComputeCapability> {
        let machine = self.machine.iter().copied();
        machine
            .filter(|code| code.major == card.major && *code <= card)
            .max()
            .or(self.ptx.filter(|code| *code <= card))
    }
}

/// The compute capability that candle's kernels were compiled for, all of them PTX, where the build said so: see `build.rs`.
#[cfg(feature = "cuda")]
pub(crate) fn of_candle() -> Option<ComputeCapability> {
    option_env!("VGGT_CUDA_COMPUTE_CAP").and_then(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the code that a card runs, both as major and minor number.
    fn on(targets: &Targets, (major, minor): (usize, usize)) -> Option<(usize, usize)> {
        let code = targets.on(ComputeCapability::new(major, minor))?;
        Some((code.major, code.minor))
    }

    #[test]
    fn a_card_runs_the_newest_code_that_it_can() {
        let usual = Targets::new("80,89,90", "90");
        for (card, code) in [
            ((7, 5), None),
            ((8, 0), Some((8, 0))),
            ((8, 6), Some((8, 0))),
            ((8, 9), Some((8, 9))),
            ((9, 0), Some((9, 0))),
            // Later generations compile the PTX.
            ((10, 0), Some((9, 0))),
            ((12, 0), Some((9, 0))),
        ] {
            assert_eq!(on(&usual, card), code, "{card:?}");
        }
    }

    #[test]
    fn code_for_older_cards_is_older_code_on_newer_ones() {
        // Such a program has no tensor cores on an A100: its attention must not take the kernel for them.
        let old = Targets::new("75", "75");
        assert_eq!(on(&old, (7, 5)), Some((7, 5)));
        assert_eq!(on(&old, (8, 0)), Some((7, 5)));
        assert_eq!(on(&old, (7, 0)), None);
        // Machine code of 7.5 runs on no card of 8.x, and PTX of 9.0 on none before it.
        let gap = Targets::new("75,90", "90");
        assert_eq!(on(&gap, (8, 6)), None);
        // 90a alone has no PTX.
        let alone = Targets::new("90", "");
        assert_eq!(on(&alone, (9, 0)), Some((9, 0)));
        assert_eq!(on(&alone, (10, 0)), None);
    }
}
