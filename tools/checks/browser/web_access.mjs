// The app without a mouse, without eyes, and in narrow windows.
import { DESKTOP, PHONE } from "./launch.mjs";
import { logIn, viewer } from "./web_jobs.mjs";
import { accessible, at, check, click, fits, named, noProblems, seen, step, wait } from "./steps.mjs";

/** Most presses of Tab until something is reached. */
const TABS = 120;

/** Moves the focus with Tab until the focused element's name fits. */
async function tabTo(page, pattern) {
  for (let i = 0; i < TABS; i++) {
    const name = await page.evaluate(() => {
      const e = document.activeElement;
      // Between the last and the first element.
      if (e === document.body) return "";
      return [e.getAttribute("aria-label"), e.labels?.[0]?.textContent, e.textContent, e.name].find((text) => text) ?? "";
    });
    if (pattern.test(name)) {
      const outlined = await page.evaluate(() => {
        const e = document.activeElement;
        const style = [e, e.nextElementSibling].filter(Boolean).map((e) => getComputedStyle(e));
        return style.some((s) => parseFloat(s.outlineWidth) > 0 && s.outlineStyle !== "none") || getComputedStyle(e, "::after").outlineStyle !== "none";
      });
      check(outlined, `the focus on ${name} cannot be seen`);
      return;
    }
    await page.keyboard.press("Tab");
  }
  throw new Error(`Tab does not reach ${pattern}`);
}

export async function keyboard(world) {
  await step("login and a new scene by keyboard alone", async () => {
    const context = await world.browser.createBrowserContext();
    const page = await context.newPage();
    await page.setViewport(DESKTOP);
    await page.goto(`${world.url}/login`);
    await wait(page, "focused field", () => document.activeElement?.name === "username");
    await page.keyboard.type(world.user);
    await page.keyboard.press("Tab");
    await page.keyboard.type(world.password);
    await page.keyboard.press("Enter");
    await at(page, "^/$");
    await tabTo(page, /New scene/);
    await page.keyboard.press("Enter");
    await at(page, "^/new$");
    await tabTo(page, /Choose files/);
    const [chooser] = await Promise.all([page.waitForFileChooser(), page.keyboard.press("Space")]);
    await chooser.accept(world.photos.slice(0, 4));
    await seen(page, "4 photos");
    await tabTo(page, /Move frame_01.png later/);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    const order = await page.$$eval(".photos .name", (all) => all.map((e) => e.textContent.slice(6, 8)).join());
    check(order === "00,02,03,01", `the order is ${order}`);
    await tabTo(page, /Remove frame_01.png/);
    await page.keyboard.press("Enter");
    await seen(page, "3 photos");
    await page.waitForSelector(".new-submit button:not(:disabled)");
    await tabTo(page, /^Name/);
    await page.keyboard.type("By keyboard");
    await tabTo(page, /Make the scene/);
    await page.keyboard.press("Enter");
    await viewer(page);
    await context.close();
  });
}

/** Screens with their addresses and what is done there first. */
const SCREENS = (world) => [
  ["gallery", "/", (page) => wait(page, "cards", () => document.querySelectorAll(".card").length > 5)],
  ["new", "/new", async (page) => {
    await (await page.$("input[data-test=files]")).uploadFile(...world.photos.slice(0, 4), world.heic);
    await seen(page, "5 photos");
    await page.waitForSelector(".options details");
    await page.$eval(".options details", (e) => (e.open = true));
  }],
  ["failed", world.failed, (page) => wait(page, "reason", () => document.querySelector(".job .error:not(:empty)"))],
  ["account", "/account", (page) => seen(page, "There are no tokens.")],
  ["shared", new URL(world.link).pathname, viewer],
  ["scene", `/jobs/${world.first}`, viewer],
  ["rename", null, (page) => click(page, "Rename")],
  ["download", null, (page) => click(page, "Download")],
  ["share", null, (page) => click(page, "Share")],
  ["rerun", null, async (page) => {
    await click(page, "Rerun");
    await page.waitForSelector("dialog form");
  }],
  ["details", null, (page) => click(page, "Details")],
  ["delete", null, (page) => click(page, "Delete")],
];

export async function accessibility(world, viewport, scheme) {
  const where = `${viewport === PHONE ? "phone" : "desktop"}, ${scheme}`;
  await step(`axe finds nothing serious on any screen, and each fits: ${where}`, async () => {
    const page = await world.openPage(viewport, { scheme, reducedMotion: true });
    for (const [name, path, prepare] of SCREENS(world)) {
      if (path) await page.goto(world.url + path);
      await prepare(page);
      await accessible(page, `${name} (${where})`);
      await fits(page, `${name} (${where})`);
      await world.shot(page, `${name}_${viewport === PHONE ? "phone" : "desktop"}_${scheme}`);
      if (!path) await page.keyboard.press("Escape");
    }
    noProblems(page, [/status of 400/]);
    await page.close();
    const context = await world.browser.createBrowserContext();
    const stranger = await context.newPage();
    await stranger.setViewport(viewport);
    await stranger.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await stranger.goto(`${world.url}/login`);
    await named(stranger, "button", "Log in");
    await accessible(stranger, `login (${where})`);
    await fits(stranger, `login (${where})`);
    await world.shot(stranger, `login_${viewport === PHONE ? "phone" : "desktop"}_${scheme}`);
    await logIn(stranger, world);
    await at(stranger, "^/$");
    await context.close();
  });
}
