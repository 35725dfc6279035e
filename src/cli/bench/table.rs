//! The report for people: a row for each number of frames, 80 columns wide.

use std::fmt::Write as _;

use serde_json::Value;

/// Parts of a pass, with their names in the report and here.
const PARTS: [(&str, &str); 9] = [
    ("patch_embed", "image features"),
    ("frame_blocks", "frame blocks"),
    ("global_blocks", "global blocks"),
    ("camera", "cameras"),
    ("depth", "depth"),
    ("point", "points"),
    ("part_anchors", "anchors"),
    ("part_frames", "other frames"),
    ("part_cameras", "cameras"),
];

/// Returns what holds for all rows, and their heading.
pub(super) fn heading(report: &Value) -> String {
    let text = |name: &str| report[name].as_str().unwrap_or("?");
    let mut out = format!(
        "weights  {}, loaded in {:.1} s\n",
        text("weights"),
        seconds(report, "load").unwrap_or_default()
    );
    let _ = match report["device"].as_str() {
        Some("cpu") => writeln!(
            out,
            "device   cpu ({}), {} threads, {}, {}",
            text("instructions"),
            report["threads"],
            text("dtype"),
            text("precision")
        ),
        _ => writeln!(out, "device   {}, {}", text("device"), text("dtype")),
    };
    let columns = [
        "seconds",
        "min",
        "max",
        "s/frame",
        "GFLOP/s",
        "% of peak",
        "GB",
    ];
    let [total, min, max, each, speed, share, memory] = columns;
    let _ = write!(
        out,
        "\nframes       size {total:>9}{min:>8}{max:>8}{each:>9}{speed:>9}{share:>11}{memory:>7}"
    );
    out
}

/// Returns the row of one number of frames, and below it the parts of the time.
pub(super) fn row(report: &Value) -> String {
    let size = format!("{}x{}", report["width"], report["height"]);
    let frames = report["frames"].as_u64().unwrap_or(1);
    let mut out = format!("{frames:>6}{size:>11} ");
    if let Some(why) = report["error"].as_str() {
        let _ = write!(out, "  failed: {why}");
        return out;
    }
    let number = |value: Option<f64>, width: usize, decimals: usize| match value {
        Some(value) => format!("{value:>width$.decimals$}"),
        None => format!("{:>width$}", "-"),
    };
    let total = seconds(report, "total");
    out += &number(total, 9, 2);
    out += &number(seconds(report, "total_min"), 8, 2);
    out += &number(seconds(report, "total_max"), 8, 2);
    out += &number(total.map(|total| total / frames as f64), 9, 2);
    out += &number(seconds(report, "transformer_gflop_per_s"), 9, 0);
    out += &number(
        seconds(report, "share_of_peak").map(|share| 100.0 * share),
        11,
        0,
    );
    let memory = seconds(report, "peak_device_bytes").or_else(|| seconds(report, "peak_rss_bytes"));
    out += &number(memory.map(|bytes| bytes / 1e9), 7, 1);
    let parts = PARTS.iter().filter_map(|(key, name)| {
        let part = seconds(report, key).filter(|part| *part > 0.0)?;
        Some(format!("{name} {part:.2}"))
    });
    let mut column = 0;
    for part in parts {
        let width = part.chars().count() + 2;
        // Where the numbers begin; 80 columns in all.
        let begins = column == 0 || column + width > 79;
        out += if begins { "\n       " } else { ", " };
        column = if begins {
            7 + width - 2
        } else {
            column + width
        };
        out += &part;
    }
    out
}

fn seconds(report: &Value, name: &str) -> Option<f64> {
    report[name].as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_stand_below_their_heading_within_80_columns() {
        let report = json!({
            "weights": "facebook/VGGT-1B", "load": 1.0, "device": "cpu", "instructions": "avx512",
            "threads": 16, "dtype": "f32", "precision": "exact", "frames": 4096, "width": 518, "height": 518,
            "total": 98765.432, "total_min": 9876.5, "total_max": 99999.99, "patch_embed": 12345.0, "frame_blocks": 12345.0,
            "global_blocks": 12345.0, "camera": 12345.0, "depth": 12345.0, "point": null,
            "transformer_gflop_per_s": 1234.5, "share_of_peak": 0.83, "peak_rss_bytes": 123_456_789_012u64,
        });
        let (heading, row) = (heading(&report), row(&report));
        let last = heading.lines().last().unwrap();
        assert_eq!(last.len(), row.lines().next().unwrap().len());
        for line in heading.lines().chain(row.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(
            row.contains("depth 12345.00") && !row.contains("points"),
            "{row}"
        );
        let failed = json!({"frames": 1, "width": 84, "height": 85, "error": "no memory"});
        assert!(super::row(&failed).ends_with("failed: no memory"));
    }
}
