// What the viewer does inside the app.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PHONE } from "./launch.mjs";
import { viewer } from "./web_jobs.mjs";
import { check, click, fits, named, noProblems, step, type, wait } from "./steps.mjs";

/** Of a length, once another one has set the scale. The demo's depth is 3.4 % off on average (see `depth_quality` in tests/export.rs), on both lengths. */
const LENGTH_TOLERANCE = 0.08;

/** Pixels of frame 0 on smooth surfaces, column and row: across the back wall, and from the brick wall to the floor. */
const [SCALE_FROM, SCALE_TO] = [[10, 20], [100, 25]];
const [LENGTH_FROM, LENGTH_TO] = [[25, 30], [100, 75]];

/** The viewer's field of view along the shorter side, as first_view.ts has it. */
const TAN_HALF_FIELD = Math.tan((25 / 180) * Math.PI);

/** Share of the canvas that points cover at least in the first view. */
const COVERED = 0.05;

/** Milliseconds until the pause of a moved view is over, in which fewer points are drawn. */
const REST = 700;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function draws(page) {
  await step("the viewer draws: pixels of many colors are read back", async () => {
    // From a picture of the page, since WebGL does not keep what it has drawn.
    const colors = await picture(page, ".vggt-viewer canvas");
    check(colors.other > COVERED, `only ${(100 * colors.other).toFixed(1)} % of the view is drawn`);
    check(colors.kinds > 50, `the view has ${colors.kinds} colors`);
  });
}

/** How much of an element differs from the color of its corner, and how many colors it has. */
export async function picture(page, selector) {
  const element = await page.waitForSelector(selector);
  await pause(REST);
  const png = await element.screenshot({ encoding: "base64" });
  return page.evaluate(async (png) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    const back = 4 * (image.width * (image.height - 2) + 2);
    const kinds = new Set();
    let other = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (Math.abs(data[i] - data[back]) + Math.abs(data[i + 1] - data[back + 1]) + Math.abs(data[i + 2] - data[back + 2]) > 24) other += 1;
      kinds.add((data[i] >> 3) * 1024 + (data[i + 1] >> 3) * 32 + (data[i + 2] >> 3));
    }
    return { other: other / (data.length / 4), kinds: kinds.size };
  }, png);
}

export async function confidence(page) {
  await step("the confidence slider changes the number of points", async () => {
    const all = await viewer(page);
    const slider = await named(page, "slider", "Confidence");
    await slider.focus();
    for (let i = 0; i < 40; i++) await page.keyboard.press("ArrowRight");
    const some = await wait(page, "fewer points", (all) => {
      const shown = Number(document.querySelector(".vggt-viewer").dataset.shown);
      return shown < all && shown;
    }, all);
    check(some > all / 4, `only ${some} of ${all} points are left`);
    await page.keyboard.press("Home");
    await wait(page, "all points", (all) => Number(document.querySelector(".vggt-viewer").dataset.shown) === all, all);
  });
}

/** Arrays of a safetensors file. */
function arrays(bytes) {
  const head = Number(bytes.readBigUInt64LE(0));
  const found = {};
  const start = bytes.byteOffset + 8 + head;
  for (const [name, { dtype, data_offsets: at }] of Object.entries(JSON.parse(bytes.subarray(8, 8 + head)))) {
    if (dtype === "F32") found[name] = new Float32Array(bytes.buffer.slice(start + at[0], start + at[1]));
  }
  return found;
}

const WIDTH = 112;
const distance = (a, b) => Math.hypot(...a.map((x, i) => x - b[i]));

