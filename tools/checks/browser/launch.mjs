// Starts Chromium for checks: no window, drawing by software, a new profile, nothing from outside.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import puppeteer from "puppeteer-core";

/** What a browser of Chromium's family is called. */
const NAMES = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

const FLAGS = [
  // Containers have no sandbox for it.
  "--no-sandbox",
  // Nor much shared memory.
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // WebGL without a graphics card.
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
];

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** The browser's program: that of the environment's CHROMIUM, or the first in PATH. */
function findBrowser() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const places = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)));
  const found = process.env.CHROMIUM ?? places.find((place) => existsSync(place));
  if (!found) throw new Error("cannot find Chromium: install it (Debian: apt-get install chromium) or set CHROMIUM to its path");
  return found;
}

/**
 * A browser with a profile of its own. `openPage` opens a tab that keeps what went wrong in it; `close` ends the browser and removes its
 * profile. `flags` are added to those above.
 */
export async function launch({ flags = [] } = {}) {
  const profile = mkdtempSync(join(tmpdir(), "vggt-browser-"));
  const remove = () => rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  // Also where a check fails, or is stopped.
  process.once("exit", remove);
  let browser;
  try {
    browser = await puppeteer.launch({
      executablePath: findBrowser(),
      headless: true,
      args: [...FLAGS, ...flags],
      userDataDir: profile,
      protocolTimeout: 300_000,
    });
  } catch (error) {
    remove();
    throw error;
  }
  return {
    browser,
    openPage: (viewport = DESKTOP, options = {}) => openPage(browser, viewport, options),
    async close() {
      await browser.close();
      process.off("exit", remove);
      remove();
    },
  };
}

/**
 * A new tab of this size. `page.problems` collects errors on the console, exceptions and requests that failed, as sentences; `page.requests`
 * all addresses that were asked for. `scheme` is "light" or "dark".
 */
async function openPage(browser, viewport, { scheme = "dark", reducedMotion = false } = {}) {
  const page = await browser.newPage();
  await page.setViewport(viewport);
  await page.emulateMediaFeatures([
    { name: "prefers-color-scheme", value: scheme },
    { name: "prefers-reduced-motion", value: reducedMotion ? "reduce" : "no-preference" },
  ]);
  page.problems = [];
  page.requests = [];
  page.on("console", (message) => {
    if (message.type() === "error") page.problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => page.problems.push(`exception: ${error.message}`));
  page.on("request", (request) => page.requests.push(request.url()));
  page.on("requestfailed", (request) => {
    // A page that goes to another one cancels what is under way.
    const why = request.failure()?.errorText;
    if (why !== "net::ERR_ABORTED") page.problems.push(`request: ${request.url()}: ${why}`);
  });
  return page;
}
