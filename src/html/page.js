// The page at work: WebGL, the panel, the hand on the mouse or the glass. Draws only when something changed.

/** While the view moves, no more than about this many points are drawn. */
const POINTS_WHILE_MOVING = 3e6;
/** So long after the last movement all are drawn again, ms. */
const REST = 200;
/** WebGL's longest step from one vertex to the next, bytes. */
const LONGEST_STRIDE = 255;

const VERTEX_SHADER = `#version 300 es
layout(location = 0) in vec3 position;
layout(location = 1) in vec4 color;
uniform mat4 clip_from_model;
uniform bool linear;
// Pixels at distance 1.
uniform float size;
out vec3 shown;

vec3 srgb_from_linear(vec3 c) {
  return mix(1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, 12.92 * c, vec3(lessThanEqual(c, vec3(0.0031308))));
}

void main() {
  gl_Position = clip_from_model * vec4(position, 1.0);
  gl_PointSize = max(size / gl_Position.w, 1.0);
  shown = linear ? srgb_from_linear(color.rgb) : color.rgb;
}`;

const FRAGMENT_SHADER = `#version 300 es
precision mediump float;
uniform bool disc;
in vec3 shown;
out vec4 color;

void main() {
  if (disc && distance(gl_PointCoord, vec2(0.5)) > 0.5) discard;
  color = vec4(shown, 1.0);
}`;

const element = (id) => document.getElementById(id);

/** Says a sentence on the page; none takes it away. */
function tell(sentence) {
  element("status").textContent = sentence;
}

function tellFault(error) {
  tell(error instanceof PageError ? error.message : `This page has a fault: ${error?.message ?? error}`);
}

/** Everything on the graphics card. */
class Painter {
  constructor(gl, glb) {
    this.gl = gl;
    this.glb = glb;
    this.program = linkProgram(gl);
    const uniform = (name) => gl.getUniformLocation(this.program, name);
    const names = ["clip_from_model", "linear", "size", "disc"];
    this.uniforms = Object.fromEntries(names.map((name) => [name, uniform(name)]));
    this.points = glb.points.map((part) => this.upload(part));
    this.cameras = glb.cameras.map((part) => this.upload(part));
    if (gl.getError() === gl.OUT_OF_MEMORY) {
      throw new PageError(`The graphics memory does not hold ${glb.count.toLocaleString("en")} points. Fewer need less: vggt export --max-points.`);
    }
  }

  /** Brings a part's columns to the card: all of it, and every `step`-th point of it for while the view moves. */
  upload({ mode, matrix, position, color, indices }) {
    const { gl } = this;
    const buffers = [position, color].map(({ bytes }) => fillBuffer(gl, gl.ARRAY_BUFFER, bytes));
    const longest = Math.floor(LONGEST_STRIDE / Math.max(position.stride, color.stride));
    const step = Math.min(longest, Math.ceil(this.glb.count / POINTS_WHILE_MOVING));
    const vertexArray = (step) => {
      const array = gl.createVertexArray();
      gl.bindVertexArray(array);
      [position, color].forEach(({ size, type, normalized, stride }, location) => {
        gl.bindBuffer(gl.ARRAY_BUFFER, buffers[location]);
        gl.enableVertexAttribArray(location);
        gl.vertexAttribPointer(location, size, type, normalized, step * stride, 0);
      });
      return array;
    };
    const all = vertexArray(1);
    // Belongs to the array that is bound.
    if (indices) fillBuffer(gl, gl.ELEMENT_ARRAY_BUFFER, indices.bytes);
    const some = mode === POINTS && step > 1 ? vertexArray(step) : all;
    gl.bindVertexArray(null);
    return { mode, matrix, all, some, step: some === all ? 1 : step, count: (indices ?? position).count, indexed: !!indices };
  }

  draw(clip, { pixels, moving, cameras }) {
    const { gl, uniforms } = this;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(this.program);
    gl.uniform1i(uniforms.linear, this.glb.linear);
    for (const part of cameras ? [...this.points, ...this.cameras] : this.points) {
      const step = moving ? part.step : 1;
      gl.uniform1i(uniforms.disc, part.mode === POINTS);
      gl.uniform1f(uniforms.size, pixels * Math.sqrt(step));
      gl.uniformMatrix4fv(uniforms.clip_from_model, false, multiply(clip, part.matrix));
      gl.bindVertexArray(moving ? part.some : part.all);
      if (part.indexed) gl.drawElements(part.mode, part.count, U16, 0);
      else gl.drawArrays(part.mode, 0, Math.ceil(part.count / step));
    }
    gl.bindVertexArray(null);
  }
}

