// Runs pages of `vggt export` where there is no browser; see check_page. WebGL and the document are stand-ins that
// remember what they are told, so what is compared is what a graphics card would be given.
"use strict";
const assert = require("assert/strict");
const fs = require("fs");
const path = require("path");
const vm = require("vm");

/** Of lengths near 1: the root's matrix is a rotation rounded to single precision, so its axes are square to some 1e-8. */
const TOLERANCE = 1e-6;
/** The page's field of view, along the shorter side of the window. */
const TAN_HALF_FIELD = Math.tan((25 / 180) * Math.PI);
/** At least this share of the points must be seen at the start. */
const SEEN_AT_START = 0.94;
/** Width by height of the windows: a desktop's and a phone's. */
const WINDOWS = [[900, 600], [390, 844]];

// ---- a plain reading: every number on its own, as the glTF specification has it ----

/** The script of a page, the texts of the elements that hold its GLB, and the GLB. */
function readPage(html) {
  const inside = (from) => html.slice(from, html.indexOf("</script>", from));
  const script = inside(html.indexOf("<script>") + "<script>".length);
  const texts = [];
  for (const { index } of html.matchAll(/<script class="glb"/g)) texts.push(inside(html.indexOf(">", index) + 1));
  return { script, texts, glb: Buffer.concat(texts.map((text) => Buffer.from(text, "base64"))) };
}

function readNumbers(document, binary, index) {
  const accessor = document.accessors[index];
  const view = document.bufferViews[accessor.bufferView];
  const width = { SCALAR: 1, VEC3: 3, VEC4: 4 }[accessor.type];
  const [bytes, read, most] = {
    5121: [1, (at) => binary.readUInt8(at), 255],
    5123: [2, (at) => binary.readUInt16LE(at), 65535],
    5126: [4, (at) => binary.readFloatLE(at), 1],
  }[accessor.componentType];
  const start = (view.byteOffset ?? 0) + (accessor.byteOffset ?? 0);
  const numbers = [];
  for (let i = 0; i < accessor.count; i++) {
    const at = start + i * (view.byteStride ?? width * bytes);
    for (let c = 0; c < width; c++) numbers.push(read(at + c * bytes) / (accessor.normalized ? most : 1));
  }
  return numbers;
}

/** What a node's own transformation makes of a point. */
function place(node, [x, y, z]) {
  const m = node.matrix;
  if (m) return [0, 1, 2].map((r) => m[r] * x + m[r + 4] * y + m[r + 8] * z + m[r + 12]);
  const [translation, scale] = [node.translation ?? [0, 0, 0], node.scale ?? [1, 1, 1]];
  return [x, y, z].map((p, axis) => p * scale[axis] + translation[axis]);
}

const srgbOf = (linear) => (linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055);

/** The parts of a GLB: places in the scene and colors to show, corner by corner in the order of drawing. */
function readPlainly(glb) {
  const json = glb.readUInt32LE(12);
  const document = JSON.parse(glb.subarray(20, 20 + json).toString());
  const binary = glb.subarray(28 + json);
  const extras = document.asset.extras;
  const root = document.nodes[document.scenes[document.scene].nodes[0]];
  // Points of view draw nothing.
  const drawn = root.children.map((child) => document.nodes[child]).filter(({ camera }) => camera === undefined);
  const parts = drawn.map((node) => {
    const { mode = 4, attributes, indices } = document.meshes[node.mesh].primitives[0];
    const positions = readNumbers(document, binary, attributes.POSITION);
    const colors = readNumbers(document, binary, attributes.COLOR_0);
    const order = indices === undefined ? null : readNumbers(document, binary, indices);
    const corners = order ?? Array.from({ length: positions.length / 3 }, (_, i) => i);
    const shown = extras.options.color_space === "srgb" ? (x) => x : srgbOf;
    return {
      mode,
      places: corners.map((i) => place(root, place(node, positions.slice(3 * i, 3 * i + 3)))),
      colors: corners.map((i) => colors.slice(4 * i, 4 * i + 3).map(shown)),
    };
  });
  return { parts, points: parts[0], cameras: parts.slice(1), root, extras };
}

// ---- the stand-ins ----

class Element {
  constructor(fields = {}) {
    this.listeners = {};
    this.dataset = {};
    this.children = [];
    this.textContent = "";
    this.classList = { add() {}, toggle() {} };
    Object.assign(this, fields);
  }
  append(...children) { this.children.push(...children); }
  addEventListener(type, listener) { (this.listeners[type] ??= []).push(listener); }
  removeEventListener() {}
  setPointerCapture() {}
  remove() { this.removed = true; }
  fire(type, fields = {}) {
    for (const listener of this.listeners[type] ?? []) listener({ preventDefault() {}, target: this, ...fields });
  }
}

