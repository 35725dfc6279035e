//! `--progress json`: what happens, one JSON object a line on standard error.
//!
//! Every object has a field `event`: `scene`, `start`, `step`, `warning`, `log`, `download` or `error`. Fields may be added.

use std::io;

use serde_json::{Value, json};
use vggt_model::progress::Stage as NetworkStage;

use super::{ProgressKind, line, settings};
use crate::{
    cli::plain::plain_json,
    pipeline::{Stage, Warning, Work},
};

/// Returns true when events take the place of text on standard error.
pub(in crate::cli) fn are_wanted() -> bool {
    settings().progress == ProgressKind::Json
}

/// Writes an event.
pub(in crate::cli) fn write(event: &str, fields: Value) {
    let mut object = json!({ "event": event });
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    let text = object.to_string();
    line(&mut io::stderr(), format_args!("{}", plain_json(&text)));
}

/// The work that begins.
pub(super) fn start(work: &Work) {
    write(
        "start",
        json!({
            "frames": work.frames,
            "width": work.size.1,
            "height": work.size.0,
            "anchors": work.anchors,
            "device": work.device,
            "threads": work.threads,
            "memory_bytes": work.memory_bytes,
            "seconds": work.seconds,
        }),
    );
}

/// A warning of a reconstruction: as in the service's replies, with what helps here.
pub(super) fn warning(warning: &Warning, cure: Option<&str>) {
    let mut fields = warning.to_json();
    fields.insert("cure".to_owned(), json!(cure));
    write("warning", fields.into());
}

/// Name of a stage for programs, as in the service's replies where it has the stage.
pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Decode => "decode",
        Stage::Describe => "describe",
        Stage::Frames => "frames",
        Stage::Sky => "sky",
        Stage::Refine => "refine",
        Stage::Write => "write",
        Stage::Network(NetworkStage::PatchEmbed) => "patch embed",
        Stage::Network(NetworkStage::FrameBlocks | NetworkStage::GlobalBlocks) => "aggregator",
        Stage::Network(NetworkStage::Camera) => "camera",
        Stage::Network(NetworkStage::Depth) => "depth",
        Stage::Network(NetworkStage::Point) => "points",
        Stage::Network(NetworkStage::Track) => "tracks",
    }
}
