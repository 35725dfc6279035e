// From where a scene is seen first.
import { Matrix4, Vector3 } from "three";
import type { Pose } from "./poses";

/** Field of view along the shorter side of the window, in degrees. */
export const FIELD = 50;
const TAN_HALF_FIELD = Math.tan(((FIELD / 2) * Math.PI) / 180);
/** This share of the points is seen at the start; the rest are often strays. */
const SEEN = 0.95;

/** Eye and pivot in three's space. */
export interface View {
  eye: Vector3;
  target: Vector3;
}

/** Tangents of half the field of view, across and up, for a window of this width by height. */
export function tangents(aspect: number): [number, number] {
  return [TAN_HALF_FIELD * Math.max(1, aspect), TAN_HALF_FIELD * Math.max(1, 1 / aspect)];
}

/** The depth of the middle one of `sample`'s points before `pose`; 1 when most lie behind. */
export function medianDepth(sample: Float64Array, { center, forward }: Pose): number {
  const depths = new Float64Array(sample.length / 3);
  for (let i = 0; i < depths.length; i++) {
    depths[i] =
      (sample[3 * i]! - center.x) * forward.x +
      (sample[3 * i + 1]! - center.y) * forward.y +
      (sample[3 * i + 2]! - center.z) * forward.z;
  }
  const median = depths.sort()[Math.floor((depths.length - 1) / 2)] ?? 1;
  return median > 0 ? median : 1;
}

/**
 * Straight behind the first camera, as far back as it takes to see most points of `sample` and all `corners` of the cameras' shapes,
 * all in world space. One turns about the point at the median depth.
 */
export function firstView(pose: Pose, sample: Float64Array, corners: Vector3[], threeFromWorld: Matrix4, aspect: number): View {
  const eye = pose.center.clone().applyMatrix4(threeFromWorld);
  const forward = pose.forward.clone().transformDirection(threeFromWorld);
  // Level, unless one looks straight up or down.
  const right = forward.clone().cross(new Vector3(0, 1, 0));
  if (right.length() < 1e-3) right.copy(pose.right).transformDirection(threeFromWorld);
  right.normalize();
  const up = right.clone().cross(forward);
  const [tanX, tanY] = tangents(aspect);
  const from = new Vector3();
  // So far back the eye must go to see a point.
  const stepTo = (x: number, y: number, z: number) => {
    from.set(x, y, z).applyMatrix4(threeFromWorld).sub(eye);
    return Math.max(Math.abs(from.dot(right)) / tanX, Math.abs(from.dot(up)) / tanY) - from.dot(forward);
  };
  const steps = new Float64Array(sample.length / 3)
    .map((_, i) => stepTo(sample[3 * i]!, sample[3 * i + 1]!, sample[3 * i + 2]!))
    .sort();
  const depth = medianDepth(sample, pose);
  // Somewhat behind the cameras: within a shape one would not see it.
  const toCorners = corners.length ? Math.max(...corners.map(({ x, y, z }) => stepTo(x, y, z))) + depth / 4 : 0;
  const step = Math.max(0, steps[Math.floor((steps.length - 1) * SEEN)] ?? 0, toCorners);
  return { eye: eye.clone().addScaledVector(forward, -step), target: eye.clone().addScaledVector(forward, depth) };
}
