//! All stages of a reconstruction as one fraction, with an estimate of the remaining time: for the terminal and the service.

use std::time::Instant;

use vggt_model::progress::Stage as NetworkStage;

use super::Stage;

/// Fraction of the work below which there is no estimate yet.
const ESTIMATE_FROM: f32 = 0.05;

/// A step of so much is none of this process's.
const LEAP: f32 = 0.1;

/// How far a reconstruction is.
#[derive(Debug, Clone)]
pub struct Overall {
    start: Instant,
    fraction: f32,
    /// The part of it that was done before `start`.
    earlier: f32,
}

impl Overall {
    /// Begins now, with nothing done.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            start: Instant::now(),
            fraction: 0.0,
            earlier: 0.0,
        }
    }

    /// Measures the pace from now on: what was done so far tells nothing of the rest.
    pub fn restart(&mut self) {
        self.start = Instant::now();
        self.earlier = self.fraction;
    }

    /// Notes a step, see [`super::Watcher::step`]; returns the name of its stage.
    pub fn step(&mut self, stage: Stage, done: usize, total: usize) -> &'static str {
        let (name, from, to) = share(stage);
        let part = if total == 0 {
            0.0
        } else {
            (done as f32 / total as f32).min(1.0)
        };
        // Frame and global blocks alternate and some steps are reported twice: the fraction never decreases.
        let before = self.fraction;
        self.fraction = before.max(from + (to - from) * part);
        // Frames of an earlier process come all at once; those of this one in many steps.
        if stage == Stage::Frames && self.fraction - before > LEAP {
            self.earlier += self.fraction - before;
        }
        name
    }

    /// Returns the part that is done, in [0, 1].
    #[must_use]
    pub fn fraction(&self) -> f32 {
        self.fraction
    }

    /// Returns the seconds until all is done, by the pace so far; `None` as long as there is none.
    #[must_use]
    pub fn seconds_left(&self) -> Option<f32> {
        let own = self.fraction - self.earlier;
        let elapsed = self.start.elapsed().as_secs_f32();
        (own > ESTIMATE_FROM).then(|| elapsed * (1.0 - self.fraction) / own)
    }
}

/// Returns a name of a stage that [`Overall::step`] returns, or that a job has around them, from its text.
pub fn stage_named(name: &str) -> Option<&'static str> {
    [
        "load",
        "decode",
        "patch embed",
        "aggregator",
        "camera",
        "depth",
        "points",
        "sky",
        "refine",
        "write",
        "storing",
    ]
    .into_iter()
    .find(|known| *known == name)
}

/// Returns the name of a stage and the fractions at its beginning and end, measured on a CPU: between those of the demo
/// and of VGGT-1B.
fn share(stage: Stage) -> (&'static str, f32, f32) {
    match stage {
        Stage::Decode => ("decode", 0.0, 0.05),
        Stage::Network(NetworkStage::PatchEmbed) => ("patch embed", 0.05, 0.3),
        Stage::Network(NetworkStage::FrameBlocks | NetworkStage::GlobalBlocks) => {
            ("aggregator", 0.3, 0.75)
        }
        Stage::Network(NetworkStage::Camera) => ("camera", 0.75, 0.77),
        Stage::Network(NetworkStage::Depth) => ("depth", 0.77, 0.87),
        Stage::Network(NetworkStage::Point | NetworkStage::Track) => ("points", 0.87, 0.97),
        // Under the names that clients know: frames are described by the patch embedding.
        Stage::Describe => ("patch embed", 0.05, 0.1),
        Stage::Frames => ("aggregator", 0.1, 0.97),
        Stage::Sky => ("sky", 0.97, 0.975),
        Stage::Refine => ("refine", 0.975, 0.98),
        Stage::Write => ("write", 0.98, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_known_by_its_name() {
        for stage in [
            Stage::Decode,
            Stage::Network(NetworkStage::PatchEmbed),
            Stage::Network(NetworkStage::GlobalBlocks),
            Stage::Network(NetworkStage::Camera),
            Stage::Network(NetworkStage::Depth),
            Stage::Network(NetworkStage::Track),
            Stage::Frames,
            Stage::Sky,
            Stage::Refine,
            Stage::Write,
        ] {
            let name = share(stage).0;
            assert_eq!(stage_named(name), Some(name));
        }
    }

    #[test]
    fn a_restart_forgets_the_pace_of_what_came_before() {
        let mut overall = Overall::begin();
        overall.step(Stage::Network(NetworkStage::Camera), 1, 1);
        assert!(overall.seconds_left().is_some());
        overall.restart();
        assert_eq!(overall.seconds_left(), None);
        overall.step(Stage::Network(NetworkStage::Point), 1, 1);
        assert!(overall.seconds_left().is_some_and(|s| s >= 0.0));
    }
}
