// States, stages and failures in words.

import type { Job } from "./api";
import { counted, sentence, timeLeft } from "./format";
import { uploadOf } from "./upload";

const STAGES: Record<string, string> = {
  load: "Loading the network",
  decode: "Reading the pictures",
  "patch embed": "Looking at each picture",
  aggregator: "Comparing the pictures",
  camera: "Finding the cameras",
  depth: "Computing depth",
  points: "Computing points",
  sky: "Finding the sky",
  write: "Building the scene",
  storing: "Storing the scene",
};

/** How a job stands, in a few words. */
export function stateText(job: Job): string {
  switch (job.state) {
    case "uploading":
      return uploadOf(job.id)?.isActive ? `Uploading, ${sentPercent(job)} %` : "Upload not finished";
    case "queued":
      return job.place ? `Waiting: ${counted(job.place, "job")} before it` : "Waiting: next in line";
    case "running":
      return STAGES[job.stage ?? ""] ?? "Working";
    case "done":
      return job.result ? "Done" : "Result deleted";
    case "failed":
      return "Failed";
    case "cancelled":
      return "Cancelled";
  }
}

function sentPercent({ uploads = [] }: Job): number {
  const length = uploads.reduce((sum, file) => sum + file.length, 0);
  return length > 0 ? Math.floor((100 * uploads.reduce((sum, file) => sum + file.offset, 0)) / length) : 0;
}

/** The same with the time that is left. */
export function progressText(job: Job): string {
  const left = job.state === "running" && job.seconds_left !== undefined ? `, ${timeLeft(job.seconds_left)}` : "";
  return stateText(job) + left;
}

/** What helps after a failure, by words of its reason. */
const CURES: [RegExp, string][] = [
  [/memory|fit/i, "Use fewer photos, or choose \u201cAnchors\u201d under Attention, which needs less memory."],
  [/video|clip/i, "Check that the video plays on your device, or take photos out of it and send these."],
  [/HEIC|AVIF|format|picture|image|photo|read|decode/i, "Remove that file, or save it as JPEG, and try again."],
  [/hours|time|long/i, "Use fewer photos or frames."],
  [/quota|space|disk/i, "Delete scenes that you do not need any more, then try again."],
];

/** Why a job failed, and what to do. */
export function failureText(job: Job): { reason: string; cure: string } {
  const reason = job.reason ?? "The cause is not known";
  const cure = CURES.find(([words]) => words.test(reason))?.[1] ?? "Try it again. If it fails again, ask who runs this server: its log has more.";
  return { reason: sentence(reason), cure };
}
