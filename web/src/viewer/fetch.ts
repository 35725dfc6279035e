// A scene from `vggt serve`.
import { PageError } from "./errors";
import { type Camera, type PointBlock, type Scene, STRIDE } from "./scene";

const MAGIC = "VGGTPTS1";
const HEADER = 64;
/** Points that are asked for: as many as are drawn at a good rate. */
const POINTS = { desktop: 2_000_000, phone: 1_000_000 };
/** The time between two reports of progress, in ms. */
const REPORT = 100;

export interface FetchOptions {
  title: string;
  /** Takes so many points evenly of a scene that has more. */
  maxPoints?: number;
  signal?: AbortSignal;
  /** Hears the share that has arrived. */
  onProgress?(share: number): void;
}

/** `cameras.json`, what is used of it. */
interface CamerasFile {
  cameras: Camera[];
  meters_per_unit?: number | null;
}

/** Reads points and cameras below `base`, such as "/api/v1/jobs/7/artifacts" or "/s/SECRET". Errors are sentences for the user. */
export async function fetchScene(base: string, options: FetchOptions): Promise<Scene> {
  const phone = matchMedia("(pointer: coarse) and (max-width: 900px)").matches;
  const maxPoints = options.maxPoints ?? (phone ? POINTS.phone : POINTS.desktop);
  const [block, cameras] = await Promise.all([
    fetchPoints(`${base}/points?max_points=${maxPoints}`, maxPoints, options),
    fetchCameras(`${base}/cameras.json`, options.signal),
  ]);
  // A link to show others has no depth.
  const shared = base.startsWith("/s/");
  return {
    title: options.title,
    points: block,
    cameras: cameras.cameras,
    pictures: (frame) => ({
      photo: `${base}/frames/${frame}.jpg`,
      thumbnail: `${base}/thumbnails/${frame}.jpg`,
      ...(!shared && { depth: `${base}/frames/${frame}.depth_color.png` }),
    }),
    metersPerUnit: cameras.meters_per_unit ?? null,
    details: {},
  };
}

async function get(address: string, signal: AbortSignal | undefined, accept: string): Promise<Response> {
  let response;
  try {
    response = await fetch(address, { ...(signal && { signal }), headers: { Accept: accept } });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new PageError("The service cannot be reached. Check the connection and try again.");
  }
  if (response.ok) return response;
  const problem = (await response.json().catch(() => null)) as { detail?: string; code?: string } | null;
  if (response.status === 401) throw new PageError("You are not logged in any more. Log in and open the scene again.");
  if (problem?.code === "not_kept")
    throw new PageError("What the view is made of is not kept any more. The GLB can still be downloaded.");
  const detail = problem?.detail ?? `the service answered ${response.status}`;
  throw new PageError(`The scene cannot be shown: ${detail.replace(/\.$/, "")}.`);
}

async function fetchCameras(address: string, signal: AbortSignal | undefined): Promise<CamerasFile> {
  const file = (await (await get(address, signal, "application/json")).json()) as Partial<CamerasFile>;
  return { ...file, cameras: Array.isArray(file.cameras) ? file.cameras : [] };
}

async function fetchPoints(address: string, maxPoints: number, { signal, onProgress }: FetchOptions): Promise<PointBlock> {
  const response = await get(address, signal, "application/octet-stream");
  const damaged = () => new PageError("The points did not arrive whole. Try again.");
  const reader = response.body?.getReader();
  if (!reader) throw damaged();
  const head = new Uint8Array(HEADER);
  let points: Uint8Array<ArrayBuffer> | null = null;
  let end = 0;
  let reported = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    let bytes = value;
    if (!points) {
      const taken = bytes.subarray(0, HEADER - end);
      head.set(taken, end);
      end += taken.length;
      bytes = bytes.subarray(taken.length);
      if (end < HEADER) continue;
      points = allocate(readHeader(head).count);
    }
    const at = end - HEADER;
    if (at + bytes.length > points.length) throw damaged();
    points.set(bytes, at);
    end += bytes.length;
    if (onProgress && Date.now() - reported > REPORT) {
      reported = Date.now();
      onProgress(at / Math.max(1, points.length));
    }
  }
  if (!points || end - HEADER !== points.length) throw damaged();
  const { count, total } = readHeader(head);
  // An older service does not tell how many there are; fewer than were asked for are all.
  return {
    bytes: points.buffer,
    count,
    total: total || (count < maxPoints ? count : null),
    hasConfidence: true,
    hasFrames: true,
  };
}

function readHeader(head: Uint8Array<ArrayBuffer>): { count: number; total: number } {
  const view = new DataView(head.buffer);
  const known =
    new TextDecoder().decode(head.subarray(0, 8)) === MAGIC &&
    view.getUint32(8, true) === HEADER &&
    view.getUint32(12, true) === STRIDE;
  if (!known) throw new PageError("The service sent no points that this page knows. Reload the page.");
  return { count: Number(view.getBigUint64(16, true)), total: Number(view.getBigUint64(56, true)) };
}

function allocate(count: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(STRIDE * count);
  } catch {
    throw new PageError(`This browser has no memory for ${count.toLocaleString("en")} points.`);
  }
}
