"use strict";
// From the page's base64 to what WebGL takes. Nothing is copied: an attribute is a stretch of the GLB's own bytes.

/** What keeps the page from showing anything; its message is a sentence for whoever looks at it. */
class PageError extends Error {}

/** glTF's modes and component types are WebGL's numbers. */
const POINTS = 0;
const TRIANGLES = 4;
const U8 = 5121;
const U16 = 5123;
const F32 = 5126;
const BYTES = { [U8]: 1, [U16]: 2, [F32]: 4 };
const NUMBERS = { SCALAR: 1, VEC3: 3, VEC4: 4 };

const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

/** A value that must be there and right, or the sentence that names it. */
function need(ok, what) {
  if (!ok) throw new PageError(`The GLB in this page is damaged: ${what}.`);
}

/**
 * The bytes that the elements hold together. Each is removed once it is read, so that text and bytes are never there
 * both in full. `tell` hears the share that is done, at most ten times a second, and the browser may draw then.
 */
async function decodeElements(elements, tell) {
  need(elements.length > 0, "it is not there, as if the file had been cut off");
  let bytes = null;
  let end = 0;
  let paused = Date.now();
  for (const element of elements) {
    const text = decodeBase64(element.textContent);
    bytes ??= allocate(text);
    for (let i = 0; i < text.length; i++) bytes[end + i] = text.charCodeAt(i);
    end += text.length;
    element.remove();
    if (Date.now() - paused > 100) {
      tell(end / bytes.length);
      await new Promise((resolve) => setTimeout(resolve));
      paused = Date.now();
    }
  }
  need(end === bytes.length, `it has ${end} bytes instead of ${bytes.length}, as if the file had been cut off`);
  return bytes;
}

function decodeBase64(text) {
  try {
    return atob(text);
  } catch {
    need(false, "its text is not base64");
  }
}

/** Room for all of a GLB whose beginning is `head`: its header tells how long it is. */
function allocate(head) {
  need(head.length >= 12 && head.startsWith("glTF"), "it does not begin as a GLB");
  const [a, b, c, d] = [8, 9, 10, 11].map((i) => head.charCodeAt(i));
  const length = a + 256 * (b + 256 * (c + 256 * d));
  try {
    return new Uint8Array(length);
  } catch {
    throw new PageError(`This browser has no memory for the ${Math.ceil(length / 1e6)} MB in this page. Fewer points need less: vggt export --max-points.`);
  }
}

/** The document and the binary chunk of a GLB. */
function readContainer(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (at) => view.getUint32(at, true);
  need(bytes.length >= 28 && word(0) === 0x46546c67 && word(4) === 2, "it is no GLB of version 2");
  const json = word(12);
  need(word(16) === 0x4e4f534a && 28 + json <= bytes.length, "it has no document");
  const binary = word(20 + json);
  need(word(24 + json) === 0x004e4942 && 28 + json + binary <= bytes.length, "it has no binary part");
  let document;
  try {
    document = JSON.parse(new TextDecoder().decode(bytes.subarray(20, 20 + json)));
  } catch {
    need(false, "its document is no JSON");
  }
  return { document, binary: bytes.subarray(28 + json, 28 + json + binary) };
}

/** Where the numbers of an accessor lie: `bytes` begins with the first one. */
function readAccessor({ document, binary }, index, types) {
  const accessor = document.accessors?.[index];
  const view = document.bufferViews?.[accessor?.bufferView];
  need(accessor && view, "a column is missing");
  const { componentType: type, count, normalized = false } = accessor;
  const size = NUMBERS[accessor.type];
  need(types.includes(type) && size, "a column has another type than vggt writes");
  const stride = view.byteStride ?? size * BYTES[type];
  const start = (view.byteOffset ?? 0) + (accessor.byteOffset ?? 0);
  const length = (count - 1) * stride + size * BYTES[type];
  const whole = [count, stride, start].every((n) => Number.isSafeInteger(n) && n >= 0);
  need(whole && count > 0 && stride >= size * BYTES[type], "a column's place is wrong");
  need(start + length <= binary.length, "a column goes beyond its end");
  return { type, size, normalized, stride, count, bytes: binary.subarray(start, start + length) };
}

/** One thing to draw. `matrix` takes its positions to the scene. */
function readPrimitive(glb, primitive, matrix) {
  const { POSITION, COLOR_0 } = primitive.attributes ?? {};
  const position = readAccessor(glb, POSITION, [U16, F32]);
  const color = readAccessor(glb, COLOR_0, [U8, U16]);
  need(position.size === 3 && position.count === color.count, "positions and colors do not match");
  const mode = primitive.mode ?? TRIANGLES;
  const indices = mode === TRIANGLES ? readAccessor(glb, primitive.indices, [U16]) : null;
  return { mode, matrix, position, color, indices };
}

/** The matrix of a node, column by column. */
function nodeMatrix(node) {
  if (node.matrix) {
    need(node.matrix.length === 16 && node.matrix.every(Number.isFinite), "a matrix is wrong");
    return node.matrix;
  }
  const [x, y, z] = node.translation ?? [0, 0, 0];
  const [a, b, c] = node.scale ?? [1, 1, 1];
  need([x, y, z, a, b, c].every(Number.isFinite) && !node.rotation, "a node's place is wrong");
  return [a, 0, 0, 0, 0, b, 0, 0, 0, 0, c, 0, x, y, z, 1];
}

/**
 * What a GLB shows: `points` and `cameras` to draw, the matrix of the root, whether colors are linear, and what made
 * it. Reads what vggt writes: a root node, and below it the points and one mesh for each camera.
 */
function readGlb(bytes) {
  const glb = readContainer(bytes);
  const { nodes, scenes, scene = 0, meshes, asset } = glb.document;
  const root = nodes?.[scenes?.[scene]?.nodes?.[0]];
  need(root, "it has no scene");
  const rootMatrix = nodeMatrix(root);
  const drawn = (root.children ?? []).flatMap((child) => {
    // A point of view: nothing to draw.
    if (nodes[child]?.camera !== undefined) return [];
    const primitives = meshes?.[nodes[child]?.mesh]?.primitives;
    need(Array.isArray(primitives), "a node shows nothing");
    const matrix = multiply(rootMatrix, nodeMatrix(nodes[child]));
    return primitives.map((primitive) => readPrimitive(glb, primitive, matrix));
  });
  const points = drawn.filter(({ mode }) => mode === POINTS);
  need(points.length > 0, "it has no points");
  const extras = asset?.extras ?? {};
  return {
    points,
    cameras: drawn.filter(({ mode }) => mode === TRIANGLES),
    rootMatrix,
    linear: extras.options?.color_space !== "srgb",
    count: points.reduce((sum, { position }) => sum + position.count, 0),
    extras,
  };
}

/** A function that puts the position with a number into `out`, in the coordinates of the scene. */
function positionReader({ position, matrix }) {
  const { bytes, stride, type, normalized } = position;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const part = normalized ? 1 / 65535 : 1;
  const number = type === F32 ? (at) => view.getFloat32(at, true) : (at) => view.getUint16(at, true) * part;
  return (index, out) => {
    const at = index * stride;
    transform(matrix, number(at), number(at + BYTES[type]), number(at + 2 * BYTES[type]), out);
  };
}
