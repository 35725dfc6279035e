// What is done with scenes that are done.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { DESKTOP } from "./launch.mjs";
import { status, viewer } from "./web_jobs.mjs";
import { at, check, click, named, noProblems, PATIENCE, seen, step, type, wait } from "./steps.mjs";

/** How the file of each format begins. */
const BEGINNINGS = {
  glb: "glTF",
  ply: "ply\n",
  html: "<!DOCTYPE html>",
  "colmap.zip": "PK\x03\x04",
  "nerfstudio.zip": "PK\x03\x04",
  "depth.zip": "PK\x03\x04",
  "cameras.json": "{",
  // The length of the head comes first.
  safetensors: null,
};

const closeDialog = async (page) => {
  await page.keyboard.press("Escape");
  await wait(page, "closed dialog", () => !document.querySelector("dialog"));
};

/** A name that would run a script where it is taken for HTML. */
const HOSTILE = `<img src=x onerror="window.ran=1"><script>window.ran=1</script>"'&`;

export async function hostileNames(page, world) {
  await step("names of scenes and files are text wherever they are shown", async () => {
    const path = join(world.scratch, `a"><img src=x onerror=ran=1>.png`);
    copyFileSync(world.photos[0], path);
    await page.goto(`${world.url}/new`);
    await (await page.$("input[data-test=files]")).uploadFile(path, world.photos[1]);
    await seen(page, "onerror=ran=1>.png");
    await type(page, "Name", HOSTILE);
    await click(page, "Make the scene");
    await at(page, "^/jobs/\\d+$");
    await viewer(page);
    await seen(page, HOSTILE);
    check((await page.title()).startsWith(HOSTILE), `the title is ${await page.title()}`);
    await click(page, "Share");
    await click(page, "Make a link");
    const link = await wait(page, "link", () => [...document.querySelectorAll("dialog input[readonly]")].map((e) => e.value).find((value) => value.includes("/s/")));
    await closeDialog(page);
    const answer = await page.evaluate(async () => (await fetch(`/api/v1${location.pathname}/artifacts/html`)).text());
    const single = join(world.scratch, "hostile.html");
    writeFileSync(single, answer);
    for (const address of [world.url, link, pathToFileURL(single).href]) {
      await page.goto(address);
      if (address !== world.url) await viewer(page);
      await seen(page, HOSTILE);
      check(!(await page.evaluate(() => window.ran)), `a name ran as a script at ${address}`);
    }
    noProblems(page);
  });
}

export async function downloads(page, world) {
  await step("every format is downloaded and begins as it should", async () => {
    const folder = join(world.scratch, "downloads");
    mkdirSync(folder);
    const client = await world.browser.target().createCDPSession();
    await client.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder });
    await click(page, "Download");
    await seen(page, "for Blender");
    await world.shot(page, "download_desktop");
    const formats = await page.$$eval("[data-format]", (all) => all.map((e) => e.dataset.format));
    check([...formats].sort().join() === Object.keys(BEGINNINGS).sort().join(), `unexpected formats: ${formats}`);
    for (const format of formats) {
      const before = new Set(readdirSync(folder));
      await page.$eval(`[data-format="${format}"]`, (e) => e.click());
      const until = Date.now() + PATIENCE;
      let name;
      while (!name) {
        check(Date.now() < until, `${format} does not arrive`);
        await new Promise((resolve) => setTimeout(resolve, 50));
        const refused = await page.$eval("dialog", (e) => e.querySelector(".error")?.textContent);
        check(!refused, `${format} is refused: ${refused}`);
        name = readdirSync(folder).find((name) => !before.has(name) && !/\.(crdownload|tmp)$/.test(name) && !name.startsWith("."));
      }
      const bytes = readFileSync(join(folder, name));
      check(bytes.length > 100, `${name} has ${bytes.length} bytes`);
      const expected = BEGINNINGS[format];
      const right = expected === null ? bytes.readBigUInt64LE(0) < BigInt(bytes.length) && bytes[8] === 0x7b : bytes.toString("latin1", 0, expected.length) === expected;
      check(right, `${name} begins with ${bytes.subarray(0, 16)}`);
      check(name.startsWith("Demo scene"), `the file of ${format} is called ${name}`);
    }
    await client.detach();
    await closeDialog(page);
    noProblems(page);
  });
}

