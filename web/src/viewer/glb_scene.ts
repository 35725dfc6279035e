// A GLB as a scene, with what a page has beside it.
import { Matrix4 } from "three";
import { PageError } from "./errors";
import { type Glb, type GltfCamera, need, readGlb, unpack } from "./glb";
import { type Camera, type Pictures, type Scene, STRIDE } from "./scene";

/** What a page has beside its GLB; every part may be missing. */
export interface Beside {
  /** Points of each frame; the GLB has them in this order. */
  frames?: number[];
  cameras?: Camera[];
  /** A byte for each point, in the GLB's order. */
  confidence?: Uint8Array;
  pictures?(frame: number): Pictures;
  /** Points of the scene of which the GLB has a part. */
  total?: number;
}

/** The pixels of a photo whose size is not known. */
const HEIGHT = 1000;
/** As wide as phones see. */
const USUAL_FIELD = 1;

/** The scene of a GLB. Throws `PageError` with a sentence. */
export function sceneOfGlb(bytes: ArrayBuffer | Uint8Array, title: string, beside: Beside = {}): Scene {
  const glb = readGlb(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes));
  const { count, extras } = glb;
  const block = allocate(count);
  unpack(glb, block);
  const { frames, confidence } = beside;
  const hasConfidence = confidence?.length === count;
  need(!confidence || hasConfidence, `it has ${count} points, but the page knows the confidence of ${confidence?.length ?? 0}`);
  if (confidence) confidence.forEach((value, i) => (new Uint8Array(block)[STRIDE * i + 15] = value));
  const hasFrames = frames?.reduce((a, b) => a + b, 0) === count;
  if (frames && hasFrames) {
    const words = new Uint32Array(block);
    frames.reduce((start, length, frame) => {
      for (let i = start; i < start + length; i++) words[(STRIDE / 4) * i + 4] = frame;
      return start + length;
    }, 0);
  }
  return {
    title,
    points: { bytes: block, count, total: Math.max(count, beside.total ?? 0), hasConfidence, hasFrames, frames: framesOf(extras) },
    cameras: beside.cameras ?? camerasOf(glb),
    pictures: (frame) => beside.pictures?.(frame) ?? {},
    metersPerUnit: extras["unit"] === "meters" ? scaleOf(glb.rootMatrix) : null,
    details: detailsOf(extras),
  };
}

function allocate(count: number): ArrayBuffer {
  try {
    return new ArrayBuffer(STRIDE * count);
  } catch {
    throw new PageError(
      `This browser has no memory for ${count.toLocaleString("en")} points. Fewer need less: vggt export --max-points.`,
    );
  }
}

/** Number of frames that a GLB's points are from, as it tells. */
function framesOf({ frames, options }: Record<string, unknown>): number {
  const filter = options && typeof options === "object" && "frame_filter" in options ? options.frame_filter : "All";
  return filter === "All" && typeof frames === "number" && frames > 1 ? frames : 1;
}

/** How many times longer things are above the root than below it. */
function scaleOf(rootMatrix: number[]): number {
  const scale = Math.cbrt(Math.abs(new Matrix4().fromArray(rootMatrix).determinant()));
  return Math.abs(scale - 1) < 1e-5 ? 1 : scale;
}

function camerasOf({ cameras, rootMatrix, extras }: Glb): Camera[] {
  const root = new Matrix4().fromArray(rootMatrix);
  if (cameras.length) return cameras.map(cameraOf);
  // A GLB without cameras still faces the way its first one did. See `Orientation` in src/glb/mod.rs: the root is either
  // world_from_camera after half a turn about z, or takes the world to that camera with glTF's axes.
  const faces = String(extras["axes"] ?? "").startsWith("x right");
  const pose = faces
    ? root.clone().invert()
    : root
        .clone()
        .multiply(new Matrix4().makeScale(-1, -1, 1))
        .multiply(new Matrix4().makeScale(1, -1, -1));
  if (!pose.elements.every(Number.isFinite) || Math.abs(pose.determinant()) < 1e-12) return [];
  return [cameraOf({ name: "", matrix: pose.elements, yfov: USUAL_FIELD, aspect: 4 / 3 }, 0)];
}

function cameraOf({ name, matrix, yfov, aspect }: GltfCamera, frame: number): Camera {
  const [height, width] = [HEIGHT, HEIGHT * aspect];
  const focal = height / 2 / Math.tan(yfov / 2);
  // glTF's cameras look along -z and have y up.
  const pose = new Matrix4()
    .fromArray(matrix)
    .multiply(new Matrix4().makeScale(1, -1, -1))
    .invert().elements;
  return {
    frame,
    ...(name && { name }),
    width,
    height,
    fx: focal,
    fy: focal,
    cx: width / 2,
    cy: height / 2,
    camera_from_world: [0, 1, 2].map((r) => [0, 1, 2, 3].map((c) => pose[r + 4 * c]!)),
  };
}

/** What made a scene, by name. */
function detailsOf({ options, ...rest }: Record<string, unknown>): Record<string, string> {
  const all = Object.entries({ ...rest, ...(options && typeof options === "object" ? options : {}) });
  const known = all.filter(([, value]) => value !== null && value !== undefined);
  return Object.fromEntries(known.map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]));
}