function fillBuffer(gl, target, bytes) {
  const buffer = gl.createBuffer();
  gl.bindBuffer(target, buffer);
  gl.bufferData(target, bytes, gl.STATIC_DRAW);
  return buffer;
}

function linkProgram(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new PageError(`This browser's WebGL refuses the page's program: ${gl.getProgramInfoLog(program)}`);
  }
  return program;
}

/** The canvas, what is on it and from where it is seen. */
class Stage {
  constructor(canvas, glb) {
    this.canvas = canvas;
    this.glb = glb;
    this.sample = samplePoints(glb.points, 20000);
    this.corners = samplePoints(glb.cameras, Infinity);
    this.gl = canvas.getContext("webgl2");
    if (!this.gl) {
      throw new PageError("This browser has no WebGL 2, or it is switched off. The page needs it to draw; the GLB inside can still be saved.");
    }
    this.painter = new Painter(this.gl, glb);
    this.reset();
    this.spacing = spacingOf(glb, this.view);
  }

  get aspect() {
    return this.canvas.clientWidth / this.canvas.clientHeight || 1;
  }

  /** x and y of the window in halves of it from the middle, y upwards. */
  halves(x, y) {
    return [(2 * x) / this.canvas.clientWidth - 1, 1 - (2 * y) / this.canvas.clientHeight];
  }

  reset() {
    this.view = startView(this.glb.rootMatrix, this.sample, this.corners, this.aspect);
    this.request();
  }

  /** Changes the view, and draws fewer points until that rests. */
  move(change) {
    change(this.view);
    this.moving = true;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.moving = false;
      this.request();
    }, REST);
    this.request();
  }

  centreAt(x, y) {
    const radius = 24 / this.canvas.clientHeight;
    const clip = clipFromScene(this.view, this.aspect);
    const point = pointAt(this.glb.points, clip, ...this.halves(x, y), radius, this.aspect);
    if (point) this.move((view) => center(view, point));
  }

  /** Draws before the browser shows its next picture. */
  request() {
    this.requested ??= requestAnimationFrame(() => {
      this.requested = null;
      this.draw();
    });
  }

  draw() {
    const { canvas, gl, view, aspect } = this;
    if (!this.painter || gl.isContextLost()) return;
    // More than two pixels for one cost a phone's battery and are not seen.
    const ratio = Math.min(devicePixelRatio, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.max(1, Math.round(n * ratio)));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const size = this.spacing * 2 ** element("size").value;
    this.painter.draw(clipFromScene(view, aspect), {
      pixels: (size * height) / 2 / tangents(aspect)[1],
      moving: this.moving,
      cameras: element("cameras").checked,
    });
  }

  listen() {
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.painter = null;
      tell("The browser took the graphics away. Waiting for it to give them back; if it does not, reload the page.");
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      try {
        this.painter = new Painter(this.gl, this.glb);
        tell("");
        this.request();
      } catch (error) {
        tellFault(error);
      }
    });
    new ResizeObserver(() => this.request()).observe(this.canvas);
    // The pixels of another screen are no change of size.
    addEventListener("resize", () => this.request());
  }
}

/** About how far points lie from their neighbors: a frame's fill a square as wide as it is far away. Never a huge disc. */
function spacingOf({ extras, count }, { depth, size }) {
  const frames = extras.options?.frame_filter === "All" ? extras.frames : 1;
  return (depth > 0 ? depth : size) / Math.max(50, 0.8 * Math.sqrt(count / frames || 1));
}

