// Opens pages of `vggt export` in Chromium; see ../check_page.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkFaults, checkLoss, checkWithoutScript, checkWithoutWebgl } from "./check_faults.mjs";
import { checkHands } from "./check_hands.mjs";
import { checkAddress, checkFingers, checkHorizon, checkMeasuring, checkPace } from "./check_tools.mjs";
import { launch } from "./launch.mjs";
import { Opened } from "./opened.mjs";
import { readPage } from "./pages.mjs";
import { readPlainly, recordsOf, sorted, transform } from "./plain_glb.mjs";
import { length, minus, project } from "./vectors.mjs";

/** A desktop's window and a phone's. */
const WINDOWS = [
  { width: 900, height: 600 },
  { width: 390, height: 844 },
];
/** At least this share of the points must be seen at the start. */
const SEEN_AT_START = 0.94;
/** Of lengths near 1: the matrix that the card gets is rounded to single precision. */
const TOLERANCE = 1e-5;
/** Rules of axe whose violations are faults. */
const SERIOUS = ["serious", "critical"];

/** What reaches the graphics card is what the GLB has, each point once. */
async function checkPoints(opened, { plain, about, confidence }) {
  const { bytes, pointers } = await opened.block();
  const [UNSIGNED_INT, STRIDE] = [5125, 20];
  assert.deepEqual(
    pointers,
    { 0: [3, UNSIGNED_INT, STRIDE], 12: [1, UNSIGNED_INT, STRIDE], 16: [1, UNSIGNED_INT, STRIDE] },
    "how the block is bound",
  );
  assert(sorted(bytes).equals(recordsOf(plain, about.frames, confidence)), "the points on the card are not those of the GLB");
  const { count, threshold } = await opened.points();
  assert.equal(count, plain.count, "points that are drawn at rest");
  assert.equal(threshold, 0, "the least confidence at the start");
}

/** The first photo's camera in world space, as the page's cameras, the GLB's, or its root have it. */
function firstPhoto({ plain, about }) {
  const rows = about.cameras?.[0]?.camera_from_world;
  if (rows) {
    const axis = (r) => rows[r].slice(0, 3);
    const eye = [0, 1, 2].map((k) => -rows.slice(0, 3).reduce((sum, row) => sum + row[k] * row[3], 0));
    return { eye, forward: axis(2), down: axis(1) };
  }
  // glTF's cameras look along -z. Without one: the root is world_from_camera after half a turn about z.
  const pose = plain.cameras[0] ?? plain.root.map((x, i) => (i >= 4 && i < 8 ? x : i < 4 || i >= 12 ? (i < 4 ? -x : x) : -x));
  const eye = transform(pose, [0, 0, 0]);
  return { eye, forward: minus(transform(pose, [0, 0, -1]), eye), down: minus(transform(pose, [0, -1, 0]), eye) };
}

/** Seen from the first photo's camera or straight behind it, with most points and all cameras in the window. */
async function checkFirstView(opened, scene) {
  const { clip } = await opened.points();
  const { eye, forward, down } = firstPhoto(scene);
  const at = (distance) =>
    project(
      clip,
      eye.map((e, k) => e + distance * forward[k]),
    );
  const [here, ahead] = [at(0), at(1)];
  const scale = Math.max(1, Math.abs(ahead.w));
  for (const { clipX, clipY } of [here, ahead]) {
    assert(
      Math.abs(clipX) < TOLERANCE * scale && Math.abs(clipY) < TOLERANCE * scale,
      `it does not look where the first photo does: ${clipX}, ${clipY}`,
    );
  }
  assert(Math.abs(ahead.w - here.w - 1) < TOLERANCE * scale, "it does not look the way of the first photo");
  assert(here.w > -TOLERANCE * scale, `the eye stands ${-here.w} before the first photo's camera`);
  const below = project(
    clip,
    eye.map((e, k) => e + forward[k] + 0.1 * down[k]),
  );
  assert(below.clipY < 0, "it is upside down");
  const { positions, count } = scene.plain;
  let seen = 0;
  for (let i = 0; i < count; i++) seen += project(clip, positions.subarray(3 * i, 3 * i + 3)).inside ? 1 : 0;
  assert(seen >= SEEN_AT_START * count, `only ${seen} of ${count} points are seen`);
  for (const { frame, camera_from_world: rows } of scene.about.cameras ?? []) {
    const center = [0, 1, 2].map((k) => -rows.slice(0, 3).reduce((sum, row) => sum + row[k] * row[3], 0));
    const { clipX, clipY, w } = project(clip, center);
    assert(
      Math.max(Math.abs(clipX), Math.abs(clipY)) <= w + TOLERANCE * scale,
      `the camera of frame ${frame} is out of the window`,
    );
  }
}

