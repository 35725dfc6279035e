// A page that is open in the browser, as the checks see it.
import { pathToFileURL } from "node:url";
import { installProbe } from "./probe.mjs";

/** A picture is at rest when none followed it for so long, in ms. */
const REST = 700;

export class Opened {
  constructor(page) {
    this.page = page;
  }

  /** Opens a file in a new tab, and waits until it shows points or says why not. */
  static async open(openPage, file, viewport, { probe = true, settings = {} } = {}) {
    const page = await openPage(viewport, settings);
    if (probe) await page.evaluateOnNewDocument(installProbe);
    await page.goto(pathToFileURL(file).href, { waitUntil: "load", timeout: 120_000 });
    const opened = new Opened(page);
    await page.waitForFunction(
      () => {
        const status = document.querySelector("#status").textContent;
        return document.querySelector(".vggt-viewer") || (status && !status.startsWith("Reading"));
      },
      { timeout: 120_000, polling: 50 },
    );
    if (!(await opened.status())) await opened.rest();
    return opened;
  }

  /** The sentence on the page, if there is one. */
  status() {
    return this.page.evaluate(
      () => document.querySelector("#status").textContent || document.querySelector(".vggt-viewer .status")?.textContent || "",
    );
  }

  /** Waits until nothing is drawn any more and the view was noted. Returns the number of draws while it waited. */
  async rest() {
    const before = await this.page.evaluate(() => {
      probe.seen = -1;
      return probe.draws.length;
    });
    await this.page.waitForFunction(
      (rest) => {
        const { length } = probe.draws;
        if (probe.seen !== length) Object.assign(probe, { seen: length, since: performance.now() });
        return length > 0 && performance.now() - probe.since > rest;
      },
      { timeout: 120_000, polling: 50 },
      REST,
    );
    return (await this.page.evaluate(() => probe.draws.length)) - before;
  }

  /** The last draw of points: how many, where the world goes in the window, and the least confidence. */
  points() {
    return this.page.evaluate(() => probe.draws.findLast(({ mode }) => mode === 0));
  }

  /** Modes of the draws since the last one of points. */
  modes() {
    return this.page.evaluate(() =>
      probe.draws.slice(probe.draws.findLastIndex(({ mode }) => mode === 0)).map(({ mode }) => mode),
    );
  }

  /** What the viewer tells of itself. */
  data() {
    return this.page.evaluate(() => ({ ...document.querySelector(".vggt-viewer").dataset }));
  }

  /** Eye and target in world space. */
  async view() {
    const { view } = await this.data();
    const numbers = new URLSearchParams(view).get("v").split(",").map(Number);
    return { eye: numbers.slice(0, 3), target: numbers.slice(3) };
  }

  text(selector) {
    return this.page.evaluate((selector) => document.querySelector(selector)?.textContent ?? null, selector);
  }

  /** Sets an input and tells the page, as a user would. */
  set(selector, value) {
    return this.page.evaluate(
      (selector, value) => {
        const input = document.querySelector(selector);
        if (input.type === "checkbox") input.checked = value;
        else input.value = String(value);
        for (const type of ["input", "change"]) input.dispatchEvent(new Event(type, { bubbles: true }));
      },
      selector,
      value,
    );
  }

  /** The block of points as it was sent to the graphics card, and how it was bound. */
  async block() {
    const { text, pointers } = await this.page.evaluate(async () => {
      const address = await new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result);
        reader.readAsDataURL(new Blob([probe.block]));
      });
      return { text: address.slice(address.indexOf(",") + 1), pointers: probe.pointers };
    });
    return { bytes: Buffer.from(text, "base64"), pointers };
  }

  /** The bytes of the file that the last click on a button saved. */
  async saved() {
    const text = await this.page.evaluate(async () => {
      const blob = probe.blobs.at(-1);
      const reader = new FileReader();
      await new Promise((resolve) => {
        reader.onload = resolve;
        reader.readAsDataURL(blob);
      });
      return reader.result.slice(reader.result.indexOf(",") + 1);
    });
    return Buffer.from(text, "base64");
  }

  /** Everything that must not have happened: problems, requests beyond the page's own, and what its policy stopped. */
  async faults() {
    const violations = await this.page.evaluate(() => globalThis.probe?.violations ?? []);
    const away = this.page.requests.filter((address) => !/^(file|blob|data):/.test(address));
    return [...this.page.problems, ...violations, ...away.map((address) => `asked for ${address}`)];
  }

  close() {
    return this.page.close();
  }
}
