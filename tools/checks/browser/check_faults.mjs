// Damaged pages and browsers that lack something: each is told in a sentence.
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { launch } from "./launch.mjs";
import { Opened } from "./opened.mjs";
import { readPage, writePage } from "./pages.mjs";
import { chunksOf } from "./plain_glb.mjs";
import { container, glbOf, makeScene } from "./scenes.mjs";

const WINDOW = { width: 900, height: 600 };
const DAMAGED = /^The GLB in this page is damaged: .*\.$/;

/** Changes of the document that make it wrong. */
const CHANGES = {
  "no nodes": (d) => delete d.nodes,
  "no meshes": (d) => delete d.meshes,
  "no accessors": (d) => delete d.accessors,
  "no points": (d) => (d.nodes.at(-1).children = []),
  "a child that is not there": (d) => (d.nodes.at(-1).children = [99]),
  "a count beyond the end": (d) => d.accessors.forEach((a) => (a.count *= 1000)),
  "a count in words": (d) => d.accessors.forEach((a) => (a.count = "9")),
  "an offset below 0": (d) => (d.bufferViews[0].byteOffset = -4),
  "no stride": (d) => (d.bufferViews[0].byteStride = 0),
  "another type": (d) => (d.accessors[0].componentType = 5130),
  "a short matrix": (d) => (d.nodes.at(-1).matrix = [1, 2]),
  "a matrix of words": (d) => (d.nodes.at(-1).matrix = Array(16).fill("1")),
};

/** Damages the GLB of the page in every way, and the text that holds it. */
export async function checkFaults(openPage, page, folder) {
  const path = join(folder, "page.html");
  // Small, and of more than one piece in the page.
  const glb = glbOf(makeScene(3000, 3));
  const texts = [glb.subarray(0, 30_000), glb.subarray(30_000)].map((part) => part.toString("base64"));
  const expect = async (what, contents, pattern = DAMAGED) => {
    writePage(path, { head: page.head, ...contents });
    const opened = await Opened.open(openPage, path, WINDOW);
    assert.match(await opened.status(), pattern, what);
    assert.deepEqual(await opened.faults(), [], what);
    await opened.close();
  };
  await expect("nothing is wrong", { glb: texts }, /^$/);
  const [first, ...others] = texts;
  await expect("nothing", { glb: [] });
  await expect("cut off", { glb: [first] });
  await expect("no base64", { glb: [`${first.slice(0, 80)}?${first.slice(81)}`, ...others] });
  await expect("no GLB", { glb: [`AAAA${first.slice(4)}`, ...others] });
  await expect("too long", { glb: [...texts, "AAAA"] });
  await expect("another number of confidences", { glb: texts, confidence: Buffer.alloc(2999) });
  const json = glb.readUInt32LE(12);
  for (const length of [19, 20 + json, 28 + json, glb.length - 4]) {
    const cut = Buffer.from(glb.subarray(0, length));
    cut.writeUInt32LE(length, 8);
    await expect(`${length} bytes`, { glb: cut });
  }
  const { document, binary } = chunksOf(glb);
  for (const [what, change] of Object.entries(CHANGES)) {
    const changed = structuredClone(document);
    change(changed);
    await expect(what, { glb: container(changed, binary) });
  }
  return `${Object.keys(CHANGES).length + 10} kinds of damage are told`;
}

/** Graphics that the browser takes away, and gives back. */
export async function checkLoss(openPage, file) {
  const opened = await Opened.open(openPage, file, WINDOW);
  await opened.page.evaluate(() => {
    globalThis.loss = document.querySelector("canvas").getContext("webgl2").getExtension("WEBGL_lose_context");
    loss.loseContext();
  });
  await opened.page.waitForFunction(() =>
    document.querySelector(".vggt-viewer .status").textContent.startsWith("The browser took the graphics away."),
  );
  const before = await opened.page.evaluate(() => {
    probe.block = null;
    loss.restoreContext();
    return probe.draws.length;
  });
  await opened.page.waitForFunction((before) => probe.block && probe.draws.length > before, {}, before);
  assert.equal(await opened.status(), "");
  await opened.close();
}

export async function checkWithoutScript(openPage, file) {
  const page = await openPage(WINDOW);
  await page.setJavaScriptEnabled(false);
  await page.goto(pathToFileURL(file).href);
  const seen = await page.$eval("#status", (p) => [p.checkVisibility(), p.textContent]);
  assert.deepEqual([seen[0], seen[1].startsWith("This page needs JavaScript")], [true, true]);
  await page.close();
}

/** What cannot be drawn can still be saved. */
export async function checkWithoutWebgl(file) {
  const { openPage, close } = await launch({ flags: ["--disable-3d-apis"] });
  try {
    const page = await openPage(WINDOW);
    await page.evaluateOnNewDocument(() => {
      globalThis.probe = { blobs: [], violations: [] };
      const { createObjectURL } = URL;
      URL.createObjectURL = (blob) => (probe.blobs.push(blob), createObjectURL.call(URL, blob));
    });
    await page.goto(pathToFileURL(file).href);
    await page.waitForSelector(".vggt-viewer .status:not(:empty)");
    const opened = new Opened(page);
    assert.match(await opened.status(), /^This browser has no WebGL 2, or it is switched off\./);
    await page.evaluate(() => document.querySelector(".panel").setAttribute("open", ""));
    await page.click(".save");
    await page.waitForFunction(() => probe.blobs.length > 0);
    assert((await opened.saved()).equals(readPage(file).glb), "the GLB that is saved is another one");
    assert.deepEqual(await opened.faults(), []);
  } finally {
    await close();
  }
}