/** Remembers buffers and vertex arrays, and of every draw what a card would draw. */
class Card {
  constructor() {
    Object.assign(this, { POINTS: 0, ARRAY_BUFFER: 0x8892, ELEMENT_ARRAY_BUFFER: 0x8893, STATIC_DRAW: 0x88e4 });
    Object.assign(this, { OUT_OF_MEMORY: 0x505, LINK_STATUS: 0x8b82 });
    this.bound = {};
    this.uniforms = {};
    this.draws = [];
  }
  createBuffer() { return {}; }
  createVertexArray() { return { attributes: [] }; }
  createProgram() { return {}; }
  createShader() { return {}; }
  getUniformLocation(_, name) { return name; }
  getProgramParameter() { return true; }
  getError() { return 0; }
  isContextLost() { return false; }
  bindVertexArray(array) { this.array = array; }
  bindBuffer(target, buffer) {
    this.bound[target] = buffer;
    if (target === this.ELEMENT_ARRAY_BUFFER) this.array.indices = buffer;
  }
  bufferData(target, bytes) { this.bound[target].bytes = Buffer.from(bytes); }
  enableVertexAttribArray() {}
  vertexAttribPointer(location, size, type, normalized, stride, offset) {
    // WebGL takes no other.
    assert(stride <= 255 && stride % { 5121: 1, 5123: 2, 5126: 4 }[type] === 0, `a stride of ${stride} bytes`);
    const buffer = this.bound[this.ARRAY_BUFFER];
    this.array.attributes[location] = { size, type, normalized, stride, offset, buffer };
  }
  uniform1i(name, value) { this.uniforms[name] = value; }
  uniform1f(name, value) { this.uniforms[name] = value; }
  uniformMatrix4fv(name, transposed, value) { this.uniforms[name] = value; }
  clear() { this.draws = []; }
  drawArrays(mode, first, count) { this.draw(mode, Array.from({ length: count }, (_, i) => first + i)); }
  drawElements(mode, count, type, offset) {
    const { bytes } = this.array.indices;
    assert.deepEqual([type, offset, bytes.length], [5123, 0, 2 * count]);
    this.draw(mode, Array.from({ length: count }, (_, i) => bytes.readUInt16LE(2 * i)));
  }
  draw(mode, corners) {
    this.draws.push({ mode, corners, attributes: this.array.attributes, uniforms: { ...this.uniforms } });
  }
}
// What is of no interest here.
for (const name of ["viewport", "enable", "useProgram", "shaderSource", "compileShader", "attachShader", "linkProgram"]) {
  Card.prototype[name] = () => {};
}

/** The numbers of an attribute for a corner, as the shader gets them. */
function attribute({ size, type, normalized, stride, offset, buffer }, corner) {
  return Array.from({ length: size }, (_, i) => {
    const at = offset + corner * stride;
    if (type === 5126) return buffer.bytes.readFloatLE(at + 4 * i);
    const [value, most] = type === 5123 ? [buffer.bytes.readUInt16LE(at + 2 * i), 65535] : [buffer.bytes.readUInt8(at + i), 255];
    return normalized ? value / most : value;
  });
}

/** A page's script, run. `frame` lets it draw and gives what it drew; `rest` lets time pass. */
class Browser {
  constructor(script, texts, card = new Card(), [clientWidth, clientHeight] = WINDOWS[0]) {
    const canvas = new Element({ clientWidth, clientHeight, getContext: () => card });
    this.elements = { canvas, size: new Element({ value: "0" }), cameras: new Element({ checked: true }) };
    for (const id of ["status", "panel", "count", "light", "reset", "save", "origin", "cameras-row"]) {
      this.elements[id] = new Element();
    }
    this.card = card;
    this.timers = new Set();
    this.frames = [];
    this.window = new Element();
    const pieces = texts.map((text) => new Element({ textContent: text }));
    const document = {
      title: "page",
      body: new Element(),
      documentElement: new Element(),
      getElementById: (id) => this.elements[id],
      createElement: () => new Element(),
      querySelectorAll: () => pieces,
    };
    this.context = vm.createContext({
      document,
      atob,
      TextDecoder,
      devicePixelRatio: 1,
      ResizeObserver: class { observe() {} },
      matchMedia: () => new Element({ matches: false }),
      addEventListener: (type, listener) => this.window.addEventListener(type, listener),
      requestAnimationFrame: (draw) => this.frames.push(draw),
      setTimeout: (run) => { this.timers.add(run); return run; },
      clearTimeout: (run) => this.timers.delete(run),
    });
    vm.runInContext(script, this.context);
  }

