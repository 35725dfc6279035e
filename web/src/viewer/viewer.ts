// Puts stage, points, cameras and panel together.
import { CameraBar } from "./camera_bar";
import { CameraView } from "./camera_view";
import { Cloud } from "./cloud";
import { make, saveFile } from "./dom";
import { sentenceOf } from "./errors";
import { Frusta, MOST_PHOTOS, type Placed, planeDepth } from "./frusta";
import { gesturesOf } from "./gestures";
import { listenToKeys, listenToPointers } from "./hands";
import { Measure } from "./measure";
import { Panel } from "./panel";
import { PointStore } from "./points";
import { poseOf } from "./poses";
import type { Scene, Viewer, ViewerOptions } from "./scene";
import { Stage } from "./stage";
import { Standpoint } from "./standpoint";
import { savePicture, Toolbar } from "./toolbar";
import { read, Rest, textOf, write } from "./url";

/** Points that decide on the first view. */
const SAMPLE = 20_000;
/** How long a sentence stays that needs no answer, in ms. */
const MENTION = 8000;

export class SceneViewer implements Viewer {
  private readonly root: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly status = make("p", { class: "status", role: "status" });
  private readonly panel: Panel;
  private readonly stage: Stage | null = null;
  private readonly standpoint: Standpoint | null = null;
  private readonly cameraView: CameraView | null = null;
  private readonly cameraBar: CameraBar | null = null;
  private readonly measure: Measure | null = null;
  private readonly toolbar: Toolbar | null = null;
  private readonly address = new Rest(() => this.keepView());
  private readonly ended = new AbortController();
  private scene!: Scene;
  private store!: PointStore;
  private frusta: Frusta | null = null;
  private placed: Placed[] = [];
  private names: string[] = [];
  private camerasShown = true;
  private cameraSize = 1;
  private disposed = false;

  constructor(
    host: HTMLElement,
    scene: Scene,
    private readonly options: ViewerOptions,
  ) {
    const help = "Three-dimensional view of the points. Arrow keys turn, with Shift they move; plus and minus zoom; R resets.";
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": help });
    this.panel = new Panel(
      {
        threshold: (value) => this.show({ threshold: value }),
        frame: (frame) => this.show({ frame }),
        pointSize: (factor) => this.change(() => this.stage?.cloud && (this.stage.cloud.size = factor)),
        cameras: (shown) => this.change(() => this.showCameras(shown)),
        cameraSize: (factor) => this.change(() => this.frusta?.resize((this.cameraSize = factor))),
        look: (index) => this.lookOutOf(index),
        level: (level) => this.setLevel(level),
        toggled: () => this.stage?.request(),
        light: (light) => this.change(() => (this.root.dataset["theme"] = light ? "light" : "dark")),
        ...(options.saveGlb && { save: () => void this.saveGlb() }),
      },
      options.headingLevel ?? 2,
    );
    const area = make("div", { class: "stage" }, [this.canvas]);
    this.root = make("div", { class: "vggt-viewer" }, [area, this.panel.element]);
    host.replaceChildren(this.root);
    try {
      const stage = new Stage(this.canvas, {
        drawn: () => this.afterDrawing(),
        tell: (sentence) => this.tell(sentence),
        resized: () => this.standpoint?.touched === false && this.standpoint.fit(),
      });
      this.stage = stage;
      this.standpoint = new Standpoint(stage, () => (this.camerasShown && this.frusta ? this.frusta.corners() : []));
      this.cameraView = new CameraView(
        stage,
        () => ({ left: this.panel.covers(area), bottom: (this.cameraBar?.element.offsetHeight ?? 0) + 12 }),
        () => this.cameraChanged(),
      );
      this.cameraBar = new CameraBar(this.cameraView, (by) => this.stepCamera(by));
      this.measure = new Measure(stage, {
        scaled: (metersPerUnit) => void this.setScale(metersPerUnit),
        tell: (sentence) => this.mention(sentence),
        changed: () => {
          this.toolbar?.setMeasuring(this.measure?.active ?? false);
          stage.request();
        },
      });
      this.toolbar = new Toolbar(this.root, {
        reset: () => this.reset(),
        measure: () => this.toggleMeasure(),
        picture: () => this.savePicture(),
        tell: (sentence) => this.mention(sentence),
      });
      area.append(this.cameraView.element, this.measure.overlay, this.toolbar.element, this.cameraBar.element, this.measure.bar);
      const gestures = gesturesOf({
        ...{ stage, standpoint: this.standpoint, cameraView: this.cameraView, measure: this.measure },
        frusta: () => this.frusta,
        names: () => this.names,
        lookOutOf: (index) => this.lookOutOf(index),
        reset: () => this.reset(),
      });
      listenToPointers(stage, gestures, this.ended.signal);
      listenToKeys(stage, this.root, gestures, this.ended.signal);
    } catch (error) {
      this.canvas.hidden = true;
      this.panel.withoutView();
      this.tell(sentenceOf(error));
    }
    area.append(this.status);
    this.setScene(scene);
    this.restore();
    // Another address of the same page, typed or followed.
    addEventListener("hashchange", this.restore, { signal: this.ended.signal });
  }

