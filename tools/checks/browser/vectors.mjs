// Arithmetic of the checks. Matrices are column by column.

export const minus = (a, b) => a.map((x, i) => x - b[i]);
export const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
export const length = (a) => Math.hypot(...a);
export const unit = (a) => a.map((x) => x / length(a));
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

/** Where a matrix takes a point: x and y in the window from -1 to 1, the depth w, and whether it is in the window. */
export function project(clip, p) {
  const [clipX, clipY, z, w] = [0, 1, 2, 3].map((r) => clip[r] * p[0] + clip[r + 4] * p[1] + clip[r + 8] * p[2] + clip[r + 12]);
  return { x: clipX / w, y: clipY / w, clipX, clipY, w, inside: Math.abs(clipX) <= w && Math.abs(clipY) <= w && z >= -w };
}

/** Directions of a view in world space: to the right, up, and ahead, each of length 1. */
export function axesOf(clip) {
  const row = (r) => unit([clip[r], clip[r + 4], clip[r + 8]]);
  return { right: row(0), up: row(1), ahead: row(3) };
}
