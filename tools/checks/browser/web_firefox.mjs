// A short way in Firefox, whose engine is another one.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import puppeteer from "puppeteer-core";
import { DESKTOP } from "./launch.mjs";
import { logIn, viewer } from "./web_jobs.mjs";
import { picture } from "./web_viewer.mjs";
import { at, check, step, wait } from "./steps.mjs";

function findFirefox() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const places = ["firefox", "firefox-esr"].flatMap((name) => folders.map((folder) => join(folder, name)));
  const found = process.env.FIREFOX ?? places.find((place) => existsSync(place));
  if (!found) throw new Error("cannot find Firefox: install it (Debian: apt-get install firefox-esr) or set FIREFOX to its path");
  return found;
}

/** A screen in memory: Firefox draws WebGL by software only where there is a display. */
function startDisplay() {
  const server = spawn("Xvfb", ["-displayfd", "3", "-screen", "0", "1400x900x24", "-nolisten", "tcp"], { stdio: ["ignore", "ignore", "ignore", "pipe"] });
  return new Promise((resolve, reject) => {
    server.once("error", () => reject(new Error("cannot start Xvfb: install it (Debian: apt-get install xvfb)")));
    server.once("exit", (code) => reject(new Error(`Xvfb ended with ${code}`)));
    server.stdio[3].once("data", (number) => resolve({ display: `:${String(number).trim()}`, end: () => server.kill() }));
  });
}

export async function firefox(world) {
  await step("Firefox: login, gallery, viewer and shared link", async () => {
    const profile = mkdtempSync(join(tmpdir(), "vggt-firefox-"));
    const screen = await startDisplay();
    const browser = await puppeteer.launch({
      browser: "firefox",
      protocol: "webDriverBiDi",
      executablePath: findFirefox(),
      headless: false,
      userDataDir: profile,
      env: { ...process.env, DISPLAY: screen.display, LIBGL_ALWAYS_SOFTWARE: "1" },
      // Without a graphics card it refuses WebGL else.
      extraPrefsFirefox: { "webgl.force-enabled": true },
    });
    try {
      const page = await browser.newPage();
      const problems = [];
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
      page.on("pageerror", (error) => problems.push(error.message));
      await page.setViewport({ width: DESKTOP.width, height: DESKTOP.height });
      await page.goto(`${world.url}/login`);
      await page.waitForSelector("input[name=username]");
      await page.type("input[name=username]", world.user);
      await page.type("input[name=password]", world.password);
      await page.click("form button.primary");
      await at(page, "^/$");
      await wait(page, "cards with pictures", () => document.querySelectorAll(".card").length > 5 && document.querySelector(".card img")?.naturalWidth > 0);
      await page.goto(`${world.url}/jobs/${world.first}`);
      check((await viewer(page)) > 10_000, "the scene has too few points");
      check((await picture(page, ".vggt-viewer canvas")).kinds > 50, "the viewer draws nothing in Firefox");
      await page.goto(world.link);
      await viewer(page);
      await world.shot(page, "shared_firefox");
      check(problems.length === 0, `problems in Firefox: ${problems}`);
    } finally {
      await browser.close();
      screen.end();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    }
  });
}
