// Measuring, pictures, the view in the address, fingers, and drawing fewer points while the view moves.
import assert from "node:assert/strict";
import { join } from "node:path";
import { PHONE } from "./launch.mjs";
import { Opened } from "./opened.mjs";
import { writePage } from "./pages.mjs";
import { readPlainly } from "./plain_glb.mjs";
import { glbOf, makeScene } from "./scenes.mjs";
import { axesOf, dot, length, minus, project } from "./vectors.mjs";

const WINDOW = { width: 900, height: 600 };
/** More points than are drawn before the pace is known. */
const MANY = 400_000;
/** Sine of the angle by which the horizon may be off. */
const LEVEL = 0.02;

/** A page of a synthetic scene. */
function roomPage(path, head, count) {
  const scene = makeScene(count, 4);
  const glb = glbOf(scene);
  writePage(path, {
    head,
    glb,
    confidence: scene.confidence,
    about: { frames: scene.perFrame, cameras: scene.cameras, unit: "arbitrary" },
  });
  return { ...scene, glb };
}

/** Two points, how far apart they are, and the scale when that is known. */
export async function checkMeasuring(openPage, { head }, folder) {
  const path = join(folder, "measure.html");
  const { glb, positions, count } = roomPage(path, head, 20_000);
  const opened = await Opened.open(openPage, path, WINDOW);
  const { page } = opened;
  const { clip } = await opened.points();
  await page.click("[aria-label=Measure]");
  // A place without points says so.
  await page.mouse.click(450, 590);
  const places = [
    [560, 330],
    [480, 250],
  ];
  for (const [x, y] of places) await page.mouse.click(x, y);
  await opened.rest();
  const told = Number((await opened.text(".length")).match(/^([\d.]+) units$/)[1]);
  // Of the points near to where was clicked some two are so far apart.
  const near = places.map(([x, y]) => {
    const found = [];
    for (let i = 0; i < count; i++) {
      const place = Array.from(positions.subarray(3 * i, 3 * i + 3));
      const at = project(clip, place);
      if (at.w > 0 && Math.hypot(((at.x + 1) / 2) * 900 - x, ((1 - at.y) / 2) * 600 - y) < 15) found.push(place);
    }
    return found;
  });
  assert(
    near[0].some((a) => near[1].some((b) => Math.abs(length(minus(a, b)) - told) < 0.006)),
    `no two points are ${told} apart`,
  );
  await page.type("form.bar input", "2.5");
  await page.keyboard.press("Enter");
  await opened.rest();
  assert.equal(await opened.text(".length"), "2.50 m");
  const flag = Number((await opened.text(".note:not([hidden])")).match(/--meters-per-unit ([\d.]+)$/)[1]);
  assert(Math.abs(flag - 2.5 / told) < 0.01 * flag, `the flag is ${flag} instead of ${2.5 / told}`);
  await page.click(".save");
  await page.waitForFunction(() => probe.blobs.length > 0);
  const saved = readPlainly(await opened.saved());
  const { root } = readPlainly(glb);
  assert.equal(saved.extras.unit, "meters");
  saved.root.forEach((x, i) =>
    assert(Math.abs(x - (i % 4 < 3 ? flag * root[i] : root[i])) < 1e-4, `the root's matrix: ${saved.root}`),
  );
  assert(Buffer.from(saved.positions.buffer).equals(Buffer.from(positions.buffer)), "the points that are saved are other ones");
  await page.click("form.bar p:last-child button:last-child");
  assert.equal(await page.$eval(".bar[aria-label=Measure]", (bar) => bar.hidden), true);

  // By keyboard: the point in the middle, then the one in the middle of another view.
  await page.focus("canvas");
  await page.click("[aria-label=Measure]");
  await page.focus("canvas");
  await page.keyboard.press("Enter");
  for (let n = 0; n < 3; n++) await page.keyboard.press("ArrowRight");
  await opened.rest();
  await page.keyboard.press("Enter");
  assert.match(await opened.text(".length"), /^[\d.]+ m$/);
  await page.keyboard.press("Escape");

  await page.click("[aria-label^='Save a picture']");
  await page.waitForFunction(() => probe.blobs.at(-1).type === "image/png");
  const picture = await opened.saved();
  assert.deepEqual([picture.readUInt32BE(16), picture.readUInt32BE(20)], [900, 600], "the size of the picture");
  assert(picture.length > 20_000, "the picture is empty");
  assert.deepEqual(await opened.faults(), []);
  await opened.close();
}

