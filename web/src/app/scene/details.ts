import type { Job } from "../api";
import { openDialog } from "../dialog";
import { h } from "../dom";
import { bytes, dateAndTime, duration } from "../format";
import { showWarnings } from "./progress";

const NAMES: Record<string, string> = {
  prediction_mode: "Geometry",
  conf_thres: "Least confident points dropped",
  fps: "Frames per second",
  keyframes: "Sharpest frames",
  mask_sky: "Sky removed",
  mask_black_bg: "Black background removed",
  mask_white_bg: "White background removed",
  drop_edges: "Points at edges removed",
  drop_outliers: "Single points removed",
  refine: "Cameras refined with the pictures",
  show_cam: "Cameras in the GLB",
  max_points: "Most points",
  format: "GLB",
  attention: "Attention",
  anchors: "Anchors",
  drop_unrelated: "Unrelated pictures left out",
};

/** Shows what made a scene. */
export function detailsDialog(job: Job): void {
  const rows: [string, string][] = [];
  if (job.created_at) rows.push(["Submitted", dateAndTime(job.created_at)]);
  if (job.finished_at) rows.push(["Finished", dateAndTime(job.finished_at)]);
  if (job.created_at && job.finished_at) rows.push(["Took", duration((Date.parse(job.finished_at) - Date.parse(job.created_at)) / 1000)]);
  if (job.result) rows.push(["Size of the GLB", bytes(job.result.size)], ["Hash", job.result.hash]);
  rows.push(["Scale", job.meters_per_unit === undefined ? "not set: lengths are in the network's unit" : `1 unit is ${job.meters_per_unit.toPrecision(4)} m`]);
  for (const [key, value] of Object.entries(job.options ?? {})) {
    const name = NAMES[key];
    if (name && value !== null) rows.push([name, key === "conf_thres" ? `${value} %` : value === true ? "yes" : value === false ? "no" : String(value)]);
  }
  const warnings = h("ul", { class: "warnings" });
  showWarnings(warnings, job);
  openDialog("Details", warnings, h("dl", { class: "details" }, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}