  setScene(scene: Scene): void {
    const { stage, cameraView, standpoint } = this;
    this.scene = scene;
    const before = this.store as PointStore | undefined;
    this.store = new PointStore(scene.points);
    this.store.threshold = before?.threshold ?? 0;
    this.store.frame = before?.frame != null && before.frame < this.store.frames ? before.frame : null;
    const poses = scene.cameras.map(poseOf);
    this.placed = scene.cameras.flatMap((camera, i) => (poses[i] ? [{ camera, pose: poses[i] }] : []));
    this.names = this.placed.map(({ camera }) => camera.name ?? `photo ${camera.frame + 1}`);
    const named = new Map(this.placed.map(({ camera }, i) => [camera.frame, this.names[i]!]));
    this.panel.describe({
      title: scene.title,
      details: scene.details,
      frames: scene.points.hasFrames
        ? [...this.store.perFrame].flatMap((n, frame): [number, string][] =>
            n ? [[frame, named.get(frame) ?? `photo ${frame + 1}`]] : [],
          )
        : [],
      cameras: this.names,
      hasConfidence: scene.points.hasConfidence,
    });
    this.measure?.clear();
    this.applyScale(scene.metersPerUnit);
    if (stage && cameraView && standpoint) {
      cameraView.end();
      const sample = this.store.sample(SAMPLE);
      const depth = standpoint.setScene(
        this.placed.map(({ pose }) => pose),
        sample,
      );
      stage.setExtent(depth);
      const size = stage.cloud?.size ?? 1;
      stage.setCloud(new Cloud(this.store, scene.cameras, poses, depth));
      stage.cloud!.size = size;
      if (this.frusta) {
        stage.world.remove(this.frusta.object);
        this.frusta.dispose();
      }
      this.frusta = new Frusta(this.placed, scene, planeDepth(this.placed, depth), () => stage.request());
      if (this.cameraSize !== 1) this.frusta.resize(this.cameraSize);
      stage.world.add(this.frusta.object);
      Object.assign(cameraView, { placed: this.placed, scene, sample });
      stage.scene.updateMatrixWorld(true);
      if (!standpoint.touched) standpoint.fit();
      this.showCameras(this.camerasShown);
      this.panel.tellLimit(
        this.frusta.photosAreLimited ? `Only ${MOST_PHOTOS} of the ${this.placed.length} cameras show their photo.` : "",
      );
    }
    this.show({});
  }

  private reset(): void {
    this.cameraView?.end();
    this.cameraChanged();
    this.standpoint?.reset();
  }

  private setLevel(level: boolean): void {
    this.panel.setLevel(level);
    this.standpoint?.setLevel(level);
    this.address.changed();
  }

  /** Shows other points than before. */
  private show({ threshold, frame }: { threshold?: number; frame?: number | null }): void {
    if (threshold !== undefined) this.store.threshold = threshold;
    if (frame !== undefined) this.store.frame = frame;
    const { shown, count, block } = this.store;
    this.root.dataset["shown"] = String(shown);
    this.panel.tellCounts(shown, count, block.total, this.store.threshold);
    this.panel.setFrame(this.store.frame);
    this.change(() => {});
  }

  private change(apply: () => void): void {
    apply();
    // A slider moves too: fewer points until it rests.
    this.stage?.move();
    this.address.changed();
  }

  private showCameras(shown: boolean): void {
    this.camerasShown = shown;
    if (this.frusta) this.frusta.object.visible = shown && this.cameraView?.current === null;
  }

  private lookOutOf(index: number): void {
    if (!this.cameraView || index >= this.placed.length) return;
    this.measure?.toggle(false);
    this.cameraView.enter(index);
  }

