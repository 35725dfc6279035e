// Times how soon the app shows something, against `vggt serve --demo` on this machine. Run by hand, with nothing else running:
//
//   VGGT=target/release/vggt node tools/checks/browser/bench_app.mjs
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { launch } from "./launch.mjs";
import { PASSWORD, Service, USER } from "./service.mjs";
import { at } from "./steps.mjs";
import { logIn, viewer } from "./web_jobs.mjs";

const RUNS = 5;
const root = new URL("../../../", import.meta.url).pathname;
const demo = join(root, "model/demo/frames");

/** The median, the least and the most. */
function text(times) {
  const sorted = [...times].sort((a, b) => a - b).map(Math.round);
  return `${sorted[Math.floor(sorted.length / 2)]} ms (${sorted[0]} to ${sorted.at(-1)})`;
}

const service = await Service.start(process.env.VGGT ?? join(root, "target/debug/vggt"));
try {
  const scene = await service.make("Scene", readdirSync(demo).sort().map((name) => join(demo, name)));

  const painted = { "/login": [], "/": [], [scene]: [] };
  const drawn = [];
  for (let run = 0; run < RUNS; run++) {
    for (const [path, times] of Object.entries(painted)) {
      // A new browser each time, in which nothing is cached.
      const { openPage, close } = await launch();
      const page = await openPage();
      await page.setCacheEnabled(false);
      if (path !== "/login") {
        await page.goto(`${service.url}/login`);
        await logIn(page, { user: USER, password: PASSWORD });
        await at(page, "^/$");
      }
      const begun = performance.now();
      await page.goto(service.url + path);
      if (path.startsWith("/jobs")) {
        await viewer(page);
        drawn.push(performance.now() - begun);
      }
      await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
      times.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
      await close();
    }
  }
  for (const [path, times] of Object.entries(painted)) console.log(`${path.padEnd(8)} first contentful paint ${text(times)}`);
  console.log(`${scene.padEnd(8)} all points are drawn ${text(drawn)}`);
} finally {
  await service.stop();
}
