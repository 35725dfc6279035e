// Scenes and pages for checks and benchmarks, made without vggt.
import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";

const DIST = new URL("../../../web/dist/", import.meta.url);
/** As `src/html/pieces.rs`: bytes in an element. */
const PIECE = 3 << 18;
const [WIDTH, HEIGHT, FOCAL] = [518, 392, 450];

const norm = (v) => v.map((x) => x / Math.hypot(...v));
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/** Where a ray from inside of a box with a ball meets it, and the color there. */
function trace(eye, direction) {
  let distance = Infinity;
  let color = [0, 0, 0];
  const wall = (axis, value, colorAt) => {
    const t = (value - eye[axis]) / direction[axis];
    if (!(t > 1e-3 && t < distance)) return;
    distance = t;
    color = colorAt(eye.map((e, k) => e + t * direction[k]));
  };
  const tiles = (u, v, a, b) => ((Math.floor(2 * u) + Math.floor(2 * v)) & 1 ? a : b);
  wall(1, 1, (p) => tiles(p[0], p[2], [150, 110, 70], [190, 150, 100]));
  wall(1, -2.2, () => [230, 230, 225]);
  wall(2, 6.5, (p) => tiles(p[0], p[1], [200, 195, 180], [120, 170, 230]));
  wall(0, -3, (p) => tiles(p[1], p[2], [170, 80, 80], [180, 90, 90]));
  wall(0, 3, (p) => tiles(p[1], p[2], [80, 140, 90], [90, 150, 100]));
  const from = eye.map((e, k) => e - [0, 0.3, 4][k]);
  const along = dot(from, direction);
  const root = along * along - dot(from, from) + 0.49;
  const t = -along - Math.sqrt(Math.max(0, root));
  if (root > 0 && t > 0 && t < distance) [distance, color] = [t, [220, 160, 40]];
  return { distance, color };
}

/**
 * A box with a ball seen from inside by `frames` cameras on an arc that look down a bit, as vggt has it: the world is the first camera's space. Points lie on the
 * pixels of the photos, by frame; one in a hundred is a stray with little confidence. `up` is that of the box.
 */
export function makeScene(count, frames) {
  let seed = 1;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const eyes = Array.from({ length: frames }, (_, i) => {
    const angle = frames > 1 ? 1.2 * (i / (frames - 1) - 0.5) : 0;
    const eye = [2 * Math.sin(angle), -1.4, 2 - 2 * Math.cos(angle)];
    const forward = norm([0.3 * Math.sin(5 * i), 0.2, 4].map((x, k) => x - eye[k]));
    const right = norm(cross([0, 1, 0], forward));
    return { eye, axes: [right, cross(forward, right), forward] };
  });
  const first = eyes[0];
  const turned = (d) => first.axes.map((axis) => dot(axis, d));
  const cameras = eyes.map(({ eye, axes }, frame) => {
    const center = turned(eye.map((x, k) => x - first.eye[k]));
    const rows = axes.map(turned);
    return {
      frame,
      name: `IMG_${1000 + frame}.jpg`,
      ...{ width: WIDTH, height: HEIGHT, fx: FOCAL, fy: FOCAL, cx: WIDTH / 2, cy: HEIGHT / 2 },
      camera_from_world: rows.map((row) => [...row, -dot(row, center)]),
    };
  });
  const perFrame = eyes.map((_, i) => Math.floor(count / frames) + (i < count % frames ? 1 : 0));
  const positions = new Float32Array(3 * count);
  const colors = new Uint8Array(3 * count);
  const confidence = new Uint8Array(count);
  let at = 0;
  eyes.forEach(({ eye, axes }, frame) => {
    const columns = Math.ceil(Math.sqrt((perFrame[frame] * WIDTH) / HEIGHT));
    const rows = Math.max(1, Math.ceil(perFrame[frame] / columns));
    for (let n = 0; n < perFrame[frame]; n++, at++) {
      const [u, v] = [(((n % columns) + 0.5) / columns - 0.5) * WIDTH, ((Math.floor(n / columns) + 0.5) / rows - 0.5) * HEIGHT];
      const ray = norm([u / FOCAL, v / FOCAL, 1]);
      const direction = [0, 1, 2].map((k) => axes[0][k] * ray[0] + axes[1][k] * ray[1] + axes[2][k] * ray[2]);
      const { distance, color } = trace(eye, direction);
      const stray = random() < 0.01;
      const reach = distance * (stray ? 1 + random() : 1 + 0.004 * (random() - 0.5));
      positions.set(turned(eye.map((e, k) => e + reach * direction[k] - first.eye[k])), 3 * at);
      colors.set(
        color.map((c) => Math.min(255, Math.max(0, c + 10 * (random() - 0.5)))),
        3 * at,
      );
      confidence[at] = 256 * random() * (stray ? 0.04 : 1);
    }
  });
  return { count, frames, perFrame, cameras, positions, colors, confidence, up: turned([0, -1, 0]) };
}

