// The viewer, for the app, and for pages, where it starts by itself.
import { startPage } from "../page/start";
import type { Scene, Viewer, ViewerOptions } from "./scene";
import { SceneViewer } from "./viewer";

export { PageError } from "./errors";
export { fetchScene, type FetchOptions } from "./fetch";
export { sceneOfGlb } from "./glb_scene";
export type { Camera, Pictures, PointBlock, Scene, Viewer, ViewerOptions } from "./scene";

/** Fills `host`, which has a size, with a view of the scene, its panel and toolbar. */
export function openViewer(host: HTMLElement, scene: Scene, options: ViewerOptions = {}): Viewer {
  return new SceneViewer(host, scene, options);
}

startPage();
