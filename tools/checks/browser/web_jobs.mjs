// From the login to a scene, and what may happen on the way.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { accessible, at, check, click, drop, named, noProblems, seen, step, type, wait } from "./steps.mjs";

/** Errors of the browser's log when a server is gone, or says no. */
const LOST = [/ERR_CONNECTION|ERR_EMPTY|ERR_INCOMPLETE|ERR_SOCKET|net::ERR/];
export const status = (code) => [new RegExp(`status of ${code}`)];

export async function logIn(page, { user, password }) {
  await type(page, "User name", user);
  await type(page, "Password", password);
  await click(page, "Log in");
}

/** Waits until a scene is shown; returns its points. */
export const viewer = (page) =>
  wait(page, "viewer", () => {
    const viewer = document.querySelector(".vggt-viewer[data-shown]");
    return viewer && Number(viewer.dataset.fps ?? 0) >= 0 && Number(viewer.dataset.shown);
  });

const names = (page) => page.$$eval(".photos li .name", (all) => all.map((e) => e.textContent));

export async function login(page, world) {
  await step("a visit without a login leads to the login, and a wrong password is told", async () => {
    await page.goto(`${world.url}/new`);
    await at(page, "^/login$");
    noProblems(page);
    await logIn(page, { ...world, password: "wrong" });
    await seen(page, "The user name or the password is wrong.");
    noProblems(page, status(401));
  });
  await step("the login leads back to where one wanted to go", async () => {
    await logIn(page, world);
    await at(page, "^/new$");
    await wait(page, "focused heading", () => document.activeElement?.tagName === "H1" && document.title.startsWith("New scene"));
  });
  await step("a gallery without scenes tells what to do", async () => {
    await page.goto(world.url);
    await seen(page, "Make your first scene");
    await seen(page, "60 to 80 %");
    await accessible(page, "an empty gallery");
    await world.shot(page, "gallery_empty_desktop");
    noProblems(page);
  });
}

