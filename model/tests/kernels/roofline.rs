//! The table in `model/kernels/README.md` is what the cost model computes.

use candle_core::DType;
use vggt_model::{
    Config,
    cost::{Card, Engine, OpWork, aggregator, aggregator_bytes, camera_head, dense_head},
    state_dict_keys,
};

const README: &str = include_str!("../../kernels/README.md");

/// Where the table is.
const BEGIN: &str = "<!-- table: tests/kernels/roofline.rs -->\n";
const END: &str = "<!-- end of table -->";

/// Frames, and what upstream publishes for them on an H100: seconds and GB of the aggregator. Origin: the table "Runtime and GPU
/// Memory" of facebookresearch/vggt's README, with FlashAttention-3. The paper's runtime paragraph gives the size of the images,
/// 336 x 518.
const PUBLISHED: [(usize, f64, f64); 3] = [(1, 0.04, 1.88), (10, 0.14, 3.63), (100, 3.12, 21.15)];

/// Height and width.
const SIZE: (usize, usize) = (336, 518);

/// What a table's section is made of, for `s` frames.
struct Estimate {
    aggregator: Vec<OpWork>,
    camera: Vec<OpWork>,
    /// Of the depth head and the point head together.
    dense: Vec<OpWork>,
}

impl Estimate {
    fn of(s: usize) -> Self {
        let config = Config::default();
        let mut dense = dense_head(&config, s, SIZE);
        for op in &mut dense {
            op.calls *= 2;
            op.bytes *= 2;
            op.flops *= 2;
            op.instructions *= 2;
        }
        Self {
            aggregator: aggregator(&config, s, SIZE, DType::BF16),
            camera: camera_head(&config, s),
            dense,
        }
    }

    fn all(&self) -> impl Iterator<Item = &OpWork> {
        [&self.aggregator, &self.camera, &self.dense]
            .into_iter()
            .flatten()
    }
}

fn seconds<'a>(work: impl IntoIterator<Item = &'a OpWork>) -> f64 {
    work.into_iter().map(|op| Card::H100.seconds(op)).sum()
}

/// GB of memory of the aggregator with VGGT-1B's weights.
fn memory(s: usize) -> f64 {
    let config = Config::default();
    let weights = state_dict_keys(&config).unwrap();
    let of_aggregator = weights
        .iter()
        .filter(|(name, _)| name.starts_with("aggregator."));
    let elements: usize = of_aggregator
        .map(|(_, dims)| dims.iter().product::<usize>())
        .sum();
    let weights = (elements * DType::BF16.size_in_bytes()) as u64;
    (weights + aggregator_bytes(&config, s, SIZE, DType::BF16, Engine::Cuda)) as f64 / 1e9
}

/// Cells of a row, for one number of frames.
fn cells<'a>(work: impl IntoIterator<Item = &'a OpWork> + Clone) -> String {
    let sum = |of: fn(&OpWork) -> u64| work.clone().into_iter().map(of).sum::<u64>() as f64;
    let flops = match sum(|op| op.flops) {
        0.0 => String::new(),
        flops => format!("{:.2}", flops / 1e12),
    };
    format!(
        " {:.2} | {flops} | {:.2} |",
        sum(|op| op.bytes) / 1e9,
        seconds(work) * 1e3
    )
}

fn table() -> String {
    let mut lines = vec![
        "| call | by | 1 frame: GB | TFLOP | ms | 10: GB | TFLOP | ms | 100: GB | TFLOP | ms |"
            .to_owned(),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    let estimates = PUBLISHED.map(|(s, ..)| Estimate::of(s));
    type Part = fn(&Estimate) -> &[OpWork];
    let sections: [(&str, Part); 3] = [
        ("aggregator", |e| &e.aggregator),
        ("camera head", |e| &e.camera),
        ("depth and point head", |e| &e.dense),
    ];
    for (title, part) in sections {
        let first = part(&estimates[0]);
        for (i, op) in first.iter().enumerate().filter(|_| first.len() > 1) {
            let by = match (op.ours, op.flops > 0) {
                (true, _) => "ours",
                (false, true) => "cuBLAS",
                (false, false) => "candle",
            };
            let of_sizes: String = estimates.iter().map(|e| cells([&part(e)[i]])).collect();
            lines.push(format!("| {} | {by} |{of_sizes}", op.name));
        }
        let sums: String = estimates.iter().map(|e| cells(part(e))).collect();
        lines.push(format!("| **{title}** | |{sums}"));
    }
    let sums: String = (estimates.iter())
        .map(|e| cells(e.all().collect::<Vec<_>>()))
        .collect();
    lines.push(format!("| **whole pass** | |{sums}"));
    lines.push(String::new());
    lines.push(
        "| frames | aggregator, estimated s | published s | estimated GB | published GB | whole pass, estimated s |".to_owned(),
    );
    lines.push("|--:|--:|--:|--:|--:|--:|".to_owned());
    for ((s, published, gb), estimate) in PUBLISHED.iter().zip(&estimates) {
        lines.push(format!(
            "| {s} | {:.3} | {published} | {:.2} | {gb} | {:.3} |",
            seconds(&estimate.aggregator),
            memory(*s),
            seconds(estimate.all())
        ));
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_table_is_what_the_cost_model_computes() {
    let (_, rest) = README.split_once(BEGIN).unwrap();
    let (written, _) = rest.split_once(END).unwrap();
    let computed = table();
    assert!(written == computed, "the table should be:\n{computed}");
}

#[test]
fn the_estimate_is_near_what_is_published() {
    for (s, published, gb) in PUBLISHED {
        // Upstream's single frame is slower than the card: it waits for Python. Its memory holds what all layers gave.
        let ratio = seconds(&Estimate::of(s).aggregator) / published;
        assert!((0.1..2.0).contains(&ratio), "{s} frames: {ratio}");
        let ratio = memory(s) / gb;
        assert!((0.2..1.3).contains(&ratio), "{s} frames: {ratio}");
    }
}
