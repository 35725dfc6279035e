// The viewer inside a page of the app. Its script is loaded when there is a scene to show.

import type { Scene, Viewer, ViewerOptions } from "../../viewer/main";
import { isAbort, messageOf, send } from "../api";
import { h, setText } from "../dom";

/** What /assets/viewer.js exports. */
type ViewerModule = typeof import("../../viewer/main");

let loaded: Promise<ViewerModule> | null = null;

function viewerModule(): Promise<ViewerModule> {
  loaded ??= load();
  loaded.catch(() => (loaded = null));
  return loaded;
}

async function load(): Promise<ViewerModule> {
  const style = h("link", { rel: "stylesheet", href: "/assets/viewer.css" });
  const styled = new Promise((resolve, reject) => (style.addEventListener("load", resolve), style.addEventListener("error", reject)));
  document.head.append(style);
  // Not a literal, which the bundler would look for.
  const address = "/assets/viewer.js";
  const [module] = await Promise.all([import(address) as Promise<ViewerModule>, styled]).catch(() => {
    style.remove();
    throw new Error("The viewer cannot be loaded. Check the connection, then reload the page.");
  });
  return module;
}

export interface SceneView {
  element: HTMLElement;
  /** Shows what is below an address, as `fetchScene` reads it. */
  fetch(base: string, title: string): Promise<void>;
  /** Shows a GLB, such as a preview. */
  fetchGlb(address: string, title: string): Promise<void>;
}

/** Makes the place of a viewer, with what is to be said until there is a scene. A scene that replaces another one keeps the view. */
export function sceneView(signal: AbortSignal, options: ViewerOptions): SceneView {
  let viewer: Viewer | null = null;
  const bar = h("progress", { "aria-label": "Loading the scene", max: 1 });
  const text = h("p", { role: "status" }, "Loading the scene\u2026");
  const waiting = h("div", { class: "viewer-wait" }, text, bar);
  const host = h("div", { class: "viewer-host", hidden: true });
  const element = h("div", { class: "scene-view" }, waiting, host);

  const show = async (read: (module: ViewerModule) => Promise<Scene>) => {
    const module = await viewerModule();
    const scene = await read(module);
    if (signal.aborted) return;
    host.hidden = false;
    waiting.remove();
    if (viewer) viewer.setScene(scene);
    else viewer = module.openViewer(host, scene, { keepViewInUrl: true, ...options });
  };
  const glb = async (module: ViewerModule, address: string, title: string) => {
    const answer = await send(address, { signal });
    return module.sceneOfGlb(await answer.arrayBuffer(), title);
  };
  const failed = (e: unknown) => {
    if (isAbort(e) || signal.aborted) return;
    bar.remove();
    setText(text, messageOf(e));
    text.classList.add("error");
    // Above what is shown already.
    if (viewer) element.prepend(text);
  };
  signal.addEventListener("abort", () => viewer?.dispose());
  return {
    element,
    async fetch(base, title) {
      const onProgress = (share: number) => (bar.value = share);
      try {
        await show(async (module) => {
          try {
            return await module.fetchScene(base, { title, signal, onProgress });
          } catch (e) {
            // Where only the GLB is kept, it is shown: without photos and confidence, but better than nothing.
            if (isAbort(e) || signal.aborted || base.startsWith("/s/")) throw e;
            return glb(module, `${base}/glb`, title).catch(() => {
              throw e;
            });
          }
        });
      } catch (e) {
        failed(e);
      }
    },
    fetchGlb: (address, title) => show((module) => glb(module, address, title)),
  };
}
