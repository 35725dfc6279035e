//! The table in `model/kernels/README.md` says what the functions say.

use candle_core::DType;
use vggt_model::{
    Config,
    ops::cuda::work::{Card, OpWork, aggregator, aggregator_bytes},
    state_dict_keys,
};

const README: &str = include_str!("../../kernels/README.md");

/// Where the table is.
const BEGIN: &str = "<!-- table: tests/kernels/paper.rs -->\n";
const END: &str = "<!-- end of table -->";

/// Frames, and what upstream publishes for them on an H100: seconds and GB of the aggregator. Origin: the table "Runtime and GPU
/// Memory" of facebookresearch/vggt's README, with FlashAttention-3. It does not say for which size of pictures.
const PUBLISHED: [(usize, f64, f64); 3] = [(1, 0.04, 1.88), (10, 0.14, 3.63), (100, 3.12, 21.15)];

/// Height and width.
const SIZE: (usize, usize) = (392, 518);

fn work(s: usize) -> Vec<OpWork> {
    aggregator(&Config::default(), s, SIZE, DType::BF16)
}

fn seconds(s: usize) -> f64 {
    work(s).iter().map(|op| Card::H100.seconds(op)).sum()
}

/// GB of memory with VGGT-1B's weights.
fn memory(s: usize) -> f64 {
    let config = Config::default();
    let weights = state_dict_keys(&config).unwrap();
    let of_aggregator = weights
        .iter()
        .filter(|(name, _)| name.starts_with("aggregator."));
    let numbers: usize = of_aggregator
        .map(|(_, dims)| dims.iter().product::<usize>())
        .sum();
    aggregator_bytes(&config, numbers as u64, s, SIZE, DType::BF16) as f64 / 1e9
}

fn table() -> String {
    let mut lines = vec![
        "| call | by | 1 frame: GB | TFLOP | ms | 10: GB | TFLOP | ms | 100: GB | TFLOP | ms |"
            .to_owned(),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    let cells = |bytes: u64, flops: u64, seconds: f64| {
        let flops = match flops {
            0 => String::new(),
            flops => format!("{:.2}", flops as f64 / 1e12),
        };
        format!(
            " {:.2} | {flops} | {:.2} |",
            bytes as f64 / 1e9,
            seconds * 1e3
        )
    };
    let all = PUBLISHED.map(|(s, ..)| work(s));
    for (i, op) in all[0].iter().enumerate() {
        let by = if op.ours { "ours" } else { "candle" };
        let by = if op.flops > 0 && !op.ours {
            "cuBLAS"
        } else {
            by
        };
        let mut line = format!("| {} | {by} |", op.name);
        for of_size in &all {
            let op = &of_size[i];
            line += &cells(op.bytes, op.flops, Card::H100.seconds(op));
        }
        lines.push(line);
    }
    let mut line = "| **sum** | |".to_owned();
    for (of_size, (s, ..)) in all.iter().zip(PUBLISHED) {
        let bytes = of_size.iter().map(|op| op.bytes).sum();
        line += &cells(bytes, of_size.iter().map(|op| op.flops).sum(), seconds(s));
    }
    lines.push(line);
    lines.push(String::new());
    lines.push(
        "| frames | expected here, s | published, s | expected here, GB | published, GB |"
            .to_owned(),
    );
    lines.push("|--:|--:|--:|--:|--:|".to_owned());
    for (s, published, gb) in PUBLISHED {
        lines.push(format!(
            "| {s} | {:.3} | {published} | {:.2} | {gb} |",
            seconds(s),
            memory(s)
        ));
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_table_on_paper_is_the_functions() {
    let (_, rest) = README.split_once(BEGIN).unwrap();
    let (written, _) = rest.split_once(END).unwrap();
    let computed = table();
    assert!(written == computed, "the table should be:\n{computed}");
}

#[test]
fn the_expectation_is_near_what_is_published() {
    for (s, published, gb) in PUBLISHED {
        // Upstream's single frame is slower than the card: it waits for Python. Its memory holds what all layers gave.
        let ratio = seconds(s) / published;
        assert!((0.1..2.0).contains(&ratio), "{s} frames: {ratio}");
        let ratio = memory(s) / gb;
        assert!((0.2..1.3).contains(&ratio), "{s} frames: {ratio}");
    }
}
