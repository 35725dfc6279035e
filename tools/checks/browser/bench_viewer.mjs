// Times the viewer on pages of several sizes, and prints a table. Run by hand, on a machine that does nothing else:
//
//   node tools/checks/browser/bench_viewer.mjs [MILLIONS_OF_POINTS...]
//
// Without a graphics card the browser draws by software, which is the slowest that anybody has.
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { DESKTOP, launch } from "./launch.mjs";
import { writeScene } from "./scenes.mjs";

const FRAMES = 20;
/** How long the view is turned, in ms. */
const TURN = 6000;

const sizes = process.argv.slice(2).map(Number);
if (sizes.length === 0) sizes.push(0.1, 1, 2);

/** Median time from one picture to the next and points in a picture, while arrow keys turn the view. */
async function turn(page) {
  return page.evaluate(async (length) => {
    const root = document.querySelector(".vggt-viewer");
    const canvas = root.querySelector("canvas");
    canvas.focus();
    const times = [];
    const drawn = [];
    const start = performance.now();
    let last = start;
    for (let n = 0; last - start < length; n++) {
      canvas.dispatchEvent(new KeyboardEvent("keydown", { key: n % 160 < 80 ? "ArrowRight" : "ArrowLeft", bubbles: true }));
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      // The first third is for finding the pace.
      if (last - start > length / 3) {
        times.push(now - last);
        drawn.push(Number(root.dataset.drawn));
      }
      last = now;
    }
    const middle = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
    return { rate: 1000 / middle(times), worst: Math.max(...times), drawn: middle(drawn) };
  }, TURN);
}

/** Time of a picture of all points, until it can be read: saving one waits for it. */
async function all(page) {
  return page.evaluate(async () => {
    const times = [];
    for (let n = 0; n < 4; n++) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      const start = performance.now();
      document.querySelector("[aria-label^='Save a picture']").click();
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  });
}

const folder = mkdtempSync(join(tmpdir(), "vggt-bench-"));
const { openPage, close } = await launch();
try {
  console.log(
    "| points | page | first paint | all points drawn | turning: points | pictures/s | longest gap | a picture of all |",
  );
  console.log("|---|---|---|---|---|---|---|---|");
  for (const millions of sizes) {
    const file = join(folder, "page.html");
    writeScene(file, Math.round(1e6 * millions), FRAMES);
    const page = await openPage(DESKTOP);
    const start = Date.now();
    await page.goto(pathToFileURL(file).href, { waitUntil: "domcontentloaded", timeout: 300_000 });
    await page.waitForFunction(
      (n) => document.querySelector(".vggt-viewer")?.dataset.drawn === String(n),
      { timeout: 300_000, polling: 50 },
      Math.round(1e6 * millions),
    );
    const loaded = Date.now() - start;
    const whole = await all(page);
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN);
    const { rate, worst, drawn } = await turn(page);
    const megabytes = (statSync(file).size / 1e6).toFixed(1);
    const cells = [
      `${millions} M`,
      `${megabytes} MB`,
      `${paint.toFixed(0)} ms`,
      `${loaded} ms`,
      drawn.toLocaleString("en"),
      rate.toFixed(1),
      `${worst.toFixed(0)} ms`,
      `${whole.toFixed(0)} ms`,
    ];
    console.log(`| ${cells.join(" | ")} |`);
    if (page.problems.length) console.error(page.problems.join("\n"));
    await page.close();
  }
} finally {
  await close();
  rmSync(folder, { recursive: true, force: true });
}
