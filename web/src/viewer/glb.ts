// A GLB as vggt writes it: a root node, below it the points, shapes of cameras, which are not drawn here, and glTF cameras.
import { PageError } from "./errors";

const POINTS = 0;
const U8 = 5121;
const U16 = 5123;
const F32 = 5126;
const BYTES: Record<number, number> = { [U8]: 1, [U16]: 2, [F32]: 4 };
const NUMBERS: Record<string, number> = { SCALAR: 1, VEC3: 3, VEC4: 4 };

interface Accessor {
  bufferView?: number;
  byteOffset?: number;
  componentType?: number;
  normalized?: boolean;
  count?: number;
  type?: string;
}

interface GltfNode {
  name?: string;
  children?: number[];
  matrix?: number[];
  rotation?: unknown;
  translation?: number[];
  scale?: number[];
  mesh?: number;
  camera?: number;
}

/** What is used of a glTF document; nothing of it is taken for granted. */
export interface Document {
  asset?: { extras?: Record<string, unknown> };
  scene?: number;
  scenes?: { nodes?: number[] }[];
  nodes?: GltfNode[];
  meshes?: { primitives?: { mode?: number; attributes?: Record<string, number> }[] }[];
  accessors?: Accessor[];
  bufferViews?: { byteOffset?: number; byteStride?: number }[];
  cameras?: { perspective?: { yfov?: number; aspectRatio?: number } }[];
}

/** Numbers in the binary chunk. */
interface Column {
  view: DataView;
  type: number;
  stride: number;
  count: number;
}

/** A camera of a GLB. Its matrix is column by column, with glTF's axes. */
export interface GltfCamera {
  name: string;
  matrix: number[];
  yfov: number;
  aspect: number;
}

export interface Glb {
  /** Parts of points, each with a matrix that takes them to world space: the space below the root. */
  parts: { position: Column; color: Column; matrix: number[] }[];
  count: number;
  cameras: GltfCamera[];
  /** Of the root, column by column. */
  rootMatrix: number[];
  extras: Record<string, unknown>;
  /** Whether colors are linear light rather than sRGB. */
  linear: boolean;
}

/** A value that must be there and right, or the sentence that names it. */
export function need(ok: unknown, what: string): asserts ok {
  if (!ok) throw new PageError(`The GLB in this page is damaged: ${what}.`);
}

/** Where the chunks of a GLB lie, and its document. */
export function readContainer(bytes: Uint8Array): { document: Document; json: number; binary: DataView } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (at: number) => view.getUint32(at, true);
  need(bytes.length >= 28 && word(0) === 0x46546c67 && word(4) === 2, "it is not a GLB of version 2");
  const json = word(12);
  need(word(16) === 0x4e4f534a && 28 + json <= bytes.length, "it has no document");
  const binary = word(20 + json);
  need(word(24 + json) === 0x004e4942 && 28 + json + binary <= bytes.length, "it has no binary part");
  let document: Document | null = null;
  try {
    document = JSON.parse(new TextDecoder().decode(bytes.subarray(20, 20 + json))) as Document | null;
  } catch {
    // As if there were none.
  }
  need(document && typeof document === "object", "its document is not JSON");
  return { document, json, binary: new DataView(bytes.buffer, bytes.byteOffset + 28 + json, binary) };
}

export function readGlb(bytes: Uint8Array): Glb {
  const { document, binary } = readContainer(bytes);
  const { nodes, scenes, scene = 0, meshes, asset } = document;
  const root = nodes?.[scenes?.[scene]?.nodes?.[0] ?? -1];
  need(root, "it has no scene");
  const rootMatrix = nodeMatrix(root);
  const parts: Glb["parts"] = [];
  const cameras: GltfCamera[] = [];
  need((root.children ?? []).every(Number.isInteger), "a node is missing");
  for (const child of root.children ?? []) {
    const node = nodes?.[child];
    need(node, "a node is missing");
    const matrix = nodeMatrix(node);
    if (node.camera !== undefined) {
      const { yfov, aspectRatio: aspect } = document.cameras?.[node.camera]?.perspective ?? {};
      if (yfov && aspect) cameras.push({ name: String(node.name ?? ""), matrix, yfov, aspect });
      continue;
    }
    const primitives = meshes?.[node.mesh ?? -1]?.primitives;
    need(Array.isArray(primitives), "a node shows nothing");
    for (const { mode, attributes } of primitives) {
      if (mode !== POINTS) continue;
      const position = readColumn(document, binary, attributes?.["POSITION"], "VEC3", [U16, F32]);
      const color = readColumn(document, binary, attributes?.["COLOR_0"], null, [U8, U16]);
      need(position.count === color.count, "positions and colors do not match");
      parts.push({ position, color, matrix });
    }
  }
  need(parts.length > 0, "it has no points");
  const extras = asset?.extras ?? {};
  const options = extras["options"] as Record<string, unknown> | undefined;
  const count = parts.reduce((sum, { position }) => sum + position.count, 0);
  return { parts, count, cameras, rootMatrix, extras, linear: options?.["color_space"] !== "srgb" };
}

