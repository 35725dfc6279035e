// The GLB of a page as a file.
import type { Document } from "../viewer/glb";

/** A GLB whose lengths are in meters: `factor` times as long as they were. The matrix of its root is scaled, and its extras say so. */
export async function inMeters(glb: Blob, factor: number): Promise<Blob> {
  const head = new DataView(await glb.slice(0, 20).arrayBuffer());
  const length = head.getUint32(12, true);
  const document = JSON.parse(await glb.slice(20, 20 + length).text()) as Document;
  const root = document.nodes?.[document.scenes?.[document.scene ?? 0]?.nodes?.[0] ?? -1];
  if (!root) throw new Error("the GLB has no scene");
  const matrix = root.matrix ?? [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  // Every row but the last one.
  root.matrix = matrix.map((x, i) => (i % 4 < 3 ? Math.fround(x * factor) : x));
  document.asset ??= {};
  document.asset.extras = { ...document.asset.extras, unit: "meters" };
  const json = new TextEncoder().encode(JSON.stringify(document));
  const padding = (4 - (json.length % 4)) % 4;
  const rest = glb.slice(20 + length);
  const out = new DataView(new ArrayBuffer(20));
  for (let at = 0; at < 20; at += 4) out.setUint32(at, head.getUint32(at, true), true);
  out.setUint32(8, 20 + json.length + padding + rest.size, true);
  out.setUint32(12, json.length + padding, true);
  return new Blob([out, json, " ".repeat(padding), rest], { type: glb.type });
}
