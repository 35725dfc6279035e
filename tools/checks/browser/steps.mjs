// Steps of a check: each is told with its seconds, and the first that fails ends the check with a picture of its page.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Longest wait for something on a page, in milliseconds: a debug build on two busy cores draws and computes slowly. */
export const PATIENCE = 60_000;

/** Runs a step and tells how long it took. */
export async function step(name, action) {
  const begun = performance.now();
  try {
    const result = await action();
    console.log(`ok    ${((performance.now() - begun) / 1000).toFixed(1).padStart(5)} s  ${name}`);
    return result;
  } catch (e) {
    console.log(`FAIL  ${((performance.now() - begun) / 1000).toFixed(1).padStart(5)} s  ${name}`);
    throw e;
  }
}

export function check(condition, text) {
  if (!condition) throw new Error(text);
}

/** Waits until a function of the page returns something; returns that. */
export async function wait(page, what, condition, ...args) {
  try {
    const handle = await page.waitForFunction(condition, { timeout: PATIENCE, polling: 100 }, ...args);
    return await handle.jsonValue();
  } catch (e) {
    const seen = await page.evaluate(() => document.body.innerText.slice(0, 600)).catch(() => "");
    throw new Error(`there is no ${what}: ${e.message}\non the page: ${seen}`);
  }
}

/** Waits for an element whose accessible text is so; returns its handle. */
export async function named(page, role, name) {
  const element = await page.waitForSelector(`aria/${name}[role="${role}"]`, { timeout: PATIENCE }).catch(() => null);
  if (!element) throw new Error(`there is no ${role} ${JSON.stringify(name)} on ${page.url()}`);
  return element;
}

/** Clicks a button or link by its name, once it can be clicked. */
export async function click(page, name, role = "button") {
  const element = await named(page, role, name);
  await page.waitForFunction((e) => !e.disabled, { timeout: PATIENCE, polling: 50 }, element);
  // Not to the middle: what sticks to the window would move away from under the mouse.
  await element.evaluate((e) => {
    e.scrollIntoView({ block: "nearest" });
    window.clickArrived = false;
    e.addEventListener("click", () => (window.clickArrived = true), { once: true, capture: true });
  });
  // Chromium drops the clicks on a page that has not been painted yet.
  for (let tries = 0; tries < 5; tries++) {
    await element.click();
    const arrived = page.waitForFunction(() => window.clickArrived !== false, { timeout: 1000, polling: 50 });
    if (await arrived.then(() => true, (e) => e.name !== "TimeoutError")) return;
  }
  throw new Error(`${role} ${JSON.stringify(name)} cannot be clicked`);
}

/** Types over what a field has. */
export async function type(page, label, text, role = "textbox") {
  const field = await named(page, role, label);
  await field.evaluate((e) => e.select());
  await page.keyboard.press("Backspace");
  await field.type(text);
}

/** Waits for a text anywhere on the page. */
export const seen = (page, text) => wait(page, `text ${JSON.stringify(text)}`, (text) => document.body.innerText.includes(text), text);

/** Waits for the path of the page. */
export const at = (page, pattern) => wait(page, `path ${pattern}`, (pattern) => new RegExp(pattern).test(location.pathname) && location.pathname, pattern);

/** Fails where axe finds something serious or critical on the page. */
export async function accessible(page, name) {
  // Not as a script of the page, whose policy allows none.
  const client = await page.createCDPSession();
  await client.send("Runtime.evaluate", { expression: axe });
  const { result } = await client.send("Runtime.evaluate", {
    expression: `axe.run(document, { resultTypes: ["violations"] }).then((found) => JSON.stringify(found.violations
      .filter((one) => ["serious", "critical"].includes(one.impact))
      .map((one) => one.id + " (" + one.impact + "): " + one.nodes.map((node) => node.html + " " + node.failureSummary).join("; ").slice(0, 1500))))`,
    awaitPromise: true,
    returnByValue: true,
  });
  await client.detach();
  const found = JSON.parse(result.value);
  check(found.length === 0, `axe on ${name}: ${found.join("\n")}`);
}

/** Fails where a page is wider than its window. */
export async function fits(page, name) {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  check(wide <= window, `${name} is ${wide} pixels wide in a window of ${window}`);
}

/** Fails where something went wrong on a page that no step has expected; `expected` are patterns of those that were. */
export function noProblems(page, expected = []) {
  const others = page.problems.filter((problem) => !expected.some((pattern) => pattern.test(problem)));
  check(others.length === 0, `problems on ${page.url()}:\n${others.join("\n")}`);
  page.problems.length = 0;
}

/** Drops files or folders of this machine on an element, with the events that a mouse gives. */
export async function drop(page, selector, files) {
  const target = await page.waitForSelector(selector);
  const box = await target.boundingBox();
  const client = await page.createCDPSession();
  const data = { items: [], files, dragOperationsMask: 1 };
  const place = { x: box.x + box.width / 2, y: box.y + box.height / 2, data };
  for (const type of ["dragEnter", "dragOver", "drop"]) await client.send("Input.dispatchDragEvent", { type, ...place });
  await client.detach();
}