  async start() {
    this.window.fire("DOMContentLoaded");
    // As often as a page may pause while it reads; microtasks run in between.
    for (let i = 0; i < 1000 && this.status.startsWith("Reading"); i++) {
      await new Promise(setImmediate);
      this.rest();
    }
    return this;
  }

  get status() { return this.elements.status.textContent; }

  frame() {
    const [draw] = this.frames.splice(0);
    draw();
    assert.equal(this.frames.length, 0, "it draws again although nothing changed");
    return this.card.draws;
  }

  rest() {
    const timers = [...this.timers];
    this.timers.clear();
    for (const run of timers) run();
  }

  /** A name of the script. */
  get(name) { return vm.runInContext(name, this.context); }
}

// ---- what must hold ----

function near(a, b, what) {
  const scale = Math.max(1, Math.abs(b));
  if (!(Math.abs(a - b) <= TOLERANCE * scale)) throw new Error(`${what}: ${a} instead of ${b}`);
}

const minus = (a, b) => a.map((x, i) => x - b[i]);
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const scaled = (a, s) => a.map((x) => x * s);

/** Where a matrix, column by column, takes a point: x and y in the window, and the depth. */
function project(clip, p) {
  const [x, y, z, w] = [0, 1, 2, 3].map((r) => clip[r] * p[0] + clip[r + 4] * p[1] + clip[r + 8] * p[2] + clip[r + 12]);
  return { x: x / w, y: y / w, clipX: x, clipY: y, z, w };
}

/**
 * The first photo's camera: the root makes view from world, and turns the world by half a turn about z before it applies
 * that camera's pose, so the pose is the root after that half turn, and the root brings it into view.
 */
function firstPhoto(root) {
  const poseOf = ([x, y, z]) => place(root, place(root, [-x, -y, z]));
  const eye = poseOf([0, 0, 0]);
  const axis = (direction) => {
    const v = minus(poseOf(direction), eye);
    return scaled(v, 1 / Math.hypot(...v));
  };
  return { eye, right: axis([1, 0, 0]), down: axis([0, 1, 0]), forward: axis([0, 0, 1]) };
}

/** Every corner of the draws against the plain parts, seen from the first photo's camera or straight behind it. */
function checkDraws(draws, plain, step = 1, [width, height] = WINDOWS[0]) {
  const tangents = [width, height].map((side) => (TAN_HALF_FIELD * side) / Math.min(width, height));
  const { eye, right, down, forward } = firstPhoto(plain.root);
  let back = null;
  let seen = 0;
  assert.equal(draws.length, plain.parts.length, "number of draws");
  draws.forEach(({ mode, corners, attributes, uniforms }, n) => {
    const part = plain.parts[n];
    const every = part.mode === 0 ? step : 1;
    assert.equal(mode, part.mode, "mode");
    assert.equal(corners.length, Math.ceil(part.places.length / every), "number of corners");
    corners.forEach((corner, i) => {
      const expected = minus(part.places[i * every], eye);
      const at = project(uniforms.clip_from_model, attribute(attributes[0], corner));
      const depth = dot(expected, forward);
      back ??= at.w - depth;
      near(at.w - back, depth, "depth");
      near(at.clipX * tangents[0], dot(expected, right), "across");
      near(at.clipY * tangents[1], -dot(expected, down), "up");
      const inside = Math.abs(at.clipX) <= at.w + TOLERANCE && Math.abs(at.clipY) <= at.w + TOLERANCE && at.z > -at.w;
      assert(part.mode === 0 || inside, "a camera lies outside of the window");
      seen += part.mode === 0 && inside ? 1 : 0;
      const color = attribute(attributes[1], corner).slice(0, 3);
      color.forEach((c, k) => near(uniforms.linear ? srgbOf(c) : c, part.colors[i * every][k], "color"));
    });
    assert.equal(!!uniforms.disc, mode === 0, "only points are discs");
  });
  assert(back >= -TOLERANCE, `the eye stands ${-back} before the first photo's camera`);
  assert(seen >= SEEN_AT_START * Math.ceil(plain.points.places.length / step), `only ${seen} points are seen`);
}

