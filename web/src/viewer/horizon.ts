// Which way is up.
import { Matrix4, Quaternion, Vector3 } from "three";
import type { Pose } from "./poses";

/** World space to three's, y up and z back, before the horizon is level. */
const THREE_FROM_WORLD = new Matrix4().makeScale(1, -1, -1);
/** How much the mean of the cameras' own up counts against their being held level: more than hands shake, (2 degrees)^2 = 0.001. */
const WEIGHT_OF_MEAN = 0.005;

/**
 * Up in world space, as the cameras were held: near the mean of their up axes, and as square as can be to their right axes, since people
 * hold cameras level but look up and down. Minimizes u^T (mean(x x^T) + w (I - m m^T)) u, which is the mean itself for one camera.
 */
export function upOf(poses: Pose[]): Vector3 {
  const mean = new Vector3();
  for (const { down } of poses) mean.sub(down);
  if (mean.length() < 1e-3 * Math.max(1, poses.length)) return new Vector3(0, -1, 0);
  mean.normalize();
  const m = mean.toArray();
  const matrix = [0, 1, 2].map((r) =>
    [0, 1, 2].map((c) => {
      const right = poses.reduce((sum, pose) => sum + pose.right.getComponent(r) * pose.right.getComponent(c), 0) / poses.length;
      return right + WEIGHT_OF_MEAN * ((r === c ? 1 : 0) - m[r]! * m[c]!);
    }),
  );
  const up = smallestEigenvector(matrix, mean);
  // Cameras that were turned by a quarter: their own up is the better guess.
  return up.dot(mean) > 0.7 ? up : mean;
}

/** By powers of (trace I - A), whose largest eigenvalue belongs to the smallest of A. */
function smallestEigenvector(a: number[][], start: Vector3): Vector3 {
  const trace = a[0]![0]! + a[1]![1]! + a[2]![2]!;
  let v = start.clone();
  for (let i = 0; i < 2000; i++) {
    const [x, y, z] = v.toArray();
    const next = new Vector3(
      ...(a.map((row, r) => trace * v.getComponent(r) - (row[0]! * x + row[1]! * y + row[2]! * z)) as [number, number, number]),
    );
    next.normalize();
    const moved = next.distanceTo(v);
    v = next;
    if (moved < 1e-9) break;
  }
  return v;
}

/** three_from_world with this direction of world space as y. */
export function levelMatrix(up: Vector3): Matrix4 {
  const turned = up.clone().transformDirection(THREE_FROM_WORLD);
  const rotation = new Quaternion().setFromUnitVectors(turned, new Vector3(0, 1, 0));
  return new Matrix4().makeRotationFromQuaternion(rotation).multiply(THREE_FROM_WORLD);
}