export async function dropPhotos(page, world) {
  await step("photos and a HEIC are dropped, moved and removed", async () => {
    await click(page, "New scene", "link");
    await at(page, "^/new$");
    await drop(page, ".drop", [...world.photos.slice(0, 5).reverse(), world.heic]);
    await seen(page, "6 photos");
    check((await names(page)).join() === "frame_00.png,frame_01.png,frame_02.png,frame_03.png,frame_04.png,phone.heic", `dropped photos are not sorted: ${await names(page)}`);
    await wait(page, "thumbnails", () => document.querySelectorAll(".photos canvas").length === 5);
    await click(page, "Move frame_04.png earlier");
    check((await names(page))[3] === "frame_04.png", "the button does not move a photo");
    await click(page, "Sort by name");
    check((await names(page))[4] === "frame_04.png", "photos are not sorted by name");
    await click(page, "Remove phone.heic");
    await seen(page, "5 photos");
  });
  await step("the file button adds the others, and the same once only", async () => {
    const input = await page.$("input[data-test=files]");
    await input.uploadFile(...world.photos.slice(3));
    await seen(page, "8 photos");
    await seen(page, "2 files were chosen already.");
    await type(page, "Name", "Demo scene");
    await world.shot(page, "new_desktop");
  });
  await step("the job is submitted, its progress is seen, and its scene is shown", async () => {
    await page.evaluate(() => {
      window.stages = new Set();
      new MutationObserver(() => document.querySelectorAll("p.stage").forEach((e) => window.stages.add(e.textContent))).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    await click(page, "Make the scene");
    world.first = Number((await at(page, "^/jobs/\\d+$")).split("/")[2]);
    check((await viewer(page)) > 10_000, "the scene has too few points");
    const stages = await page.evaluate(() => [...window.stages]);
    check(stages.some((text) => /Sending|Preparing/.test(text)), `no progress was seen: ${stages}`);
    check((await page.title()).startsWith("Demo scene"), "the title is not the scene's");
    await world.shot(page, "scene_desktop");
  });
}

export async function fileInput(page, world) {
  await step("a video is a scene too, and tells of its frames", async () => {
    await page.goto(`${world.url}/new`);
    await (await page.$("input[data-test=files]")).uploadFile(world.video);
    await seen(page, "1 video");
    await seen(page, "Frames of the video");
    check((await page.$eval("input[placeholder=Kitchen]", (e) => e.value)) === "clip", "the name is not that of the video");
    await page.evaluate(() => [...document.querySelectorAll("label.choice")].find((e) => e.textContent.startsWith("Frames per second")).click());
    await type(page, "Frames per second", "2", "spinbutton");
    await click(page, "Make the scene");
    await at(page, "^/jobs/\\d+$");
    await viewer(page);
    noProblems(page);
  });
}

export async function wrongFiles(page, world) {
  await step("photos beside a video, and files that are neither, are told", async () => {
    await page.goto(`${world.url}/new`);
    const input = await page.$("input[data-test=files]");
    await input.uploadFile(world.photos[0], world.video, join(world.root, "README.md"));
    await seen(page, "not of both: the photos were taken");
    await seen(page, "not photos or videos: README.md");
    await seen(page, "1 photo");
  });
  await step("a HEIC is reconstructed", async () => {
    const heic = [1, 2].map((i) => join(world.scratch, `phone_${i}.heic`));
    heic.forEach((path) => copyFileSync(world.heic, path));
    await page.goto(`${world.url}/new`);
    await drop(page, ".drop", heic);
    await seen(page, "2 photos");
    await click(page, "Make the scene");
    await at(page, "^/jobs/\\d+$");
    await viewer(page);
    await seen(page, "Details");
    noProblems(page);
  });
  await step("a file that is not a picture fails with a reason and what to do", async () => {
    const bad = join(world.scratch, "bad.jpg");
    copyFileSync(join(world.root, "README.md"), bad);
    await page.goto(`${world.url}/new`);
    await (await page.$("input[data-test=files]")).uploadFile(bad);
    await click(page, "Make the scene");
    world.failed = await at(page, "^/jobs/\\d+$");
    await wait(page, "reason", () => document.querySelector(".job .error:not(:empty)"));
    await world.shot(page, "failed_desktop");
    noProblems(page, status(400));
  });
}

export async function interruptedUpload(page, world) {
  await step("an upload goes on after its tab was closed", async () => {
    await page.goto(`${world.url}/new`);
    await (await page.$("input[data-test=files]")).uploadFile(...world.photos.slice(0, 6));
    await seen(page, "6 photos");
    await type(page, "Name", "Interrupted");
    // Half a minute for all of it.
    await page.emulateNetworkConditions({ upload: 8000, download: 1e7, latency: 0 });
    await click(page, "Make the scene");
    const path = await at(page, "^/jobs/\\d+$");
    await wait(page, "progress of the upload", () => document.querySelector("[data-upload=sending] progress")?.value > 0.05);
    await world.shot(page, "upload_desktop");
    await click(page, "Pause");
    await seen(page, "Paused");
    await accessible(page, "an upload");
    await click(page, "Go on");
    await wait(page, "upload that goes on", () => document.querySelector("[data-upload=sending]"));
    let warned = false;
    page.once("dialog", (dialog) => ((warned = dialog.type() === "beforeunload"), dialog.accept()));
    await page.reload();
    check(warned, "nothing warns of closing the tab");
    await page.emulateNetworkConditions(null);
    await seen(page, "This upload is not finished");
    const input = await page.$("input[data-test=files]");
    await input.uploadFile(world.photos[0]);
    await seen(page, "Not among them");
    await accessible(page, "an upload that was left");
    await input.uploadFile(...world.photos.slice(0, 6));
    await viewer(page);
    check((await page.evaluate(() => location.pathname)) === path, "another job was made of it");
    noProblems(page);
  });
}

/** Submits a folder; returns the path of its job. */
async function submitMany(page, world, folder) {
  await page.goto(`${world.url}/new`);
  await drop(page, ".drop", [folder]);
  await seen(page, "photos,");
  await click(page, "Make the scene");
  return at(page, "^/jobs/\\d+$");
}

const running = (page) => wait(page, "running job", () => document.querySelector(".progress-panel progress")?.value > 0.08);

export async function reloadedJob(page, world) {
  await step("a folder is dropped; its job is seen in the gallery and after a reload", async () => {
    const path = await submitMany(page, world, world.manyPhotos("walk", 14));
    await running(page);
    await world.shot(page, "running_desktop");
    await accessible(page, "a running job");
    await page.reload();
    await click(page, "VGGT", "link");
    await wait(page, "card of the job", () => [...document.querySelectorAll(".card h2")].some((e) => e.textContent === "walk"));
    await page.goto(world.url + path);
    await viewer(page);
    noProblems(page);
  });
}

export async function killedServer(page, world) {
  await step("a job goes on after the server was killed, and so does its page", async () => {
    await submitMany(page, world, world.manyPhotos("hall", 15));
    await running(page);
    await world.service.kill();
    await seen(page, "The connection to the server is lost");
    await world.service.run();
    await viewer(page);
    check(!(await page.evaluate(() => document.body.innerText.includes("is lost"))), "the page still says that the connection is lost");
    noProblems(page, LOST);
  });
}

export async function preview(page, world) {
  await step("the anchors' scene is shown while the other pictures are computed, and its view stays", async () => {
    await page.goto(`${world.url}/new`);
    await drop(page, ".drop", [world.manyPhotos("anchors", 25)]);
    await seen(page, "200 photos,");
    await page.$$eval(".options details", (all) => all.forEach((e) => (e.open = true)));
    await (await named(page, "combobox", "Attention")).select("anchors");
    await type(page, "Number of anchors", "4", "spinbutton");
    await click(page, "Make the scene");
    await at(page, "^/jobs/\\d+$");
    await wait(page, "preview", () => document.querySelector(".has-preview .vggt-viewer[data-shown]")?.dataset.shown > 1000);
    await page.focus(".vggt-viewer canvas");
    for (const key of ["ArrowLeft", "ArrowLeft", "+"]) await page.keyboard.press(key);
    const view = () => page.$eval(".vggt-viewer", (e) => e.dataset.view);
    const still = await wait(page, "view that rests", () => {
      const { view } = document.querySelector(".vggt-viewer").dataset;
      const rests = window.lastView === view;
      window.lastView = view;
      return rests && view;
    });
    await world.shot(page, "preview_desktop");
    await wait(page, "result", () => document.querySelector(".job[data-kind=result] .vggt-viewer[data-shown]"));
    await viewer(page);
    check((await view()) === still, `the view was ${still} and is ${await view()}`);
    noProblems(page);
  });
}

export async function loginEnds(page, world) {
  await step("a login that ends is asked for above the page, which keeps what was chosen", async () => {
    await page.goto(world.url);
    await click(page, "New scene", "link");
    await (await page.$("input[data-test=files]")).uploadFile(...world.photos.slice(0, 3));
    await type(page, "Name", "After the login");
    await page.deleteCookie(...(await page.cookies()));
    await click(page, "Make the scene");
    await seen(page, "Your login has ended");
    await accessible(page, "the dialog of the login");
    noProblems(page, status(401));
    await type(page, "Password", world.password);
    await click(page, "Log in");
    await viewer(page);
    check((await page.title()).startsWith("After the login"), "what was typed is lost");
    noProblems(page, status(401));
  });
}