  private stepCamera(by: number): void {
    const { length } = this.placed;
    this.lookOutOf(((this.cameraView?.current ?? 0) + by + length) % length);
  }

  private cameraChanged(): void {
    this.showCameras(this.camerasShown);
    const current = this.cameraView?.current ?? null;
    this.panel.setCamera(current);
    this.cameraBar?.update(this.names);
    if (current === null) delete this.root.dataset["camera"];
    else this.root.dataset["camera"] = String(current);
    this.address.changed();
  }

  private toggleMeasure(): void {
    this.cameraView?.leave();
    this.measure?.toggle(!this.measure.active);
  }

  private savePicture(): void {
    const paint = (context: CanvasRenderingContext2D, ratio: number) => {
      this.cameraView?.paint(context, ratio);
      if (this.measure?.active) this.measure.paint(context, ratio);
    };
    if (!this.stage) return;
    const background = getComputedStyle(this.root).backgroundColor;
    savePicture(this.stage, background, `${this.scene.title || "view"}.png`, paint, (sentence) => this.mention(sentence));
  }

  private async saveGlb(): Promise<void> {
    try {
      const blob = await this.options.saveGlb!(this.measure?.metersPerUnit ?? null);
      saveFile(blob, `${this.scene.title || "scene"}.glb`);
    } catch (error) {
      this.tell(sentenceOf(error));
    }
  }

  private async setScale(metersPerUnit: number | null): Promise<void> {
    const before = this.measure?.metersPerUnit ?? null;
    this.applyScale(metersPerUnit);
    try {
      await this.options.saveScale?.(metersPerUnit);
    } catch (error) {
      this.applyScale(before);
      this.mention(error instanceof Error ? error.message : String(error));
    }
  }

  private applyScale(metersPerUnit: number | null): void {
    this.measure?.setScale(metersPerUnit);
    const { metersPerUnit: before } = this.scene;
    if (!this.options.saveGlb || metersPerUnit === null || metersPerUnit === before) return this.panel.tellScale("");
    const flag = before === null ? ` For other files: vggt export --meters-per-unit ${Number(metersPerUnit.toPrecision(6))}` : "";
    this.panel.tellScale(`The GLB is saved in meters.${flag}`);
  }

  private afterDrawing(): void {
    const { stage, measure, root } = this;
    if (!stage) return;
    measure?.update();
    root.dataset["drawn"] = String(stage.drawnPoints);
    root.dataset["fps"] = stage.pace.rate.toFixed(1);
    this.address.changed();
  }

  /** Puts the view into the address. */
  private keepView(): void {
    const { standpoint, cameraView } = this;
    if (!standpoint) return;
    const current = cameraView?.current ?? null;
    const view = standpoint.worldView();
    const kept = {
      level: standpoint.isLevel,
      threshold: this.store.threshold,
      frame: this.store.frame,
      camera: current === null ? null : this.placed[current]!.camera.frame,
    };
    this.root.dataset["view"] = textOf({ view, ...kept });
    if (this.options.keepViewInUrl) write(textOf({ view: standpoint.touched ? view : null, ...kept }));
  }

  /** Takes the view of the address. */
  private readonly restore = (): void => {
    const { standpoint } = this;
    if (!this.options.keepViewInUrl || !standpoint) return;
    const kept = read(location.hash);
    this.cameraView?.end();
    this.setLevel(kept.level);
    if (kept.view) standpoint.setWorldView(kept.view);
    else standpoint.fit();
    standpoint.touched = kept.view !== null;
    const { hasConfidence, hasFrames } = this.scene.points;
    const frame = hasFrames && kept.frame !== null && kept.frame < this.store.frames ? kept.frame : null;
    this.show({ threshold: hasConfidence ? kept.threshold : 0, frame });
    const camera = this.placed.findIndex(({ camera }) => camera.frame === kept.camera);
    if (camera >= 0) this.lookOutOf(camera);
    else this.cameraChanged();
  };

  private tell(sentence: string): void {
    this.status.textContent = sentence;
  }

  /** Tells what needs no answer. */
  private mention(sentence: string): void {
    this.tell(sentence);
    setTimeout(() => this.status.textContent === sentence && this.tell(""), MENTION);
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.ended.abort();
    this.address.dispose();
    this.panel.dispose();
    this.frusta?.dispose();
    this.stage?.dispose();
    this.root.remove();
  }
}
