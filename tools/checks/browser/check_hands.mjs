// Turning, moving, zooming and setting the pivot, each by what it must leave alone; and the pace of drawing.
import assert from "node:assert/strict";
import { axesOf, cross, dot, length, minus, project, unit } from "./vectors.mjs";

/** Of lengths: the view in the address has six digits or so. */
const TOLERANCE = 1e-3;
/** Where something may be on the canvas, in pixels. */
const PIXELS = 1.5;

function near(a, b, what, tolerance = TOLERANCE) {
  assert(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b)), `${what}: ${a} instead of ${b}`);
}

/** Drags from a place by steps; the hand rests before it lets go. */
async function drag({ page }, [x, y], [dx, dy], button = "left") {
  await page.mouse.move(x, y);
  await page.mouse.down({ button });
  for (let n = 1; n <= 8; n++) await page.mouse.move(x + (n * dx) / 8, y + (n * dy) / 8);
  await page.mouse.up({ button });
}

/** Where a point of the world is on the canvas, in pixels. */
function pixelOf(clip, point, { width, height }) {
  const { x, y, w } = project(clip, point);
  return { x: ((x + 1) / 2) * width, y: ((1 - y) / 2) * height, w };
}

export async function checkHands(opened, { plain }) {
  const { page } = opened;
  const size = await page.evaluate(() => ({
    width: document.querySelector("canvas").clientWidth,
    height: document.querySelector("canvas").clientHeight,
  }));
  const free = [Math.round(0.75 * size.width), Math.round(0.8 * size.height)];
  const first = await opened.points();
  const start = await opened.view();
  const distance = length(minus(start.eye, start.target));

  // Turning leaves the pivot in the middle, as far away, and the horizon level.
  await drag(opened, free, [-60, 0]);
  assert(Number((await opened.data()).drawn) <= plain.count);
  await opened.rest();
  const turned = await opened.points();
  const up = unit(cross(axesOf(first.clip).right, axesOf(turned.clip).right));
  await drag(opened, free, [30, 45]);
  await opened.rest();
  const tilted = await opened.points();
  const view = await opened.view();
  near(length(minus(view.target, start.target)), 0, "the pivot after a turn");
  near(length(minus(view.eye, view.target)), distance, "the distance after a turn");
  near(dot(axesOf(tilted.clip).right, up), 0, "the horizon is level");
  const middle = pixelOf(tilted.clip, view.target, size);
  near(middle.x, size.width / 2, "x of the pivot", PIXELS / size.width);
  near(middle.y, size.height / 2, "y of the pivot", PIXELS / size.height);
  near(middle.w, distance, "the depth of the pivot");
  assert.equal(tilted.count, plain.count, "at rest all points are drawn");
  assert.equal(await opened.rest(), 0, "it draws although nothing moves");

  // Moving brings along what the hand holds, with the right button and with Shift.
  for (const [by, button, key] of [
    [[50, -40], "right", null],
    [[-50, 30], "left", "Shift"],
  ]) {
    const { target } = await opened.view();
    if (key) await page.keyboard.down(key);
    await drag(opened, free, by, button);
    if (key) await page.keyboard.up(key);
    await opened.rest();
    const at = pixelOf((await opened.points()).clip, target, size);
    near(at.x, size.width / 2 + by[0], "x of what the hand moves", PIXELS / size.width);
    near(at.y, size.height / 2 + by[1], "y of what the hand moves", PIXELS / size.height);
  }

  // The wheel leaves what is under the pointer where it is.
  const before = await opened.points();
  const { eye, target } = await opened.view();
  const depth = length(minus(eye, target));
  const { right, up: upward } = axesOf(before.clip);
  const at = pixelOf(before.clip, target, size);
  // A point of the plane through the pivot, some pixels beside it.
  const perPixel =
    pixelOf(
      before.clip,
      target.map((t, k) => t + right[k]),
      size,
    ).x - at.x;
  const held = target.map((t, k) => t + (80 / perPixel) * right[k] - (60 / perPixel) * upward[k]);
  const pointer = pixelOf(before.clip, held, size);
  await page.mouse.move(pointer.x, pointer.y);
  await page.mouse.wheel({ deltaY: -240 });
  await opened.rest();
  const zoomed = pixelOf((await opened.points()).clip, held, size);
  near(zoomed.x, pointer.x, "x under the pointer after a zoom", (3 * PIXELS) / size.width);
  near(zoomed.y, pointer.y, "y under the pointer after a zoom", (3 * PIXELS) / size.height);
  assert(zoomed.w < 0.95 * depth, "the wheel brings nothing nearer");

  // Keys do the same, and R goes back to the first view.
  await page.focus("canvas");
  const still = await opened.view();
  await page.keyboard.press("ArrowLeft");
  await opened.rest();
  assert(length(minus((await opened.view()).eye, still.eye)) > 0.01 * depth, "an arrow key turns nothing");
  await page.keyboard.press("+");
  await opened.rest();
  await page.keyboard.press("r");
  await opened.rest();
  near(length(minus((await opened.view()).eye, start.eye)), 0, "R goes back");

  await checkPivot(opened, plain, first.clip, size);
  await page.keyboard.press("r");
  await opened.rest();
}

/** A double click makes the nearest point of the front the pivot. */
async function checkPivot(opened, { positions, count }, clip, size) {
  const point = (i) => Array.from(positions.subarray(3 * i, 3 * i + 3));
  // A point in the free part of the window, with others before it or not.
  let chosen = null;
  for (let n = 0; n < count && !chosen; n++) {
    const at = pixelOf(clip, point((n * 7919) % count), size);
    if (at.w > 0 && at.x > 0.5 * size.width && at.x < 0.9 * size.width && at.y > 0.4 * size.height && at.y < 0.9 * size.height)
      chosen = at;
  }
  if (!chosen) return;
  await opened.page.mouse.click(chosen.x, chosen.y, { count: 2 });
  await opened.rest();
  if ((await opened.data()).camera !== undefined) {
    // The place was that of a camera's photo.
    await opened.page.keyboard.press("Escape");
    await opened.rest();
    return;
  }
  const { target } = await opened.view();
  const now = pixelOf(clip, target, size);
  assert(Math.hypot(now.x - chosen.x, now.y - chosen.y) < 26, "the pivot is not where the double click was");
  let nearest = Infinity;
  for (let i = 0; i < count; i++) nearest = Math.min(nearest, length(minus(point(i), target)));
  near(nearest, 0, "the pivot is a point");
  const after = (await opened.points()).clip;
  const middle = pixelOf(after, target, size);
  near(middle.x, size.width / 2, "x of the new pivot", PIXELS / size.width);
  near(middle.y, size.height / 2, "y of the new pivot", PIXELS / size.height);
}
