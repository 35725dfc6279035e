// Cameras as positions and axes in world space.
import { Matrix4, Vector3 } from "three";
import type { Camera } from "./scene";

/** Where a camera stands and looks. */
export interface Pose {
  center: Vector3;
  right: Vector3;
  down: Vector3;
  forward: Vector3;
}

/** The pose of a camera; null when it is not finite. */
export function poseOf({ camera_from_world: m }: Camera): Pose | null {
  const rows = m.slice(0, 3);
  if (rows.length < 3 || !rows.every((row) => row.length === 4 && row.every(Number.isFinite))) return null;
  const [right, down, forward] = rows.map(([x, y, z]) => new Vector3(x, y, z)) as [Vector3, Vector3, Vector3];
  if ([right, down, forward].some((axis) => axis.length() < 1e-6)) return null;
  // The inverse of a rotation is its transpose.
  const center = new Vector3();
  [right, down, forward].forEach((axis, i) => center.addScaledVector(axis, -rows[i]![3]!));
  return { center, right: right.normalize(), down: down.normalize(), forward: forward.normalize() };
}

/** world_from_camera with three's axes: x right, y up, z back. */
export function matrixOf({ center, right, down, forward }: Pose): Matrix4 {
  return new Matrix4().makeBasis(right, down.clone().negate(), forward.clone().negate()).setPosition(center);
}

/** Tangents of the view that a camera has beyond its axis: left, right, up and down. */
export function tangentsOf({ width, height, fx, fy, cx, cy }: Camera): [number, number, number, number] {
  return [cx / fx, (width - cx) / fx, cy / fy, (height - cy) / fy];
}

/** Corners of the image plane at `depth` in world space: top left, top right, bottom right, bottom left. */
export function cornersOf(camera: Camera, pose: Pose, depth: number): Vector3[] {
  const [left, right, up, down] = tangentsOf(camera);
  const corner = (x: number, y: number) =>
    pose.center
      .clone()
      .addScaledVector(pose.forward, depth)
      .addScaledVector(pose.right, x * depth)
      .addScaledVector(pose.down, y * depth);
  return [corner(-left, -up), corner(right, -up), corner(right, down), corner(-left, down)];
}
