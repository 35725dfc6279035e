// Where the eye stands. Arithmetic only: no document, no WebGL. Matrices are column by column, vectors arrays of three.

/** Tangent of half the field of view, along the shorter side of the window. */
const TAN_HALF_FIELD = Math.tan((25 * Math.PI) / 180);
/** The nearest that is drawn, in parts of the distance to the center. */
const NEAR = 0.01;
/** So near to straight up or down one can look, radians. */
const STEEPEST = (89 * Math.PI) / 180;
/** This share of the points is seen at the start; the rest are often strays. */
const SEEN_AT_START = 0.95;

function multiply(a, b) {
  const out = new Array(16);
  for (let c = 0; c < 4; c++) {
    for (let r = 0; r < 4; r++) {
      out[4 * c + r] = 0;
      for (let k = 0; k < 4; k++) out[4 * c + r] += a[4 * k + r] * b[4 * c + k];
    }
  }
  return out;
}

/** Where an affine matrix takes a point. */
function transform(m, x, y, z, out = [0, 0, 0]) {
  for (let r = 0; r < 3; r++) out[r] = m[r] * x + m[4 + r] * y + m[8 + r] * z + m[12 + r];
  return out;
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
/** `a + s b` */
const add = (a, s, b) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
const minus = (a, b) => add(a, -1, b);
const unit = (a) => a.map((x) => x / Math.hypot(...a));

/**
 * The pose of the first photo's camera in the scene. vggt's root has the matrix M = W F, with W the camera's pose before
 * it (axes right, down, forward) and F = diag(-1, -1, 1). So the pose is M W = M M F: the columns of M M are left, up,
 * forward and the eye.
 */
function firstCamera(rootMatrix) {
  const pose = multiply(rootMatrix, rootMatrix);
  const [upwards, forwards, eye] = [4, 8, 12].map((at) => pose.slice(at, at + 3));
  const forward = unit(forwards);
  const right = unit(cross(forward, upwards));
  if (![...eye, ...forward, ...right].every(Number.isFinite)) return firstCamera(IDENTITY);
  return { eye, right, up: cross(right, forward), forward };
}

/** Tangents of half the field of view, across and down, for a window of this width by height. */
function tangents(aspect) {
  return [TAN_HALF_FIELD * Math.max(1, aspect), TAN_HALF_FIELD * Math.max(1, 1 / aspect)];
}

/** Up to `most` points, evenly taken, as x y z x y z ...; those that are not finite are left out. */
function samplePoints(points, most) {
  const total = points.reduce((sum, { position }) => sum + position.count, 0);
  const step = Math.max(1, Math.ceil(total / most));
  const sample = [];
  const p = [0, 0, 0];
  for (const part of points) {
    const read = positionReader(part);
    for (let i = 0; i < part.position.count; i += step) {
      read(i, p);
      if (p.every(Number.isFinite)) sample.push(p[0], p[1], p[2]);
    }
  }
  return Float64Array.from(sample);
}

/**
 * The view from the first photo's camera, as far back as it takes to see most points of `sample` and all `corners` of
 * the cameras' shapes, both x y z x y z ... One turns about the point at the median depth. With `right`, `up` and
 * `forward` as axes, `yaw` turns about `up`, then `pitch` looks down. `size` stays what `distance` was.
 */
function startView(rootMatrix, sample, corners, aspect) {
  const camera = firstCamera(rootMatrix);
  const [tanX, tanY] = tangents(aspect);
  const sorted = (list, measure) => {
    const from = (i) => minus(list.subarray(3 * i, 3 * i + 3), camera.eye);
    return Float64Array.from({ length: list.length / 3 }, (_, i) => measure(from(i))).sort();
  };
  const at = (list, share) => list[Math.floor((list.length - 1) * share)];
  const depthOf = (p) => dot(p, camera.forward);
  // So far back the eye must go to see p.
  const stepTo = (p) => Math.max(Math.abs(dot(p, camera.right)) / tanX, Math.abs(dot(p, camera.up)) / tanY) - depthOf(p);
  const depth = at(sorted(sample, depthOf), 0.5) ?? 1;
  // Somewhat behind the cameras: within a shape one would not see it.
  const toCorners = corners.length > 0 ? at(sorted(corners, stepTo), 1) + Math.abs(depth) / 4 : 0;
  const step = Math.max(0, at(sorted(sample, stepTo), SEEN_AT_START) ?? 0, toCorners);
  const distance = depth + step > 0 ? depth + step : 1;
  return { ...camera, target: add(camera.eye, depth, camera.forward), depth, distance, size: distance, yaw: 0, pitch: 0 };
}

/** The eye's place and axes. */
function eyeOf(view) {
  const [sinYaw, cosYaw] = [Math.sin(view.yaw), Math.cos(view.yaw)];
  const [sinPitch, cosPitch] = [Math.sin(view.pitch), Math.cos(view.pitch)];
  const across = (x, z) => add(view.right.map((r) => r * x), z, view.forward);
  const level = across(sinYaw, cosYaw);
  const forward = add(level.map((x) => x * cosPitch), -sinPitch, view.up);
  const right = across(cosYaw, -sinYaw);
  return { eye: add(view.target, -view.distance, forward), right, up: cross(right, forward), forward };
}

/** From the scene to WebGL's clip space, without a farthest distance. */
function clipFromScene(view, aspect) {
  const { eye, right, up, forward } = eyeOf(view);
  const [tanX, tanY] = tangents(aspect);
  const [x, y] = [right.map((r) => r / tanX), up.map((u) => u / tanY)];
  const columns = [0, 1, 2].flatMap((i) => [x[i], y[i], forward[i], forward[i]]);
  const depth = -dot(forward, eye);
  return [...columns, -dot(x, eye), -dot(y, eye), depth - 2 * NEAR * view.distance, depth];
}

function turn(view, yaw, pitch) {
  view.yaw += yaw;
  view.pitch = Math.min(STEEPEST, Math.max(-STEEPEST, view.pitch + pitch));
}

/** A point of the plane through the center, less the center; x and y from -1 to 1 over the window, y upwards. */
function onPlane(view, x, y, aspect) {
  const { right, up } = eyeOf(view);
  const [tanX, tanY] = tangents(aspect);
  return add(right.map((r) => r * x * tanX * view.distance), y * tanY * view.distance, up);
}

/** Moves the scene with the hand, by x and y in halves of the window. */
function shift(view, x, y, aspect) {
  view.target = minus(view.target, onPlane(view, x, y, aspect));
}

/** Changes the distance; what lies at x and y in the plane through the center stays there. */
function zoom(view, factor, x, y, aspect) {
  const distance = Math.min(1e3 * view.size, Math.max(1e-4 * view.size, factor * view.distance));
  view.target = add(view.target, 1 - distance / view.distance, onPlane(view, x, y, aspect));
  view.distance = distance;
}

/** The nearest to the eye of the points within `radius` of x and y, halves of the window; null when there is none. */
function pointAt(points, clip, x, y, radius, aspect) {
  const p = [0, 0, 0];
  let nearest = null;
  let least = Infinity;
  for (const part of points) {
    const read = positionReader(part);
    for (let i = 0; i < part.position.count; i++) {
      read(i, p);
      const depth = clip[3] * p[0] + clip[7] * p[1] + clip[11] * p[2] + clip[15];
      if (!(depth > 0 && depth < least)) continue;
      const dx = (clip[0] * p[0] + clip[4] * p[1] + clip[8] * p[2] + clip[12]) / depth - x;
      const dy = (clip[1] * p[0] + clip[5] * p[1] + clip[9] * p[2] + clip[13]) / depth - y;
      if (Math.hypot(dx * aspect, dy) < radius) {
        least = depth;
        nearest = [...p];
      }
    }
  }
  return nearest;
}

/** Makes `point` the center; its size on the screen stays. */
function center(view, point) {
  const { eye, forward } = eyeOf(view);
  const depth = dot(minus(point, eye), forward);
  view.target = point;
  if (depth > 0) view.distance = depth;
}
