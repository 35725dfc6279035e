// The whole way through the web app in real browsers; see check_web.
import { mkdirSync, mkdtempSync, rmSync, readdirSync, copyFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DESKTOP, launch, PHONE } from "./launch.mjs";
import { PASSWORD, Service, USER } from "./service.mjs";
import { noProblems, step } from "./steps.mjs";
import { accessibility, keyboard } from "./web_access.mjs";
import { deleting, downloads, hostileNames, rename, rerun, search, share, tokens } from "./web_gallery.mjs";
import { dropPhotos, fileInput, interruptedUpload, killedServer, login, loginEnds, preview, reloadedJob, wrongFiles } from "./web_jobs.mjs";
import { confidence, draws, measures, touch } from "./web_viewer.mjs";
import { localView } from "./web_view.mjs";
import { firefox } from "./web_firefox.mjs";

const root = new URL("../../../", import.meta.url).pathname;
const shots = process.argv[2] ?? null;
if (shots) mkdirSync(shots, { recursive: true });

const demo = join(root, "model/demo/frames");
const photos = readdirSync(demo).sort().map((name) => join(demo, name));
const scratch = mkdtempSync(join(tmpdir(), "vggt-photos-"));

/** A folder with the demo's photos many times: a job of some seconds. */
function manyPhotos(name, times) {
  const folder = join(scratch, name);
  mkdirSync(folder);
  for (let i = 0; i < times; i++) photos.forEach((path, k) => copyFileSync(path, join(folder, `IMG_${i * photos.length + k + 1}.png`)));
  return folder;
}

const begun = performance.now();
const service = await step("a service with a user starts", () => Service.start(process.env.VGGT ?? join(root, "target/debug/vggt")));
const { browser, openPage, close } = await launch();
let page = await openPage(DESKTOP, { scheme: "light" });
const world = {
  service,
  url: service.url,
  user: USER,
  password: PASSWORD,
  root,
  photos,
  heic: join(root, "tests/data/frames/heif/phone.heic"),
  video: join(root, "model/demo/clip.mp4"),
  scratch,
  manyPhotos,
  browser,
  openPage,
  /** Keeps a picture of a page, where that is wanted. */
  shot: async (page, name) => shots && (await page.screenshot({ path: join(shots, `${name}.png`) })),
};

let failed = false;
try {
  await login(page, world);
  await dropPhotos(page, world);
  noProblems(page);
  await draws(page, world);
  await confidence(page);
  await measures(page, world);
  noProblems(page);
  await share(page, world);
  await downloads(page, world);
  await rename(page, world);
  await rerun(page, world);
  noProblems(page);
  await fileInput(page, world);
  await wrongFiles(page, world);
  await interruptedUpload(page, world);
  await reloadedJob(page, world);
  await killedServer(page, world);
  await preview(page, world);
  await loginEnds(page, world);
  await hostileNames(page, world);
  await search(page, world);
  await deleting(page, world);
  await tokens(page, world);
  noProblems(page);
  await keyboard(world);
  for (const [viewport, scheme] of [[DESKTOP, "light"], [DESKTOP, "dark"], [PHONE, "dark"]]) await accessibility(world, viewport, scheme);
  await touch(world);
  await localView(world);
  await close();
  await firefox(world);
} catch (e) {
  failed = true;
  console.error(`\n${e.stack}`);
  const [last] = (await browser.pages().catch(() => [])).slice(-1);
  const picture = join(tmpdir(), "check_web_failed.png");
  await last?.screenshot({ path: picture }).then(() => console.error(`a picture of the page is ${picture}`), () => {});
  await close().catch(() => {});
} finally {
  await service.stop().catch(() => {});
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`${failed ? "failed" : "all passed"} after ${((performance.now() - begun) / 1000).toFixed(0)} s`);
process.exit(failed ? 1 : 0);