/** A reload shows the same view, confidence and frame; Reset gives the first view and an empty address. */
export async function checkAddress(openPage, { head }, folder) {
  const path = join(folder, "address.html");
  roomPage(path, head, 20_000);
  const opened = await Opened.open(openPage, path, WINDOW);
  const { page } = opened;
  const hash = () => page.evaluate(() => location.hash);
  assert.equal(await hash(), "", "the first view stands in the address");
  await page.focus("canvas");
  for (const key of ["ArrowLeft", "ArrowUp", "+"]) await page.keyboard.press(key);
  await opened.set(".panel input[type=range]", 77);
  await opened.set(".chooser select", 2);
  await opened.rest();
  const [before, view, shown] = [await hash(), await opened.view(), (await opened.data()).shown];
  await page.reload();
  await page.waitForSelector(".vggt-viewer");
  await opened.rest();
  assert.equal(await hash(), before);
  assert.equal((await opened.data()).shown, shown);
  assert(length(minus((await opened.view()).eye, view.eye)) < 1e-3);
  assert.equal((await opened.points()).threshold, 77);
  await opened.close();
}

/** The horizon is that of the scene, although its first camera looks down; without it that of the first camera. */
export async function checkHorizon(openPage, { head }, folder) {
  const path = join(folder, "horizon.html");
  const { up } = roomPage(path, head, 20_000);
  const opened = await Opened.open(openPage, path, WINDOW);
  await opened.page.focus("canvas");
  for (const key of [...Array(5).fill("ArrowLeft"), "ArrowUp"]) await opened.page.keyboard.press(key);
  await opened.rest();
  const axes = axesOf((await opened.points()).clip);
  assert(Math.abs(dot(axes.right, up)) < LEVEL && dot(axes.up, up) > 0.5, `the scene is tilted: ${dot(axes.right, up)}`);
  const { eye } = await opened.view();
  await opened.set(".row > .check:has(+ .check) input", false);
  await opened.rest();
  assert(length(minus((await opened.view()).eye, eye)) < 1e-3, "the eye moves");
  // The first camera is the world.
  const tilted = axesOf((await opened.points()).clip);
  assert(
    Math.abs(dot(tilted.right, [0, -1, 0])) < 1e-3 && Math.abs(dot(tilted.right, up)) > 3 * LEVEL,
    "the scene is level still",
  );
  await opened.close();
}

/** One finger turns, two move and zoom. */
export async function checkFingers(openPage, { head }, folder) {
  const path = join(folder, "fingers.html");
  roomPage(path, head, 20_000);
  const opened = await Opened.open(openPage, path, PHONE);
  const session = await opened.page.createCDPSession();
  const touch = (type, touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
  const stroke = async (from, to) => {
    const fingers = (share) => from.map(([x, y], i) => ({ id: i, x: x + share * (to[i][0] - x), y: y + share * (to[i][1] - y) }));
    await touch("touchStart", fingers(0));
    for (let n = 1; n <= 6; n++) await touch("touchMove", fingers(n / 6));
    await touch("touchEnd", []);
    await opened.rest();
  };
  const distance = ({ eye, target }) => length(minus(eye, target));
  const start = await opened.view();
  await stroke([[180, 500]], [[120, 500]]);
  const turned = await opened.view();
  assert(
    length(minus(turned.target, start.target)) < 1e-3 && Math.abs(distance(turned) - distance(start)) < 1e-3,
    "one finger does more than turn",
  );
  assert(length(minus(turned.eye, start.eye)) > 0.1 * distance(start), "one finger turns nothing");
  await stroke(
    [
      [150, 450],
      [210, 450],
    ],
    [
      [190, 480],
      [250, 480],
    ],
  );
  const moved = await opened.view();
  assert(length(minus(moved.target, turned.target)) > 0.02 * distance(turned), "two fingers move nothing");
  await stroke(
    [
      [160, 450],
      [200, 450],
    ],
    [
      [80, 450],
      [280, 450],
    ],
  );
  assert(distance(await opened.view()) < 0.7 * distance(moved), "two fingers zoom nothing");
  assert.deepEqual(await opened.faults(), []);
  await opened.close();
}

/** While the view moves fewer points are drawn than there are, and all at rest. */
export async function checkPace(openPage, { head }, folder) {
  const path = join(folder, "many.html");
  roomPage(path, head, MANY);
  const opened = await Opened.open(openPage, path, WINDOW);
  assert.equal((await opened.points()).count, MANY);
  await opened.page.evaluate(() => (probe.draws.length = 0));
  await opened.page.focus("canvas");
  await opened.page.keyboard.press("ArrowLeft");
  await opened.rest();
  const counts = await opened.page.evaluate(() => probe.draws.filter(({ mode }) => mode === 0).map(({ count }) => count));
  assert(counts[0] < MANY, `${counts[0]} points while it moves`);
  assert.equal(counts.at(-1), MANY);
  await opened.close();
  return `${counts[0]} of ${MANY} points while the view moves`;
}
