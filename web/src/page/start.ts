// A page that `vggt export` wrote: the scene is in its elements.
import { make, saveFile } from "../viewer/dom";
import { sentenceOf } from "../viewer/errors";
import { sceneOfGlb, type Beside } from "../viewer/glb_scene";
import type { Camera, Pictures } from "../viewer/scene";
import { SceneViewer } from "../viewer/viewer";
import { glbLength, takeBytes, takeConfidence } from "./elements";
import { inMeters } from "./save";

/** What `src/pipeline/page.rs` writes about the frames. */
interface About {
  frames?: number[];
  cameras?: Camera[];
  photos?: string[];
  depths?: string[];
  total?: number;
}

/** Starts the page, if this is one. */
export function startPage(): void {
  const host = document.querySelector<HTMLElement>("#page");
  const status = document.querySelector<HTMLElement>("#status");
  if (!host || !status) return;
  const tell = (sentence: string) => (status.textContent = sentence);
  addEventListener("error", (event) => tell(sentenceOf(event.error ?? event.message)));
  addEventListener("unhandledrejection", (event) => tell(sentenceOf(event.reason)));
  keepServer();
  tell("Reading the points.");
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => void open(host, tell));
  else void open(host, tell);
}

/** Held here, since the browser may end one that nobody holds. */
let server: EventSource | undefined;

/** A local server of its own ends once no page listens any more. */
function keepServer(): void {
  const { alive } = document.documentElement.dataset;
  if (alive) server ??= new EventSource(alive);
}

async function open(host: HTMLElement, tell: (sentence: string) => void): Promise<void> {
  const { title } = document;
  let glb: Blob | null = null;
  try {
    const bytes = await takeBytes("glb", glbLength, (share) => tell(`Reading the points: ${Math.round(100 * share)} %`));
    // The browser may keep it outside of the page's memory.
    glb = new Blob([bytes], { type: "model/gltf-binary" });
    const scene = sceneOfGlb(bytes, title, beside());
    const file = glb;
    new SceneViewer(host, scene, {
      keepViewInUrl: true,
      headingLevel: 1,
      // What is in meters already gets another scale on top.
      saveGlb: async (metersPerUnit) =>
        metersPerUnit === null || metersPerUnit === scene.metersPerUnit
          ? file
          : inMeters(file, metersPerUnit / (scene.metersPerUnit ?? 1)),
    });
    tell("");
  } catch (error) {
    tell(sentenceOf(error));
    // What cannot be shown can still be looked into.
    const file = glb;
    if (file)
      host.append(make("button", { type: "button", id: "save" }, ["Save GLB"], { click: () => saveFile(file, `${title}.glb`) }));
  }
}

/** What the page has beside its GLB. */
function beside(): Beside {
  const element = document.querySelector("script.about");
  let about: About = {};
  try {
    about = JSON.parse(element?.textContent ?? "{}") as About;
  } catch {
    // A page that was cut off: the points are there all the same.
  }
  element?.remove();
  const confidence = takeConfidence();
  const photos = addresses(about.photos);
  const depths = addresses(about.depths);
  return {
    ...(about.frames && { frames: about.frames }),
    ...(about.cameras && { cameras: about.cameras }),
    ...(about.total && { total: about.total }),
    ...(confidence && { confidence }),
    pictures: (frame): Pictures => {
      const [photo, depth] = [photos(frame), depths(frame)];
      return { ...(photo && { photo }), ...(depth && { depth }) };
    },
  };
}

/** Addresses of pictures in base64, made when they are asked for. */
function addresses(pictures: string[] = []): (frame: number) => string | undefined {
  const made = new Map<number, string>();
  return (frame) => {
    const text = pictures[frame];
    if (!text) return undefined;
    let address = made.get(frame);
    if (!address) {
      const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      address = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
      made.set(frame, address);
    }
    return address;
  };
}