export async function share(page, world) {
  await step("a link shows the scene to a browser without a login", async () => {
    await click(page, "Share");
    await click(page, "Make a link");
    world.link = await wait(page, "link", () => document.querySelector(".copyable input")?.value);
    check(world.link.startsWith(`${world.url}/s/`), `the link is ${world.link}`);
    await world.shot(page, "share_desktop");
    const context = await world.browser.createBrowserContext();
    const other = await context.newPage();
    const problems = [];
    other.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    await other.setViewport(DESKTOP);
    await other.goto(world.link);
    await viewer(other);
    check((await other.title()).startsWith("Demo scene"), "the shared page has no title");
    check((await other.$$(".job-actions button")).length === 0, "the shared page offers what it cannot do");
    await world.shot(other, "shared_desktop");
    check(problems.length === 0, `problems on the shared page: ${problems}`);

    await closeDialog(page);
    await click(page, "Share");
    await seen(page, "Links to this scene");
    await page.$eval("dialog .rows button", (e) => e.click());
    await wait(page, "empty list", () => document.querySelectorAll("dialog .rows button").length === 0);
    await other.reload();
    await seen(other, "This link has expired or was removed");
    await context.close();
    // For Firefox.
    await click(page, "Make a link");
    world.link = await wait(page, "link", () => document.querySelector(".copyable input")?.value);
    await closeDialog(page);
    noProblems(page);
  });
}

export async function rename(page, world) {
  await step("a scene is renamed", async () => {
    await click(page, "Rename");
    await named(page, "textbox", "Name");
    await page.keyboard.type("Demo <b>& co");
    await page.keyboard.press("Enter");
    await wait(page, "new name", () => document.querySelector("h1").textContent === "Demo <b>& co");
    await page.goto(world.url);
    await click(page, "Rename Demo <b>& co");
    await named(page, "textbox", "Name");
    await page.keyboard.type("Demo scene");
    await page.keyboard.press("Enter");
    await wait(page, "old name in the gallery", () => [...document.querySelectorAll(".card h2")].some((e) => e.textContent === "Demo scene"));
    await wait(page, "picture of the card", () => document.querySelector(".card img")?.naturalWidth > 0);
    noProblems(page);
  });
}

export async function rerun(page, world) {
  await step("a rerun that drops more points makes another scene with fewer", async () => {
    await page.goto(`${world.url}/jobs/${world.first}`);
    const before = await viewer(page);
    await click(page, "Rerun");
    await type(page, "Drop the least confident points (%)", "50", "spinbutton");
    await type(page, "Name", "Demo strict");
    await page.$$eval("dialog button.primary", ([e]) => e.click());
    await wait(page, "other job", (first) => /^\/jobs\/\d+$/.test(location.pathname) && location.pathname !== `/jobs/${first}`, world.first);
    const after = await wait(page, "fewer points", (before) => {
      const shown = Number(document.querySelector(".vggt-viewer")?.dataset.shown);
      return document.title.startsWith("Demo strict") && shown > 0 && shown < before && shown;
    }, before);
    check(Math.abs(after / before - 0.5 / 0.9) < 0.05, `${after} of ${before} points are left`);
    await click(page, "Details");
    await seen(page, "50 %");
    await closeDialog(page);
    noProblems(page);
  });
}

const shownCards = () => [...document.querySelectorAll(".cards > .card:not([hidden]) h2")].map((e) => e.textContent);

export async function search(page, world) {
  await step("the gallery is searched by name, and tells the storage", async () => {
    await page.goto(world.url);
    await wait(page, "cards", () => document.querySelectorAll(".card").length > 6);
    await seen(page, "used");
    await world.shot(page, "gallery_desktop");
    await (await named(page, "searchbox", "Search scenes by name")).type("DEMO");
    await wait(page, "found scenes", () => document.querySelectorAll(".cards > .card:not([hidden])").length === 2);
    const found = await page.evaluate(shownCards);
    check(found.join() === "Demo strict,Demo scene", `found ${found}`);
    await page.keyboard.type(" nothing");
    await seen(page, "No scene has");
    noProblems(page);
  });
}

export async function deleting(page, world) {
  await step("a scene is deleted after a question, and kept after a no", async () => {
    await page.goto(world.url);
    await click(page, "Delete Demo strict");
    await seen(page, "gone for good");
    await click(page, "Keep");
    await click(page, "Delete Demo strict");
    await click(page, "Delete");
    await wait(page, "gallery without it", () => ![...document.querySelectorAll(".card h2")].some((e) => e.textContent === "Demo strict"));
    check(await page.evaluate(() => document.activeElement !== document.body), "the focus is lost");
    noProblems(page);
  });
  await step("a job that is not there, and a page that is not there, are told", async () => {
    await page.goto(`${world.url}/jobs/999999`);
    await seen(page, "You have no such job.");
    noProblems(page, status(404));
  });
}

export async function tokens(page, world) {
  await step("a token is made, works, and is revoked", async () => {
    await page.goto(world.url);
    await click(page, world.user, "link");
    await at(page, "^/account$");
    await seen(page, "There are no tokens.");
    await type(page, "Name", "backup");
    await click(page, "Make a token");
    const token = await wait(page, "token", () => document.querySelector(".copyable input")?.value);
    const ask = () => fetch(`${world.url}/api/v1/jobs`, { headers: { Authorization: `Bearer ${token}` } });
    check((await ask()).status === 200, "the token does not work");
    await click(page, "Revoke backup");
    await click(page, "Revoke");
    await seen(page, "There are no tokens.");
    check((await ask()).status === 401, "the revoked token works");
    noProblems(page);
  });
}
