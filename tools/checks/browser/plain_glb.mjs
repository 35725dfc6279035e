// A plain reading of a GLB: every number on its own, as the glTF specification has it.

const srgbOf = (linear) => (linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055);

/** The document and the binary chunk. */
export function chunksOf(glb) {
  const json = glb.readUInt32LE(12);
  return { document: JSON.parse(glb.subarray(20, 20 + json).toString()), binary: glb.subarray(28 + json) };
}

function numbersOf(document, binary, index) {
  const accessor = document.accessors[index];
  const view = document.bufferViews[accessor.bufferView];
  const width = { SCALAR: 1, VEC3: 3, VEC4: 4 }[accessor.type];
  const [bytes, read, most] = {
    5121: [1, (at) => binary.readUInt8(at), 255],
    5123: [2, (at) => binary.readUInt16LE(at), 65535],
    5126: [4, (at) => binary.readFloatLE(at), 1],
  }[accessor.componentType];
  const start = (view.byteOffset ?? 0) + (accessor.byteOffset ?? 0);
  const numbers = new Float64Array(width * accessor.count);
  for (let i = 0; i < accessor.count; i++) {
    const at = start + i * (view.byteStride ?? width * bytes);
    for (let c = 0; c < width; c++) numbers[i * width + c] = read(at + c * bytes) / (accessor.normalized ? most : 1);
  }
  return numbers;
}

/** Where a matrix, column by column, takes a point. */
export function transform(m, [x, y, z]) {
  return [0, 1, 2].map((r) => m[r] * x + m[r + 4] * y + m[r + 8] * z + m[r + 12]);
}

/** The points of a GLB in the space below its root, their colors as sRGB bytes, the root's matrix and the glTF cameras. */
export function readPlainly(glb) {
  const { document, binary } = chunksOf(glb);
  const { extras } = document.asset;
  const root = document.nodes[document.scenes[document.scene].nodes[0]];
  const children = root.children.map((child) => document.nodes[child]);
  const node = children.find(({ mesh }) => mesh !== undefined && document.meshes[mesh].primitives[0].mode === 0);
  const { attributes } = document.meshes[node.mesh].primitives[0];
  const places = numbersOf(document, binary, attributes.POSITION);
  const [scale, translation] = [node.scale ?? [1, 1, 1], node.translation ?? [0, 0, 0]];
  const positions = Float32Array.from(places, (x, i) => x * scale[i % 3] + translation[i % 3]);
  const shown = extras.options.color_space === "srgb" ? (x) => x : srgbOf;
  const all = numbersOf(document, binary, attributes.COLOR_0);
  const count = positions.length / 3;
  const colors = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) for (let c = 0; c < 3; c++) colors[3 * i + c] = Math.round(255 * shown(all[4 * i + c]));
  const cameras = children
    .filter(({ camera }) => camera !== undefined)
    .map(({ matrix }) => matrix ?? [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
  return { count, positions, colors, cameras, root: root.matrix, extras };
}

/** The records of 20 bytes that the points are to reach the graphics card as, in the order of their bytes. */
export function recordsOf({ count, positions, colors }, frames, confidence) {
  const out = Buffer.alloc(20 * count);
  const frameOf = (frames ?? [count]).flatMap((n, frame) => Array(n).fill(frame));
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 3; k++) out.writeFloatLE(positions[3 * i + k], 20 * i + 4 * k);
    for (let k = 0; k < 3; k++) out[20 * i + 12 + k] = colors[3 * i + k];
    out[20 * i + 15] = confidence ? confidence[i] : 255;
    out.writeUInt32LE(frameOf[i] ?? 0, 20 * i + 16);
  }
  return sorted(out);
}

/** Records of 20 bytes in the order of their bytes. */
export function sorted(records) {
  const parts = Array.from({ length: records.length / 20 }, (_, i) => records.subarray(20 * i, 20 * i + 20));
  return Buffer.concat(parts.sort(Buffer.compare));
}