/** What the panel says and does. */
function checkPanel(browser, plain) {
  const { count, origin, cameras, save } = browser.elements;
  assert.equal(count.textContent.replaceAll(",", "").split(" ")[0], String(plain.points.places.length));
  const told = origin.children.map(({ textContent }) => textContent);
  assert.equal(told[told.indexOf("weights_sha256") + 1], plain.extras.weights_sha256);
  assert.equal(told[told.indexOf("conf_thres") + 1], String(plain.extras.options.conf_thres));
  assert.equal(browser.elements["cameras-row"].hidden, plain.cameras.length === 0);
  assert.equal(save.disabled, false);
  cameras.checked = false;
  cameras.fire("input");
  assert.equal(browser.frame().length, 1, "cameras that are switched off are drawn");
  cameras.checked = true;
}

/** Turning, shifting, zooming and centring, each by what it must leave alone. */
function checkView(browser, plain) {
  const names = ["startView", "samplePoints", "readGlb", "turn", "shift", "zoom", "center", "eyeOf", "clipFromScene", "onPlane", "pointAt"];
  const page = Object.fromEntries(names.map((name) => [name, browser.get(name)]));
  const aspect = WINDOWS[0][0] / WINDOWS[0][1];
  const glb = page.readGlb(new Uint8Array(plain.glb));
  const sample = page.samplePoints(glb.points, 1000);
  const corners = page.samplePoints(glb.cameras, 1000);
  const view = page.startView(glb.rootMatrix, sample, corners, aspect);
  const clip = () => page.clipFromScene(view, aspect);
  const { distance } = view;

  page.turn(view, 0.7, 0.4);
  let at = project(clip(), view.target);
  for (const [got, expected] of [[at.x, 0], [at.y, 0], [at.w, distance]]) near(got, expected, "the center after a turn");
  const { right, up, forward, eye } = page.eyeOf(view);
  for (const [a, b, expected] of [[right, up, 0], [up, forward, 0], [right, right, 1], [up, up, 1]]) near(dot(a, b), expected, "axes");
  assert(dot(up, view.up) > 0 && Math.abs(dot(right, view.up)) < TOLERANCE, "the horizon is level");
  near(dot(minus(eye, view.target), view.up), distance * Math.sin(0.4), "the eye rises");

  const grabbed = view.target.map((t, i) => t + page.onPlane(view, 0.2, -0.1, aspect)[i]);
  page.shift(view, 0.3, 0.25, aspect);
  at = project(clip(), grabbed);
  near(at.x, 0.5, "x of what the hand shifts");
  near(at.y, 0.15, "y of what the hand shifts");

  page.zoom(view, 0.25, 0.5, 0.15, aspect);
  at = project(clip(), grabbed);
  for (const [got, expected] of [[at.x, 0.5], [at.y, 0.15], [at.w, distance / 4]]) near(got, expected, "the pointer's place after a zoom");
  page.zoom(view, 0, 0, 0, aspect);
  assert(view.distance > 0, "a zoom ends at the center");
  page.zoom(view, distance / view.distance, 0, 0, aspect);
  page.turn(view, 0, 9);
  assert(dot(page.eyeOf(view).up, view.up) > 0, "it turns over");
  page.turn(view, -0.7, -view.pitch);

  const { places } = plain.points;
  const radius = 0.03;
  at = project(clip(), places[Math.floor(places.length / 3)]);
  const depths = places.map((p) => {
    const { x, y, w } = project(clip(), p);
    return w > 0 && Math.hypot((x - at.x) * aspect, y - at.y) < radius ? w : Infinity;
  });
  const found = page.pointAt(glb.points, clip(), at.x, at.y, radius, aspect);
  const of = project(clip(), found);
  near(of.w, depths.reduce((a, b) => Math.min(a, b)), "the depth of the point that is found");
  page.center(view, found);
  const centered = project(clip(), found);
  for (const [got, expected] of [[centered.x, 0], [centered.y, 0], [centered.w, of.w]]) near(got, expected, "the new center");
}

/** A drag draws what the same turn would show, and fewer points while it lasts. */
async function checkMovement({ script, texts }, plain) {
  const [limit, fewer] = ["POINTS_WHILE_MOVING = 3e6", "POINTS_WHILE_MOVING = 9e3"];
  assert(script.includes(limit));
  const browser = await new Browser(script.replace(limit, fewer), texts).start();
  checkDraws(browser.frame(), plain);
  const { canvas } = browser.elements;
  const hand = { pointerId: 1, buttons: 1, button: 0, timeStamp: 0 };
  canvas.fire("pointerdown", { ...hand, clientX: 450, clientY: 300 });
  canvas.fire("pointermove", { ...hand, clientX: 460, clientY: 300 });
  canvas.fire("pointermove", { ...hand, clientX: 450, clientY: 300 });
  canvas.fire("pointerup", { ...hand, clientX: 450, clientY: 300 });
  // There and back: the view is the first one again.
  const step = Math.min(Math.ceil(plain.points.places.length / 9e3), Math.floor(255 / 12));
  checkDraws(browser.frame(), plain, step);
  browser.rest();
  checkDraws(browser.frame(), plain);
  browser.rest();
  assert.equal(browser.frames.length, 0, "it draws although nothing moves");
}

