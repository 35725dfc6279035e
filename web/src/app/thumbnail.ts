// Small pictures of chosen photos. A photo of 12 megapixels is decoded when it is scrolled into view, drawn small, and let go.

import { h, icon } from "./dom";
import type { Item } from "./files";

/** Pixels of a small picture: 160 on the screen of a phone are twice as many. */
const [WIDTH, HEIGHT] = [240, 180];

/** Photos that are decoded at the same time: each takes some 50 MB. */
const AT_ONCE = 2;

/** The last one is next: it came into view last. */
const waiting: (() => Promise<void>)[] = [];
let running = 0;

/** Makes the tile of a photo or video: what kind of file it is until the picture is there, and for good where the browser cannot read it. */
export function thumbnail(item: Item): HTMLElement {
  const name = h("span", { class: "tile-name" }, (item.file.name.match(/\.(\w+)$/)?.[1] ?? "").toUpperCase());
  const tile = h("div", { class: "tile" }, icon(item.isVideo ? "film" : "photos"), name);
  if (item.isVideo) return tile;
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    waiting.push(async () => {
      if (!tile.isConnected) return;
      const canvas = await drawn(item.file);
      if (canvas) tile.replaceChildren(canvas);
    });
    void work();
  });
  seen.observe(tile);
  return tile;
}

async function work(): Promise<void> {
  if (running >= AT_ONCE) return;
  running += 1;
  for (let next = waiting.pop(); next; next = waiting.pop()) await next();
  running -= 1;
}

async function drawn(file: File): Promise<HTMLCanvasElement | null> {
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.max(WIDTH / picture.width, HEIGHT / picture.height);
    const canvas = h("canvas", { width: WIDTH, height: HEIGHT, "aria-hidden": "true" });
    const [width, height] = [picture.width * scale, picture.height * scale];
    const context = canvas.getContext("2d");
    if (context) context.imageSmoothingQuality = "high";
    context?.drawImage(picture, (WIDTH - width) / 2, (HEIGHT - height) / 2, width, height);
    picture.close();
    return context && canvas;
  } catch {
    return null;
  }
}