function readColumn(
  document: Document,
  binary: DataView,
  index: number | undefined,
  kind: string | null,
  types: number[],
): Column {
  const accessor = document.accessors?.[index ?? -1];
  const view = document.bufferViews?.[accessor?.bufferView ?? -1];
  need(accessor && view, "a column is missing");
  const { componentType: type = 0, count } = accessor;
  const size = NUMBERS[accessor.type ?? ""];
  need(
    types.includes(type) && size && (kind ?? accessor.type) === accessor.type && size >= 3,
    "a column has another type than vggt writes",
  );
  const bytes = size * BYTES[type]!;
  const stride = view.byteStride ?? bytes;
  const start = (view.byteOffset ?? 0) + (accessor.byteOffset ?? 0);
  need(
    [count, stride, start].every((n) => Number.isSafeInteger(n) && n! >= 0) && count && stride >= bytes,
    "a column's place is wrong",
  );
  const length = (count - 1) * stride + bytes;
  need(start + length <= binary.byteLength, "a column goes beyond its end");
  return { view: new DataView(binary.buffer, binary.byteOffset + start, length), type, stride, count };
}

/** The matrix of a node, column by column. */
function nodeMatrix(node: GltfNode): number[] {
  if (node.matrix) {
    need(node.matrix.length === 16 && node.matrix.every(Number.isFinite), "a matrix is wrong");
    return node.matrix;
  }
  const [x, y, z] = node.translation ?? [0, 0, 0];
  const [a, b, c] = node.scale ?? [1, 1, 1];
  const numbers = [x, y, z, a, b, c];
  need(numbers.every(Number.isFinite) && !node.rotation, "a node's place is wrong");
  return [a!, 0, 0, 0, 0, b!, 0, 0, 0, 0, c!, 0, x!, y!, z!, 1];
}

/** Writes the points of a GLB as records of `PointBlock` into `block`, with full confidence and frame 0. */
export function unpack({ parts, linear }: Glb, block: ArrayBuffer): void {
  const out = new DataView(block);
  let at = 0;
  for (const { position, color, matrix: m } of parts) {
    const place =
      position.type === F32
        ? (i: number) => position.view.getFloat32(i, true)
        : (i: number) => position.view.getUint16(i, true) / 65535;
    const width = BYTES[position.type]!;
    const wide = color.type === U16;
    const codes = srgbCodes(wide, linear);
    const code = wide ? (i: number) => codes[color.view.getUint16(i, true)]! : (i: number) => codes[color.view.getUint8(i)]!;
    for (let n = 0; n < position.count; n++, at += 20) {
      const [p, c] = [n * position.stride, n * color.stride];
      const [x, y, z] = [place(p), place(p + width), place(p + 2 * width)];
      for (let r = 0; r < 3; r++) out.setFloat32(at + 4 * r, m[r]! * x + m[r + 4]! * y + m[r + 8]! * z + m[r + 12]!, true);
      for (let k = 0; k < 3; k++) out.setUint8(at + 12 + k, code(c + k * (wide ? 2 : 1)));
      out.setUint8(at + 15, 255);
    }
  }
}

/** The sRGB byte of each code of a color. */
function srgbCodes(wide: boolean, linear: boolean): Uint8Array {
  const most = wide ? 65535 : 255;
  return Uint8Array.from({ length: most + 1 }, (_, code) => {
    const light = code / most;
    const shown = !linear ? light : light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055;
    return Math.round(255 * shown);
  });
}