/** The GLB of a scene as `vggt export` writes it, without its shapes of cameras. */
export function glbOf({ count, frames, cameras, positions, colors }, { quantized = false, srgb = false, gltfAxes = false } = {}) {
  const [low, high] = [
    [Infinity, Infinity, Infinity],
    [-Infinity, -Infinity, -Infinity],
  ];
  positions.forEach((x, i) => {
    low[i % 3] = Math.min(low[i % 3], x);
    high[i % 3] = Math.max(high[i % 3], x);
  });
  const extent = high.map((x, k) => Math.fround(x - low[k]) || 1);
  const light = Array.from({ length: 256 }, (_, code) => {
    const s = code / 255;
    return Math.round(65535 * (s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4));
  });
  const [step, colorStep] = [quantized ? 8 : 12, srgb ? 4 : 8];
  const binary = Buffer.alloc(count * (step + colorStep));
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 3; k++) {
      const x = positions[3 * i + k];
      if (quantized) binary.writeUInt16LE(Math.round((65535 * (x - low[k])) / extent[k]), step * i + 2 * k);
      else binary.writeFloatLE(x, step * i + 4 * k);
    }
    for (let k = 0; k < 4; k++) {
      const code = k < 3 ? colors[3 * i + k] : 255;
      if (srgb) binary.writeUInt8(code, count * step + colorStep * i + k);
      else binary.writeUInt16LE(light[code], count * step + colorStep * i + 2 * k);
    }
  }
  const nodes = [{ name: "points", mesh: 0, ...(quantized && { translation: low, scale: extent }) }];
  cameras.forEach(({ name, camera_from_world: rows }, camera) => {
    const axes = rows.map((row) => row.slice(0, 3));
    const center = [0, 1, 2].map((k) => -rows.reduce((sum, row) => sum + row[k] * row[3], 0));
    const flipped = axes.map((axis, k) => axis.map((x) => (k ? -x : x)));
    nodes.push({ name, camera, matrix: [...flipped.flatMap((axis) => [...axis, 0]), ...center, 1] });
  });
  const matrix = gltfAxes
    ? [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]
    : [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  nodes.push({ name: "scene", children: nodes.map((_, i) => i), matrix });
  const extras = {
    ...{ generator: "a check", weights: "none", weights_sha256: "0".repeat(64), frames, unit: "arbitrary" },
    options: { conf_thres: 10, frame_filter: "All", color_space: srgb ? "srgb" : "linear" },
    axes: gltfAxes ? "x right, y up, z back" : "x left, y up, z forward",
  };
  const perspective = { yfov: 2 * Math.atan(HEIGHT / 2 / FOCAL), aspectRatio: WIDTH / HEIGHT, znear: 0.001 };
  const document = {
    asset: { version: "2.0", generator: "a check", extras },
    scene: 0,
    scenes: [{ nodes: [nodes.length - 1] }],
    nodes,
    ...(cameras.length && { cameras: cameras.map(() => ({ type: "perspective", perspective })) }),
    meshes: [{ primitives: [{ mode: 0, attributes: { POSITION: 0, COLOR_0: 1 } }] }],
    accessors: [
      { bufferView: 0, componentType: quantized ? 5123 : 5126, ...(quantized && { normalized: true }), count, type: "VEC3" },
      { bufferView: 1, componentType: srgb ? 5121 : 5123, normalized: true, count, type: "VEC4" },
    ],
    bufferViews: [
      { buffer: 0, byteOffset: 0, byteLength: count * step, byteStride: step },
      { buffer: 0, byteOffset: count * step, byteLength: count * colorStep, byteStride: colorStep },
    ],
    buffers: [{ byteLength: binary.length }],
  };
  return container(document, binary);
}

/** A GLB of a document and its binary chunk. */
export function container(document, binary) {
  const text = JSON.stringify(document);
  const json = Buffer.from(text.padEnd(text.length + ((4 - (Buffer.byteLength(text) % 4)) % 4)));
  const head = Buffer.alloc(20);
  head.write("glTF");
  [2, 28 + json.length + binary.length, json.length].forEach((n, i) => head.writeUInt32LE(n, 4 + 4 * i));
  head.write("JSON", 16);
  const between = Buffer.alloc(8);
  between.writeUInt32LE(binary.length);
  between.write("BIN\0", 4);
  return Buffer.concat([head, json, between, binary]);
}

/** Writes a page as `src/html` does. `confidence` and `about` may be missing. */
export function writePage(path, { title, glb, confidence, about }) {
  const read = (name) => readFileSync(new URL(name, DIST), "utf8");
  const inside = (text) =>
    text.replaceAll("</script", "<\\/script").replaceAll("</style", "<\\/style").replaceAll("<!--", "<\\!--");
  const [script, style] = [inside(read("viewer.js")), inside(read("viewer.css"))];
  const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  const policy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; img-src data: blob:; base-uri 'none'; form-action 'none'`;
  const places = { policy, generator: "vggt", style, script, title };
  const html = read("page.html").replace(/\{\{(\w+)\}\}/g, (whole, place) => places[place] ?? whole);
  const file = openSync(path, "w");
  writeSync(file, html);
  const pieces = (name, type, bytes) => {
    for (let at = 0; at < bytes.length; at += PIECE) {
      writeSync(
        file,
        `<script class="${name}" type="${type};base64">${Buffer.from(bytes.subarray(at, at + PIECE)).toString("base64")}</script>\n`,
      );
    }
  };
  pieces("glb", "model/gltf-binary", glb);
  if (confidence) pieces("confidence", "application/octet-stream", confidence);
  if (about)
    writeSync(
      file,
      `<script class="about" type="application/json">${JSON.stringify(about).replaceAll("<", "\\u003c")}</script>\n`,
    );
  writeSync(file, "</body>\n</html>\n");
  closeSync(file);
}

/** Writes a page of a synthetic scene. */
export function writeScene(path, count, frames, options = {}) {
  const scene = makeScene(count, frames);
  const about = { frames: scene.perFrame, cameras: scene.cameras, unit: "arbitrary" };
  writePage(path, { title: "A scene", glb: glbOf(scene, options), confidence: scene.confidence, about });
  return scene;
}
