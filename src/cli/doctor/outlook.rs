//! What this machine can do, before any check: memory, how many frames fit, and how long they take.

use std::fmt::Write as _;

use candle_core::{DType, Device};
use serde_json::{Value, json};
use vggt_model::{
    Config,
    anchors::{AnchorSchedule, DEFAULT_ANCHORS, DENSE_FRAMES},
    cost::{Anchored, Engine, frames_that_fit, transformer_flops},
    cuda, default_dtype, demo,
    weights::Weights,
};

use super::{machine::Machine, weights::WeightsState};
use crate::{
    cli::model_args::ModelArgs,
    frames::video_codecs,
    pipeline::{NetworkSource, available_memory, in_words, seconds_on_cpu},
};

/// Height and width of the images that the forecast is for: photos of 4:3.
const SIZE: (usize, usize) = (392, 518);

/// Numbers of images that the forecast is for.
const IMAGES: [usize; 3] = [10, 50, 100];

/// Bytes of VGGT-1B in F32, which are read where they lie: 1.26 billion parameters.
const VGGT_1B_BYTES: u64 = 5_030_000_000;

/// Codecs that phones record in: a program for videos that lacks one is broken.
const NEEDED: [&str; 2] = ["H.264", "HEVC"];

/// Columns of a line.
const WIDTH: usize = 80;

/// Columns in front of what a line says.
const LABEL: usize = 9;

/// What this machine can do.
pub(super) struct Outlook {
    /// Bytes of memory, of the machine, if it says so.
    total: Option<u64>,
    /// Bytes of memory that a process can have now, on the device.
    free: Option<u64>,
    /// Frames of [`SIZE`] that fit beside the weights.
    fitting: Option<usize>,
    /// Seconds for each of [`IMAGES`].
    seconds: Option<[f64; 3]>,
    threads: usize,
    codecs: Vec<(&'static str, bool)>,
}

impl Outlook {
    /// Looks at the machine and the dimensions of the weights, or of VGGT-1B where there are none.
    pub(super) fn of(
        device: &Device,
        model: &ModelArgs,
        weights: &WeightsState,
    ) -> anyhow::Result<Self> {
        let (config, bytes) = network(model, weights)?;
        let dtype = match model.dtype {
            Some(dtype) => dtype,
            None => default_dtype(device)?,
        };
        let free = match device.is_cpu() {
            true => available_memory(),
            false => cuda::free_device_bytes(device),
        };
        // As `Network::memory_for_a_pass`: a fifth stays free, and weights that lie in a file count when they are read.
        let available = free.map(|free| free.saturating_sub(bytes) / 5 * 4);
        let engine = Engine::of(device);
        let fitting = available.map(|bytes| frames_that_fit(&config, SIZE, dtype, engine, bytes));
        let most = fitting.unwrap_or(usize::MAX).min(DENSE_FRAMES);
        let seconds = |count| seconds_on_cpu(flops(&config, count, most), model.precision);
        let seconds = match device.is_cpu() {
            true => IMAGES.map(seconds).into_iter().collect::<Option<Vec<_>>>(),
            false => None,
        };
        Ok(Self {
            total: total_memory(),
            free,
            fitting,
            seconds: seconds.and_then(|seconds| seconds.try_into().ok()),
            threads: rayon::current_num_threads(),
            codecs: video_codecs(),
        })
    }

    /// What a program for videos needs and does not have.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let missing = self.codecs.iter().filter(|(_, there)| !there);
        let names = missing.map(|(name, _)| *name);
        names.filter(|name| NEEDED.contains(name)).collect()
    }