/** What the panel says and does. */
async function checkPanel(opened, { plain, about, confidence, glb }) {
  const shown = async () => Number((await opened.data()).shown);
  const number = (n) => n.toLocaleString("en");
  const { count } = plain;
  const wasOpen = await opened.page.evaluate(() => document.querySelector(".panel").open);
  await opened.page.evaluate(() => (document.querySelector(".panel").open = true));
  const counts = await opened.text(".counts");
  assert(counts.startsWith(`${number(count)} of ${number(count)} point`), `it tells ${counts}`);
  const told = await opened.page.evaluate(() =>
    [...document.querySelectorAll(".about dt")].map((dt) => [dt.textContent, dt.nextElementSibling.textContent]),
  );
  assert.equal(Object.fromEntries(told).weights_sha256, plain.extras.weights_sha256, "weights_sha256");
  assert.equal(Object.fromEntries(told).conf_thres, String(plain.extras.options.conf_thres), "conf_thres");

  await opened.page.click(".save");
  assert((await opened.saved()).equals(glb), "the GLB that is saved is another one");

  const LINES = 1;
  const hasCameras = (about.cameras ?? plain.cameras).length > 0;
  if (hasCameras) {
    assert((await opened.modes()).includes(LINES), "no cameras are drawn");
    await opened.set(".panel input[type=checkbox]", false);
    await opened.rest();
    assert(!(await opened.modes()).includes(LINES), "cameras that are switched off are drawn");
    await opened.set(".panel input[type=checkbox]", true);
  }
  if (confidence) {
    const slider = ".panel input[type=range]";
    await opened.set(slider, 100);
    await opened.rest();
    assert.equal(await shown(), confidence.filter((c) => c >= 100).length, "points of enough confidence");
    assert.equal((await opened.points()).threshold, 100, "the least confidence");
    await opened.set(slider, 0);
  }
  const frame = about.frames?.findIndex((n) => n > 0 && n < count) ?? -1;
  if (frame >= 0) {
    await opened.set(".chooser select", frame);
    await opened.rest();
    assert.equal(await shown(), about.frames[frame], `points of frame ${frame}`);
    assert.equal((await opened.points()).count, about.frames[frame], `drawn points of frame ${frame}`);
    await opened.set(".chooser select", "");
  }
  await opened.page.evaluate((open) => (document.querySelector(".panel").open = open), wasOpen);
  await opened.rest();
  assert.equal(await shown(), count, "all points again");
}

