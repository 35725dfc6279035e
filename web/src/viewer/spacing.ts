// How far apart points are, which decides how large they are drawn.
import { DataTexture, FloatType, RGBAFormat, Vector3 } from "three";
import { type PointStore, WORDS } from "./points";
import { tangentsOf, type Pose } from "./poses";
import type { Camera } from "./scene";

/** Frames in a row of the texture; no card has fewer than 2048. */
const ROW = 1024;
/** A grid's step at distance 1 is at most this, so that few points do not become huge discs. */
const LARGEST_STEP = 0.02;
/** For how many points neighbors are counted, among how many, and how many are expected where nothing overlaps. */
const PROBES = 150;
const AMONG = 60_000;
const EXPECTED = 10;
const MOST_OVERLAP = 20;

export interface Spacing {
  /** Of each frame its camera in world space, and the step of the grid on which its points lie, at distance 1; 0: not known. */
  frames: DataTexture;
  /** Of all other points, and about that of all. */
  typical: number;
  /** How many frames show the same surface, at least in most places. */
  overlap: number;
}

/**
 * A frame's points lie on the grid of its pixels, so that they are the farther apart the farther away they are from its camera. Of all
 * frames the one with the most points tells the grid's step: in others more were left out. `depth` is typical of the scene.
 */
export function spacingOf(store: PointStore, cameras: Camera[], poses: (Pose | null)[], depth: number): Spacing {
  const width = Math.max(1, Math.min(ROW, store.frames));
  const data = new Float32Array(4 * width * Math.max(1, Math.ceil(store.frames / ROW)));
  const { hasFrames, frames: from = 1 } = store.block;
  const most = hasFrames ? store.perFrame.reduce((a, b) => Math.max(a, b), 1) : store.count / from;
  cameras.forEach((camera, i) => {
    const pose = poses[i];
    if (!pose || camera.frame >= store.frames) return;
    const [left, right, up, down] = tangentsOf(camera);
    const step = Math.sqrt(((left + right) * (up + down)) / most);
    if (Number.isFinite(step)) data.set([...pose.center.toArray(), Math.min(LARGEST_STEP, step)], 4 * camera.frame);
  });
  const frames = new DataTexture(data, width, data.length / 4 / width, RGBAFormat, FloatType);
  frames.needsUpdate = true;
  const step = data[3]! > 0 ? data[3]! : 1 / Math.max(70, 1.1 * Math.sqrt(most));
  return { frames, typical: depth * step, overlap: hasFrames ? overlapOf(store, data) : 1 };
}

/** Counts neighbors of some points, and compares with how many there would be if no other frame showed the same. */
function overlapOf({ floats, words, count }: PointStore, frames: Float32Array): number {
  // Points are in random order.
  const among = Math.min(AMONG, count);
  // So many steps of the grid around a point are as many neighbors as expected.
  const reach = Math.sqrt(EXPECTED / (Math.PI * (among / count)));
  const [probe, center] = [new Vector3(), new Vector3()];
  const found: number[] = [];
  for (let i = 0; i < Math.min(PROBES, count); i++) {
    const frame = 4 * words[WORDS * i + 4]!;
    const step = frames[frame + 3];
    if (!step) continue;
    probe.fromArray(floats, WORDS * i);
    const radius = reach * step * probe.distanceTo(center.fromArray(frames, frame));
    const least = radius * radius;
    let neighbors = -1;
    for (let at = 0; at < WORDS * among; at += WORDS) {
      const [x, y, z] = [floats[at]! - probe.x, floats[at + 1]! - probe.y, floats[at + 2]! - probe.z];
      if (x * x + y * y + z * z < least) neighbors += 1;
    }
    found.push(neighbors / EXPECTED);
  }
  // Where fewer frames overlap than elsewhere there must be no gaps either.
  const lower = found.sort((a, b) => a - b)[Math.floor(found.length / 4)] ?? 1;
  return Math.min(MOST_OVERLAP, Math.max(1, lower));
}

/** Area of a disc in cells of the grid, so that discs of a single grid leave no gap: each reaches the middle of four points. */
const GRID = Math.PI / 2;
/** Discs at random places that have so many times the area which they are to cover leave some 2 % of it free. */
const RANDOM = 4;
/** Discs of a sample grow to this at most: more of them show more. */
const LARGEST = 2.5 * GRID;

/** The diameter of discs in steps of the grid, when `share` of the points are drawn of frames that overlap so much. */
export function diameter(overlap: number, share: number): number {
  const area = Math.min(RANDOM / (overlap * share), GRID / share, LARGEST);
  return Math.sqrt((4 / Math.PI) * area);
}
