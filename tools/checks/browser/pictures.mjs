// Takes the pictures of docs/web.md and README.md, of a server with the demo. Run by hand; VGGT names the program:
//
//   VGGT=target/release/vggt node tools/checks/browser/pictures.mjs docs
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { launch, PHONE } from "./launch.mjs";
import { PASSWORD, Service, USER } from "./service.mjs";
import { at, click, seen, type } from "./steps.mjs";
import { logIn, viewer } from "./web_jobs.mjs";

const WINDOW = { width: 1280, height: 760 };
/** Two points in the viewer of a scene that fills this window. */
const [WALL, BOX] = [[520, 470], [795, 440]];

const out = process.argv[2] ?? "docs";
const root = new URL("../../../", import.meta.url).pathname;
const demo = join(root, "model/demo/frames");
const photos = readdirSync(demo).sort().map((name) => join(demo, name));
const clip = join(root, "model/demo/clip.mp4");
/** Name, files and options of each scene, the oldest first. */
const SCENES = [
  ["Corner, from the right", photos.slice(4), {}],
  ["Corner, from the left", photos.slice(0, 4), {}],
  ["Walk, from a video", [clip], { fps: 2 }],
  ["Corner, cleaned", photos, { conf_thres: 40 }],
  ["Corner", photos, {}],
];

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Once photos and points are drawn. */
async function shoot(page, name) {
  await pause(2500);
  await page.screenshot({ path: join(out, `${name}.png`) });
}

const service = await Service.start(process.env.VGGT ?? join(root, "target/debug/vggt"));
const folder = mkdtempSync(join(tmpdir(), "vggt-pictures-"));
const { openPage, close } = await launch();
try {
  let newest = "";
  for (const scene of SCENES) newest = await service.make(...scene);

  const page = await openPage(WINDOW, { scheme: "light" });
  await page.goto(`${service.url}/login`);
  await logIn(page, { user: USER, password: PASSWORD });
  await at(page, "^/$");
  await seen(page, SCENES[0][0]);
  await shoot(page, "web_gallery");

  await page.goto(`${service.url}/new`);
  await (await page.$("input[data-test=files]")).uploadFile(...photos);
  await seen(page, "8 photos");
  await type(page, "Name", "Corner");
  await shoot(page, "web_new");

  await page.goto(service.url + newest);
  await viewer(page);
  await pause(2500);
  await click(page, "Measure");
  await page.mouse.click(...WALL);
  await page.mouse.click(...BOX);
  await type(page, "This length is", "1.20", "spinbutton");
  await shoot(page, "web_measure");

  const phone = await openPage(PHONE, { scheme: "dark" });
  await phone.goto(service.url + newest);
  await viewer(phone);
  await shoot(phone, "web_phone");

  const file = join(folder, "demo.html");
  const made = spawnSync(service.program, ["export", "--demo", "--no-cache", "--out", file], { encoding: "utf8" });
  if (made.status !== 0) throw new Error(made.stderr);
  const single = await openPage({ width: 1280, height: 720 }, { scheme: "dark" });
  await single.goto(pathToFileURL(file).href);
  await viewer(single);
  await shoot(single, "page");
  const [, cameras] = await single.$$(".vggt-viewer select");
  await cameras.select("3");
  await shoot(single, "web_camera");
} finally {
  await close();
  await service.stop();
  rmSync(folder, { recursive: true, force: true });
}
