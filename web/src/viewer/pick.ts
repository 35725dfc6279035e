// Which point, which camera lies under a place on the canvas.
import { Matrix4, Vector3 } from "three";
import type { Stage } from "./stage";

/** What lies so little behind the nearest, in parts of its depth, belongs to the same surface. */
const SAME_SURFACE = 0.02;

export interface Hit {
  /** In world space. */
  place: Vector3;
  /** Distance along the view. */
  depth: number;
}

/** The shown point nearest to x and y (CSS pixels), of the front surface within `radius`; null where there is none. */
export function pickPoint(stage: Stage, x: number, y: number, radius: number): Hit | null {
  const { camera, cloud, width, height } = stage;
  if (!cloud) return null;
  const clip = new Matrix4()
    .multiplyMatrices(camera.matrixWorldInverse, cloud.object.matrixWorld)
    .premultiply(camera.projectionMatrix);
  const m = clip.elements;
  const [atX, atY] = [(2 * x) / width - 1, 1 - (2 * y) / height];
  const [scaleX, scaleY] = [width / 2, height / 2];
  const near: { depth: number; off: number; place: [number, number, number] }[] = [];
  let least = Infinity;
  cloud.store.forEachShown((px, py, pz) => {
    const depth = m[3]! * px + m[7]! * py + m[11]! * pz + m[15]!;
    if (!(depth > camera.near && depth < least * (1 + SAME_SURFACE))) return;
    const dx = ((m[0]! * px + m[4]! * py + m[8]! * pz + m[12]!) / depth - atX) * scaleX;
    const dy = ((m[1]! * px + m[5]! * py + m[9]! * pz + m[13]!) / depth - atY) * scaleY;
    const off = Math.hypot(dx, dy);
    if (off > radius) return;
    least = Math.min(least, depth);
    near.push({ depth, off, place: [px, py, pz] });
  });
  const front = near.filter(({ depth }) => depth <= least * (1 + SAME_SURFACE)).sort((a, b) => a.off - b.off)[0];
  return front ? { place: new Vector3(...front.place), depth: front.depth } : null;
}