/** A camera of the list: from where its photo was taken, and back. */
async function checkCamera(opened, { about }) {
  const index = (about.cameras?.length ?? 0) - 1;
  if (index < 0) return;
  // The photo lies beside the panel.
  await opened.page.evaluate(() => (document.querySelector(".panel").open = false));
  await opened.rest();
  const before = await opened.points();
  await opened.set(".chooser ~ .chooser select", index);
  await opened.rest();
  const { camera } = await opened.data();
  assert.equal(camera, String(index), "the camera one looks out of");
  const { camera_from_world: rows, width, height, fx, fy, cx, cy } = about.cameras[index];
  const { clip } = await opened.points();
  const size = await opened.page.evaluate(() => ({
    width: document.querySelector("canvas").clientWidth,
    height: document.querySelector("canvas").clientHeight,
  }));
  const photo = await opened.page.evaluate(() =>
    document.querySelector(".overlay img").hidden
      ? null
      : document.querySelector(".overlay img").getBoundingClientRect().toJSON(),
  );
  assert.equal(photo !== null, about.photos !== undefined, "whether the photo is shown");
  const scale = photo && photo.width / width;
  if (photo) {
    assert(Math.abs(photo.height - scale * height) < 0.5, "the photo is distorted");
    assert(photo.x >= 0 && photo.y >= 0 && photo.right <= size.width && photo.bottom <= size.height, "the photo is cut off");
  }
  // A point before the camera is at its pixel of the photo.
  for (const [x, y, z] of photo
    ? [
        [0, 0, 2],
        [0.4, -0.3, 1.5],
      ]
    : []) {
    const inCamera = [x - rows[0][3], y - rows[1][3], z - rows[2][3]];
    const world = [0, 1, 2].map((k) => rows.slice(0, 3).reduce((sum, row, r) => sum + row[k] * inCamera[r], 0));
    const at = project(clip, world);
    const pixel = [photo.x + scale * ((fx * x) / z + cx), photo.y + scale * ((fy * y) / z + cy)];
    const got = [((at.x + 1) / 2) * size.width, ((1 - at.y) / 2) * size.height];
    assert(length(minus(pixel, got)) < 0.5, `a pixel of the photo lies at ${got} instead of ${pixel}`);
  }
  await opened.page.keyboard.press("Escape");
  await opened.rest();
  assert.deepEqual(
    (await opened.points()).clip.map((x) => x.toFixed(4)),
    before.clip.map((x) => x.toFixed(4)),
    "the view before the camera",
  );
}

/** Nothing that keeps people from using it. */
async function checkAccess(opened, axe) {
  await opened.page.evaluate(axe);
  const { violations } = await opened.page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => SERIOUS.includes(impact));
  assert.deepEqual(
    serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`),
    [],
    "axe",
  );
}

async function check(openPage, file, axe) {
  const page = readPage(file);
  const scene = { ...page, plain: readPlainly(page.glb) };
  for (const window of WINDOWS) {
    const opened = await Opened.open(openPage, file, window);
    assert.equal(await opened.status(), "", "the page complains");
    await checkPoints(opened, scene);
    await checkFirstView(opened, scene);
    await checkAccess(opened, axe);
    if (window === WINDOWS[0]) {
      await checkPanel(opened, scene);
      await checkCamera(opened, scene);
      await checkHands(opened, scene);
    }
    assert.deepEqual(await opened.faults(), []);
    await opened.close();
  }
  return `${scene.plain.count} points, ${(page.about.cameras ?? scene.plain.cameras).length} cameras`;
}

function filesOf(place) {
  if (!statSync(place).isDirectory()) return [place];
  const names = readdirSync(place).filter((name) => name.endsWith(".html"));
  return names.sort().map((name) => join(place, name));
}

async function main(places) {
  const files = places.flatMap(filesOf);
  const axe = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
  const folder = mkdtempSync(join(tmpdir(), "vggt-pages-"));
  const { openPage, close } = await launch();
  let faults = 0;
  const run = async (name, work) => {
    try {
      console.log(`${name}: ${(await work()) ?? "right"}`);
    } catch (error) {
      faults += 1;
      console.log(`${name}: WRONG: ${error.stack}`);
    }
  };
  try {
    for (const file of files) await run(file, () => check(openPage, file, axe));
    // All have the same script, so one is enough for what it does with damaged ones.
    const [file] = [...files].sort((a, b) => statSync(a).size - statSync(b).size);
    if (file) {
      const page = readPage(file);
      await run("measuring", () => checkMeasuring(openPage, page, folder));
      await run("the view in the address", () => checkAddress(openPage, page, folder));
      await run("the horizon", () => checkHorizon(openPage, page, folder));
      await run("fingers", () => checkFingers(openPage, page, folder));
      await run("many points", () => checkPace(openPage, page, folder));
      await run("damaged pages", () => checkFaults(openPage, page, folder));
      await run("graphics that are taken away", () => checkLoss(openPage, file));
      await run("a browser without scripts", () => checkWithoutScript(openPage, file));
      await run("a browser without WebGL", () => checkWithoutWebgl(file));
    }
  } finally {
    await close();
    rmSync(folder, { recursive: true, force: true });
  }
  console.log(`${files.length} pages, ${faults} faults`);
  return files.length > 0 && faults === 0 ? 0 : 1;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    console.error(`cannot check: ${error.stack}`);
    process.exit(1);
  },
);