export async function measures(page, world) {
  await step("a length that is known sets the scale, and another one is right", async () => {
    const truth = arrays(readFileSync(join(world.root, "tests/data/demo/ground_truth.safetensors")));
    // In the truth's own camera: a length does not depend on it.
    const real = ([u, v]) => {
      const [depth, k] = [truth.depth[v * WIDTH + u], truth.intrinsic];
      return [((u + 0.5 - k[2]) / k[0]) * depth, ((v + 0.5 - k[5]) / k[4]) * depth, depth];
    };
    const artifact = `/api/v1/jobs/${world.first}/artifacts/safetensors`;
    const base64 = await page.evaluate(async (path) => {
      const bytes = new Uint8Array(await (await fetch(path)).arrayBuffer());
      let text = "";
      for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
      return btoa(text);
    }, artifact);
    const predicted = arrays(Buffer.from(base64, "base64"));
    const place = ([u, v]) => [...predicted.world_points_from_depth.subarray(3 * (v * WIDTH + u), 3 * (v * WIDTH + u) + 3)];

    // Then up is that of the first camera, and where a point is drawn follows from the view alone.
    const level = await named(page, "checkbox", "Level horizon");
    if (await level.evaluate((e) => e.checked)) await level.click();
    await click(page, "Reset view");
    await click(page, "Measure");
    const canvas = await page.$(".vggt-viewer canvas");
    const box = await canvas.boundingBox();
    await pause(REST);
    const view = await viewOf(page);
    const up = [...predicted.extrinsic.subarray(4, 7)].map((x) => -x);
    const onScreen = (pixel) => {
      const { x, y } = project(place(pixel), view.slice(0, 3), view.slice(3), up, box);
      return [box.x + x, box.y + y];
    };
    const line = async (from, to) => {
      const before = await page.$eval(".vggt-viewer .length", (e) => e.textContent);
      await page.mouse.click(...onScreen(from));
      await page.mouse.click(...onScreen(to));
      return wait(page, "length", (before) => {
        const { textContent, hidden } = document.querySelector(".vggt-viewer .length");
        return !hidden && textContent !== before && textContent;
      }, before);
    };
    const unscaled = parseFloat(await line(SCALE_FROM, SCALE_TO));
    const expected = distance(place(SCALE_FROM), place(SCALE_TO));
    check(Math.abs(unscaled / expected - 1) < 0.05, `the viewer measures ${unscaled} units where the points are ${expected} apart`);
    await type(page, "This length is", distance(real(SCALE_FROM), real(SCALE_TO)).toFixed(4), "spinbutton");
    await click(page, "Set scale");
    await wait(page, "scale", () => document.querySelector(".vggt-viewer .length").textContent.endsWith(" m"));
    const measured = parseFloat(await line(LENGTH_FROM, LENGTH_TO));
    const right = distance(real(LENGTH_FROM), real(LENGTH_TO));
    await world.shot(page, "measure_desktop");
    check(Math.abs(measured / right - 1) < LENGTH_TOLERANCE, `${measured} m were measured, ${right.toFixed(3)} m are right`);
    await page.reload();
    await viewer(page);
    const kept = await page.evaluate(async (path) => (await (await fetch(path)).json()).meters_per_unit, `/api/v1/jobs/${world.first}`);
    check(kept > 0, "the scale was not kept");
    noProblems(page);
  });
}

/** Eye and target as the viewer tells them, once the view rests. */
const viewOf = (page) =>
  wait(page, "view", () => {
    const found = new URLSearchParams(document.querySelector(".vggt-viewer").dataset.view ?? "").get("v");
    return found && found.split(",").map(Number);
  });

/** Where a point is drawn in a view from `eye` to `target`. */
function project(point, eye, target, up, { width, height }) {
  const sub = (a, b) => a.map((x, i) => x - b[i]);
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => a.map((x) => x / Math.hypot(...a));
  const forward = unit(sub(target, eye));
  const right = unit(cross(forward, up));
  const above = cross(right, forward);
  const from = sub(point, eye);
  const half = Math.min(width, height) / 2 / TAN_HALF_FIELD;
  return { x: width / 2 + (dot(from, right) / dot(from, forward)) * half, y: height / 2 - (dot(from, above) / dot(from, forward)) * half };
}

export async function touch(world) {
  await step("on a phone one finger turns, two fingers move and zoom", async () => {
    const page = await world.openPage(PHONE, { scheme: "dark" });
    await page.goto(`${world.url}/jobs/${world.first}`);
    await viewer(page);
    await fits(page, "the scene on a phone");
    await world.shot(page, "scene_phone");
    const box = await (await page.$(".vggt-viewer canvas")).boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const client = await page.createCDPSession();
    const fingers = (type, ...points) => client.send("Input.dispatchTouchEvent", { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
    const gesture = async (...path) => {
      const before = await viewOf(page);
      await fingers("touchStart", ...path[0]);
      for (const points of path.slice(1)) {
        await fingers("touchMove", ...points);
        await pause(40);
      }
      await fingers("touchEnd");
      const after = await wait(page, "another view", (before) => {
        const now = document.querySelector(".vggt-viewer").dataset.view;
        return new URLSearchParams(now).get("v") !== before && now;
      }, before.join());
      check(after, "the view does not change");
      await pause(REST);
      return { before, after: await viewOf(page) };
    };
    const far = (view) => distance(view.slice(0, 3), view.slice(3));
    const turned = await gesture([[x, y]], [[x + 20, y]], [[x + 45, y + 5]], [[x + 70, y + 10]]);
    check(distance(turned.before.slice(0, 3), turned.after.slice(0, 3)) > 0.05 * far(turned.before), "one finger does not turn the view");
    const pair = (dx, dy, apart) => [[x - apart + dx, y + dy], [x + apart + dx, y + dy]];
    const moved = await gesture(pair(0, 0, 40), pair(15, 5, 40), pair(35, 10, 40), pair(60, 15, 40));
    check(distance(moved.before.slice(3), moved.after.slice(3)) > 0.02 * far(moved.before), "two fingers do not move the view");
    const pinched = await gesture(pair(0, 0, 30), pair(0, 0, 45), pair(0, 0, 65), pair(0, 0, 90));
    check(far(pinched.after) < 0.8 * far(pinched.before), `a pinch does not zoom: ${far(pinched.before)} to ${far(pinched.after)}`);
    noProblems(page);
    await page.close();
  });
}
