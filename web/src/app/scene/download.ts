// Every format of a result. All but the GLB are made when they are asked for, which takes seconds to minutes: that is waited for here, and
// then the browser's own download takes over, which needs no memory and goes on after a cut.

import { artifacts, messageOf, send, type Job } from "../api";
import { openDialog } from "../dialog";
import { button, h, setText } from "../dom";
import { bytes } from "../format";

const FORMATS: [string, string, string][] = [
  ["glb", "GLB", "for Blender, three.js and most 3D viewers"],
  ["html", "Web page", "one file that shows the scene in any browser, offline too"],
  ["ply", "PLY", "points with confidence, for CloudCompare and MeshLab"],
  ["colmap.zip", "COLMAP dataset", "cameras, points and images, for Gaussian splatting"],
  ["nerfstudio.zip", "Nerfstudio dataset", "the same as transforms.json"],
  ["depth.zip", "Depth maps", "16-bit gray and colored, one for each picture"],
  ["safetensors", "Predictions", "everything the network gave, for Python"],
  ["cameras.json", "Cameras", "positions and lenses as JSON"],
];

export function downloadDialog(job: Job): void {
  const end = new AbortController();
  const row = ([format, name, use]: [string, string, string]) => {
    const size = format === "glb" && job.result ? `, ${bytes(job.result.size)}` : "";
    const state = h("small", { role: "status" });
    const get = button("download", "Download", () => void load(), { "aria-label": `Download ${name}`, "data-format": format });
    const load = async () => {
      get.disabled = true;
      state.className = "";
      setText(state, format === "glb" ? "" : "Being made\u2026");
      const address = `${artifacts(job.id)}/${format}`;
      try {
        // The first byte is there once the file is; it also tells how long the file is.
        const answer = await send(address, { headers: { Accept: "*/*", Range: "bytes=0-0" }, signal: end.signal });
        const length = Number(answer.headers.get("Content-Range")?.split("/")[1]);
        setText(state, length ? `${bytes(length)}, downloading` : "Downloading");
        const link = h("a", { href: address, download: "" });
        link.click();
      } catch (e) {
        if (end.signal.aborted) return;
        state.className = "error";
        setText(state, messageOf(e));
      } finally {
        get.disabled = false;
      }
    };
    return h("li", {}, h("div", {}, h("strong", {}, name), h("small", {}, use + size), state), get);
  };
  const unit = job.meters_per_unit === undefined ? "Lengths are in the network's unit. Measure a known length in the viewer to export in meters." : "Lengths are in meters.";
  const dialog = openDialog("Download", h("p", { class: "muted" }, unit), h("ul", { class: "rows" }, ...FORMATS.map(row)));
  dialog.addEventListener("close", () => end.abort());
}