/** One finger or the left button turns, the right one or Shift shifts, two fingers shift and zoom. */
function listenToPointers(stage) {
  const { canvas } = stage;
  const held = new Map();
  let travelled = 0;
  let lastTap = null;
  // The middle of all fingers, and how far two are from each other.
  const grip = () => {
    const [a, b = a] = held.values();
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, spread: Math.hypot(a.x - b.x, a.y - b.y) };
  };
  const release = (event) => {
    held.delete(event.pointerId);
    canvas.classList.toggle("held", held.size > 0);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    canvas.classList.add("held");
    travelled = held.size > 1 ? Infinity : 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const before = grip();
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const after = grip();
    const [dx, dy] = [after.x - before.x, after.y - before.y];
    travelled += Math.hypot(dx, dy);
    stage.move((view) => {
      if (held.size > 1 || event.shiftKey || event.buttons & 6) {
        shift(view, (2 * dx) / canvas.clientWidth, (-2 * dy) / canvas.clientHeight, stage.aspect);
      } else {
        turn(view, (Math.PI * dx) / canvas.clientHeight, (Math.PI * dy) / canvas.clientHeight);
      }
      if (before.spread && after.spread) {
        zoom(view, before.spread / after.spread, ...stage.halves(after.x, after.y), stage.aspect);
      }
    });
  });
  canvas.addEventListener("pointerup", (event) => {
    release(event);
    if (travelled > 6 || event.button > 0) return;
    const { clientX: x, clientY: y, timeStamp: time } = event;
    const again = lastTap && time - lastTap.time < 400 && Math.hypot(x - lastTap.x, y - lastTap.y) < 24;
    lastTap = again ? null : { x, y, time };
    if (again) stage.centreAt(x, y);
  });
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    // Lines or pixels; a touchpad's pinch comes as small steps with Ctrl.
    const pixels = event.deltaY * (event.deltaMode ? 30 : 1) * (event.ctrlKey ? 6 : 1);
    const factor = Math.exp(Math.min(200, Math.max(-200, pixels)) / 600);
    stage.move((view) => zoom(view, factor, ...stage.halves(event.clientX, event.clientY), stage.aspect));
  }, { passive: false });
}

function listenToKeys(stage) {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const zooms = { "+": 0.9, "=": 0.9, "-": 1 / 0.9, _: 1 / 0.9 };
  addEventListener("keydown", (event) => {
    // Whatever else has the focus has its own use for keys.
    const mine = event.target === stage.canvas || event.target === document.body;
    if (!mine || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (arrows[key]) {
      const [x, y] = arrows[key];
      stage.move((view) => (event.shiftKey ? shift(view, 0.05 * x, 0.05 * y, stage.aspect) : turn(view, 0.08 * x, -0.08 * y)));
    } else if (zooms[key]) {
      stage.move((view) => zoom(view, zooms[key], 0, 0, stage.aspect));
    } else if (key === "r" || key === "R") {
      stage.reset();
    } else {
      return;
    }
    event.preventDefault();
  });
}

/** The panel before there is anything to see. */
function showPanel() {
  const panel = element("panel");
  panel.open = matchMedia("(min-width: 700px)").matches;
  panel.hidden = false;
  const light = element("light");
  const system = matchMedia("(prefers-color-scheme: light)");
  const apply = () => {
    document.documentElement.dataset.theme = light.checked ? "light" : "dark";
  };
  const follow = () => {
    light.checked = system.matches;
    apply();
  };
  system.addEventListener("change", follow);
  light.addEventListener("change", () => {
    system.removeEventListener("change", follow);
    apply();
  });
  follow();
}

/** What the file tells of itself. */
function describe({ count, cameras, extras }) {
  element("count").textContent = `${count.toLocaleString("en")} ${count === 1 ? "point" : "points"}`;
  element("cameras-row").hidden = cameras.length === 0;
  const { options = {}, ...rest } = extras;
  for (const [name, value] of Object.entries({ ...rest, ...options })) {
    if (value === null) continue;
    const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag));
    dt.textContent = name;
    dd.textContent = typeof value === "string" ? value : JSON.stringify(value);
    element("origin").append(dt, dd);
  }
}

/** The button that saves the GLB as a file. */
function offerFile(bytes) {
  const save = element("save");
  save.disabled = false;
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: "model/gltf-binary" }));
    link.download = `${document.title}.glb`;
    link.click();
    // Long after the browser began to save.
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}

async function start() {
  const pieces = [...document.querySelectorAll("script.glb")];
  const bytes = await decodeElements(pieces, (share) => tell(`Reading the points: ${Math.round(100 * share)} %`));
  offerFile(bytes);
  const glb = readGlb(bytes);
  describe(glb);
  const stage = new Stage(element("canvas"), glb);
  stage.listen();
  listenToPointers(stage);
  listenToKeys(stage);
  element("reset").addEventListener("click", () => stage.reset());
  for (const id of ["size", "cameras"]) element(id).addEventListener("input", () => stage.request());
  tell("");
}

addEventListener("error", (event) => tellFault(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => tellFault(event.reason));
addEventListener("DOMContentLoaded", () => start().catch(tellFault));
showPanel();
tell("Reading the points.");
