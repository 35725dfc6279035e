// Pages of `vggt export` as files: taken apart, and put together with other contents.
import { readFileSync, writeFileSync } from "node:fs";

/** As `src/html/pieces.rs`: bytes in an element. */
const PIECE = 3 << 18;

/** What stands before the scene, and the texts of the elements with it. */
export function readPage(path) {
  const html = readFileSync(path, "utf8");
  const start = html.search(/<script class="(glb|confidence|about)"/);
  const texts = { glb: [], confidence: [], about: [] };
  for (const [, name, text] of html.slice(start).matchAll(/<script class="(\w+)"[^>]*>([^<]*)<\/script>/g))
    texts[name].push(text);
  const bytes = (name) => Buffer.concat(texts[name].map((text) => Buffer.from(text, "base64")));
  const about = texts.about.length ? JSON.parse(texts.about[0]) : {};
  return {
    head: html.slice(0, start),
    texts,
    glb: bytes("glb"),
    confidence: texts.confidence.length ? bytes("confidence") : null,
    about,
  };
}

/** The elements of a class for these bytes. */
function elements(name, bytes) {
  const texts = [];
  for (let at = 0; at < bytes.length; at += PIECE) texts.push(Buffer.from(bytes.subarray(at, at + PIECE)).toString("base64"));
  return texts.map((text) => `<script class="${name}" type="application/octet-stream;base64">${text}</script>\n`).join("");
}

/** Writes a page. `glb` is bytes, or the texts of its elements. */
export function writePage(path, { head, glb, confidence = null, about = null }) {
  const scene = Array.isArray(glb)
    ? glb.map((text) => `<script class="glb" type="model/gltf-binary;base64">${text}</script>\n`).join("")
    : elements("glb", glb);
  const beside = about
    ? `<script class="about" type="application/json">${JSON.stringify(about).replaceAll("<", "\\u003c")}</script>\n`
    : "";
  writeFileSync(path, `${head}${scene}${confidence ? elements("confidence", confidence) : ""}${beside}</body>\n</html>\n`);
}
