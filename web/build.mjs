// Makes dist/ of src/: what the program embeds. Prints each file's size, and fails where all of them together are too large.
import { build } from "esbuild";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

/** Most bytes of all files together, compressed. */
const LIMIT = 350 * 1024;

const here = new URL(".", import.meta.url);
const at = (path) => new URL(path, here).pathname;

/** What a file is made of. Two scripts: the app loads the viewer when there is a scene to show, and a page has it inside. */
const SCRIPTS = { app: "src/app/main.ts", viewer: "src/viewer/main.ts" };
const STYLES = { app: "src/app/app.css", viewer: "src/viewer/viewer.css" };
const COPIES = { "index.html": "src/app/index.html", "page.html": "src/page/page.html", "icon.svg": "src/app/icon.svg" };

const common = {
  bundle: true,
  minify: true,
  // As old as WebGL 2 in Safari.
  target: ["es2022", "safari15.4"],
  charset: "ascii",
  legalComments: "none",
  logLevel: "warning",
  absWorkingDir: at("."),
};

const dist = at("dist/");
await mkdir(dist, { recursive: true });
for (const name of await readdir(dist)) {
  if (!name.startsWith(".")) await rm(dist + name, { recursive: true });
}

const used = new Set();
for (const [name, entry] of Object.entries(SCRIPTS)) {
  const { metafile } = await build({ ...common, entryPoints: [entry], outfile: `${dist}${name}.js`, format: "esm", metafile: true });
  for (const path of Object.keys(metafile.inputs)) {
    const [, found] = path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//) ?? [];
    if (found) used.add(found);
  }
}
for (const [name, entry] of Object.entries(STYLES)) {
  await build({ ...common, entryPoints: [entry], outfile: `${dist}${name}.css` });
}
for (const [name, source] of Object.entries(COPIES)) await cp(at(source), dist + name);

// What of others is inside, for the list of a release.
const inside = [];
for (const name of [...used].sort()) {
  const { version, license } = JSON.parse(await readFile(at(`node_modules/${name}/package.json`), "utf8"));
  inside.push({ name, version, license, text: await readFile(at(`node_modules/${name}/LICENSE`), "utf8") });
}
await writeFile(`${dist}licenses.json`, `${JSON.stringify(inside, null, 1)}\n`);

let total = 0;
for (const name of (await readdir(dist)).filter((name) => !name.startsWith(".")).sort()) {
  const bytes = await readFile(dist + name);
  const { length } = gzipSync(bytes, { level: 9 });
  total += length;
  console.log(`${name.padEnd(16)}${String(bytes.length).padStart(9)} bytes${String(length).padStart(9)} compressed`);
}
console.log(`${"in all".padEnd(31)}${String(total).padStart(9)} compressed`);
if (total > LIMIT) {
  console.error(`the web app is too large: ${total} bytes compressed, at most ${LIMIT} are allowed`);
  process.exit(1);
}