/** What is damaged is told in a sentence, whatever it is. */
async function checkFaults({ script, texts, glb }) {
  const status = async (texts, card) => (await new Browser(script, texts, card).start()).status;
  const { length } = texts[0];
  for (const [what, damaged] of [
    ["nothing", []],
    ["cut off", [texts[0].slice(0, length - (length % 4) - 400)]],
    ["no base64", [`${texts[0].slice(0, 80)}?${texts[0].slice(81)}`, ...texts.slice(1)]],
    ["no GLB", [`AAAA${texts[0].slice(4)}`, ...texts.slice(1)]],
    ["too long", [...texts, "AAAA"]],
  ]) {
    assert.match(await status(damaged), /^The GLB in this page is damaged: .*\.$/, what);
  }
  assert.match(await status(texts, null), /^This browser has no WebGL 2/);

  const browser = new Browser(script, texts);
  const [readGlb, PageError] = ["readGlb", "PageError"].map((name) => browser.get(name));
  const refused = (bytes, what) => assert.throws(() => readGlb(new Uint8Array(bytes)), PageError, what);
  const json = glb.readUInt32LE(12);
  for (const length of [0, 11, 19, 20 + json, 28 + json, glb.length - 4]) refused(glb.subarray(0, length), `${length} bytes`);
  const document = JSON.parse(glb.subarray(20, 20 + json).toString());
  const changes = {
    "no nodes": (d) => delete d.nodes,
    "no meshes": (d) => delete d.meshes,
    "no accessors": (d) => delete d.accessors,
    "no points": (d) => { d.nodes.at(-1).children = []; },
    "a count beyond the end": (d) => d.accessors.forEach((a) => { a.count *= 1000; }),
    "a count that is no number": (d) => d.accessors.forEach((a) => { a.count = "9"; }),
    "an offset below 0": (d) => { d.bufferViews[0].byteOffset = -4; },
    "no stride": (d) => { d.bufferViews[0].byteStride = 0; },
    "another type": (d) => { d.accessors[0].componentType = 5130; },
    "a short matrix": (d) => { d.nodes.at(-1).matrix = [1, 2]; },
    "a matrix of words": (d) => { d.nodes.at(-1).matrix = Array(16).fill("1"); },
  };
  for (const [what, change] of Object.entries(changes)) {
    const changed = structuredClone(document);
    change(changed);
    const text = Buffer.from(JSON.stringify(changed).padEnd(json + 64));
    const bytes = Buffer.concat([glb.subarray(0, 12), Buffer.alloc(8), text, glb.subarray(20 + json)]);
    bytes.writeUInt32LE(text.length, 12);
    bytes.write("JSON", 16);
    refused(bytes, what);
  }
}

async function check(file) {
  const page = readPage(fs.readFileSync(file, "utf8"));
  const plain = { ...readPlainly(page.glb), glb: page.glb };
  for (const window of WINDOWS) {
    const browser = await new Browser(page.script, page.texts, new Card(), window).start();
    assert.equal(browser.status, "", "the page complains");
    checkDraws(browser.frame(), plain, 1, window);
    checkPanel(browser, plain);
  }
  checkView(new Browser(page.script, page.texts), plain);
  await checkMovement(page, plain);
  await checkFaults(page);
  return `${plain.points.places.length} points, ${plain.cameras.length} cameras`;
}

function filesOf(place) {
  if (!fs.statSync(place).isDirectory()) return [place];
  const names = fs.readdirSync(place).filter((name) => name.endsWith(".html"));
  return names.sort().map((name) => path.join(place, name));
}

async function main(places) {
  const files = places.flatMap(filesOf);
  let faults = 0;
  for (const file of files) {
    try {
      console.log(`${file}: ${await check(file)}`);
    } catch (error) {
      faults += 1;
      console.log(`${file}: WRONG: ${error.stack}`);
    }
  }
  console.log(`${files.length} pages, ${faults} of them wrong`);
  return files.length > 0 && faults === 0 ? 0 : 1;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    console.error(`cannot check: ${error.message}`);
    process.exit(1);
  },
);