    /// The first lines of the report.
    pub(super) fn lines(&self, machine: &Machine, weights: &WeightsState) -> String {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let memory = match (self.free, self.total) {
            (Some(free), Some(total)) => {
                format!("{:.1} of {:.1} GB can be had now", gb(free), gb(total))
            }
            (Some(free), None) => format!("{:.1} GB can be had now", gb(free)),
            _ => "not known here".to_owned(),
        };
        let images = match self.fitting {
            Some(fitting) => format!(
                "{} images of {} x {} fit at once; of more, all attend to {DEFAULT_ANCHORS} anchors",
                fitting.min(DENSE_FRAMES),
                SIZE.1,
                SIZE.0
            ),
            None => "memory is not known here".to_owned(),
        };
        let time = match &self.seconds {
            Some(seconds) => {
                let each = IMAGES.iter().zip(seconds);
                let each = each.map(|(count, s)| format!("{count} images {}", in_words(*s)));
                format!("{} (estimated)", each.collect::<Vec<_>>().join(", "))
            }
            None => "not estimated here; `vggt bench` measures it".to_owned(),
        };
        let there: Vec<&str> = self
            .codecs
            .iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| *name)
            .collect();
        let missing: Vec<&str> = self
            .codecs
            .iter()
            .filter(|(_, there)| !there)
            .map(|(name, _)| *name)
            .collect();
        let mut videos = match there.is_empty() {
            true => "none: this program was built without them".to_owned(),
            false => there.join(", "),
        };
        if !missing.is_empty() {
            let _ = write!(videos, "; not {}", missing.join(", "));
        }
        let mut text = String::new();
        for (label, says) in [
            ("vggt", env!("VGGT_VERSION").to_owned()),
            ("device", machine.line()),
            ("threads", self.threads.to_string()),
            ("memory", memory),
            ("frames", images),
            ("time", time),
            ("videos", videos),
            ("weights", weights.line()),
        ] {
            line(&mut text, label, &says);
        }
        text
    }

    /// The same for programs.
    pub(super) fn describe(&self, report: &mut Value) {
        report["version"] = json!(env!("VGGT_VERSION"));
        report["memory_total_bytes"] = json!(self.total);
        report["memory_available_bytes"] = json!(self.free);
        report["frames_that_fit"] = json!(self.fitting);
        report["threads"] = json!(self.threads);
        let seconds = self.seconds.iter().flatten();
        let expected = IMAGES.iter().zip(seconds);
        report["expected_seconds"] = expected
            .map(|(count, seconds)| (count.to_string(), json!(seconds)))
            .collect();
        report["video_codecs"] = self
            .codecs
            .iter()
            .map(|(name, there)| ((*name).to_owned(), json!(there)))
            .collect();
    }
}

/// Adds a line, wrapped at words.
pub(super) fn line(text: &mut String, label: &str, says: &str) {
    let _ = write!(text, "{label:<LABEL$}");
    let mut column = LABEL;
    for (i, word) in says.split(' ').enumerate() {
        let length = word.chars().count();
        if i > 0 && column + 1 + length > WIDTH {
            let _ = write!(text, "\n{:LABEL$}", "");
            column = LABEL;
        } else if i > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

/// Dimensions of the network, and bytes of its weights that a pass reads from their file.
fn network(model: &ModelArgs, weights: &WeightsState) -> anyhow::Result<(Config, u64)> {
    let of = |weights: &Weights| {
        let entries = weights
            .iter()
            .filter(|(_, entry)| entry.dtype == DType::F32);
        entries
            .map(|(_, entry)| 4 * entry.elem_count() as u64)
            .sum::<u64>()
    };
    Ok(match weights {
        WeightsState::Bundled { .. } => (demo::config()?, of(&demo::weights()?)),
        WeightsState::Absent(_) => (
            match &model.config {
                Some(path) => Config::open(path)?,
                None => Config::default(),
            },
            VGGT_1B_BYTES,
        ),
        WeightsState::File { path, .. } => {
            let source = NetworkSource::File {
                weights: path.into(),
                name: None,
                sha256: None,
                config: model.config.clone(),
            };
            let config = match source.config_file() {
                Some(path) => Config::open(&path)?,
                None => Config::default(),
            };
            (config, of(&Weights::open(path)?))
        }
    })
}

/// Operations for so many images, of which `most` attend to each other.
fn flops(config: &Config, count: usize, most: usize) -> u64 {
    if count <= most {
        return transformer_flops(config, count, SIZE);
    }
    let anchors = DEFAULT_ANCHORS.min(count);
    let cost = Anchored {
        config,
        size: SIZE,
        anchors,
        schedule: AnchorSchedule::of(config),
        dtype: DType::F32,
        cache_dtype: DType::F16,
        engine: Engine::Cpu,
    };
    cost.flops_of_anchors() + (count - anchors) as u64 * cost.flops_of_frame()
}

/// Bytes of memory of the machine; of a control group only what it leaves is known.
fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
impl Outlook {
    /// An outlook of a machine of 16 GB.
    pub(super) fn example() -> Self {
        Self {
            total: Some(16_000_000_000),
            free: Some(12_000_000_000),
            fitting: Some(24),
            seconds: Some([40.0, 400.0, 8000.0]),
            threads: 2,
            codecs: vec![("H.264", true), ("HEVC", true), ("AV1", false)],
        }
    }

    /// As [`Outlook::example`], without what phones record in.
    pub(super) fn without_codecs() -> Self {
        Self {
            codecs: vec![("H.264", false), ("AV1", false)],
            ..Self::example()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_at_words_below_their_beginning() {
        let mut text = String::new();
        line(&mut text, "memory", &"word ".repeat(20));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("memory   word") && lines[1].starts_with("         word"));
        assert!(lines.iter().all(|line| line.trim_end().len() <= WIDTH));
    }

    #[test]
    fn hundred_images_take_longer_than_ten() {
        let config = Config::default();
        let ten = flops(&config, 10, 60);
        assert!(flops(&config, 100, 60) > 5 * ten);
        assert!(flops(&config, 50, 20) > flops(&config, 20, 20));
    }
}
