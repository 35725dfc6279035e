// Puts stage, points, cameras and panel together.
import { Matrix4, Vector3 } from "three";
import { CameraBar } from "./camera_bar";
import { CameraView } from "./camera_view";
import { Cloud } from "./cloud";
import { iconButton, make, saveFile } from "./dom";
import { sentenceOf } from "./errors";
import { firstView, medianDepth, type View } from "./first_view";
import { Frusta, MOST_PHOTOS, type Placed, planeDepth } from "./frusta";
import { type HandEvents, listenToKeys, listenToPointers } from "./hands";
import { levelMatrix, upOf } from "./horizon";
import { Measure } from "./measure";
import { Panel } from "./panel";
import { pickPoint } from "./pick";
import { PointStore } from "./points";
import { poseOf, type Pose } from "./poses";
import type { Scene, Viewer, ViewerOptions } from "./scene";
import { Stage } from "./stage";
import { read, Rest, textOf, write } from "./url";

/** Points that decide on the first view. */
const SAMPLE = 20_000;
const WORLD_POSE: Pose = { center: new Vector3(), right: new Vector3(1, 0, 0), down: new Vector3(0, 1, 0), forward: new Vector3(0, 0, 1) };

export class SceneViewer implements Viewer {
  private readonly root: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly status = make("p", { class: "status", role: "status" });
  private readonly panel: Panel;
  private readonly stage: Stage | null = null;
  private readonly cameraView: CameraView | null = null;
  private readonly cameraBar: CameraBar | null = null;
  private readonly measure: Measure | null = null;
  private readonly measureButton = iconButton("measure", "Measure", () => {
    this.cameraView?.leave();
    this.measure?.toggle(!this.measure.active);
  }, { "aria-pressed": "false" });
  private readonly address = new Rest(() => this.keepView());
  private readonly ended = new AbortController();
  private scene!: Scene;
  private store!: PointStore;
  private frusta: Frusta | null = null;
  private placed: Placed[] = [];
  private names: string[] = [];
  private sample: Float64Array = new Float64Array();
  private isLevel = true;
  private camerasShown = true;
  private cameraSize = 1;
  /** Whether somebody moved the view; until then it follows what is shown. */
  private touched = false;
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
        resized: () => this.touched || this.firstLook(),
      });
      this.stage = stage;
      this.cameraView = new CameraView(stage, () => this.cameraChanged());
      this.cameraBar = new CameraBar(this.cameraView, (by) => this.stepCamera(by));
      this.measure = new Measure(stage, {
        scaled: (metersPerUnit) => void this.setScale(metersPerUnit),
        tell: (sentence) => this.tell(sentence),
        changed: () => {
          this.measureButton.setAttribute("aria-pressed", String(this.measure?.active ?? false));
          stage.request();
        },
      });
      area.append(this.cameraView.element, this.measure.overlay, this.toolbar(), this.cameraBar.element, this.measure.bar);
      listenToPointers(stage, this.hands(), this.ended.signal);
      listenToKeys(stage, this.root, this.hands(), this.ended.signal);
    } catch (error) {
      this.canvas.hidden = true;
      this.tell(sentenceOf(error));
    }
    area.append(this.status);
    this.setScene(scene);
    this.restore();
  }

  setScene(scene: Scene): void {
    const { stage, cameraView } = this;
    this.scene = scene;
    const before = this.store as PointStore | undefined;
    this.store = new PointStore(scene.points);
    this.store.threshold = before?.threshold ?? 0;
    this.store.frame = before?.frame != null && before.frame < this.store.frames ? before.frame : null;
    const poses = scene.cameras.map(poseOf);
    this.placed = scene.cameras.flatMap((camera, i) => (poses[i] ? [{ camera, pose: poses[i] }] : []));
    this.names = this.placed.map(({ camera }) => camera.name ?? `photo ${camera.frame + 1}`);
    this.sample = this.store.sample(SAMPLE);
    const named = new Map(this.placed.map(({ camera }, i) => [camera.frame, this.names[i]!]));
    this.panel.describe({
      title: scene.title,
      details: scene.details,
      frames: scene.points.hasFrames
        ? [...this.store.perFrame].flatMap((n, frame): [number, string][] => (n ? [[frame, named.get(frame) ?? `photo ${frame + 1}`]] : []))
        : [],
      cameras: this.names,
      hasConfidence: scene.points.hasConfidence,
    });
    this.measure?.clear();
    this.applyScale(scene.metersPerUnit);
    if (stage && cameraView) {
      cameraView.end();
      const depth = medianDepth(this.sample, this.firstPose);
      stage.extent = depth;
      stage.controls.restThreshold = 1e-4 * depth;
      stage.controls.minDistance = 1e-4 * depth;
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
      Object.assign(cameraView, { placed: this.placed, scene, sample: this.sample });
      stage.setWorld(this.worldMatrix());
      if (!this.touched) this.reset();
      this.showCameras(this.camerasShown);
      this.panel.tellLimit(this.frusta.photosAreLimited ? `Only ${MOST_PHOTOS} of the ${this.placed.length} cameras show their photo.` : "");
    }
    this.show({});
  }

  private get firstPose(): Pose {
    return this.placed[0]?.pose ?? WORLD_POSE;
  }

  /** Without a level horizon up is that of the first camera. */
  private worldMatrix(): Matrix4 {
    return levelMatrix(upOf(this.isLevel && this.placed.length ? this.placed.map(({ pose }) => pose) : [this.firstPose]));
  }

  private reset(): void {
    if (!this.stage) return;
    this.cameraView?.end();
    this.cameraChanged();
    this.firstLook();
    this.touched = false;
  }

  /** Sets the view that fits the window as it is now. */
  private firstLook(): void {
    const { stage, frusta } = this;
    if (!stage || !this.scene) return;
    const corners = this.camerasShown && frusta ? frusta.corners() : [];
    stage.setView(firstView(this.firstPose, this.sample, corners, stage.world.matrix, stage.aspect));
  }

  private setLevel(level: boolean): void {
    const { stage } = this;
    this.isLevel = level;
    this.panel.setLevel(level);
    if (!stage) return;
    // The eye stays where it is in the scene.
    const kept = this.worldView();
    stage.setWorld(this.worldMatrix());
    this.setWorldView(kept);
    if (!this.touched) this.reset();
    this.address.changed();
  }

  private worldView(): View {
    const inverse = this.stage!.world.matrix.clone().invert();
    const { eye, target } = this.stage!.view();
    return { eye: eye.applyMatrix4(inverse), target: target.applyMatrix4(inverse) };
  }

  private setWorldView({ eye, target }: View): void {
    const { matrix } = this.stage!.world;
    this.stage!.setView({ eye: eye.clone().applyMatrix4(matrix), target: target.clone().applyMatrix4(matrix) });
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
    this.stage?.request();
    this.address.changed();
  }

  private showCameras(shown: boolean): void {
    this.camerasShown = shown;
    if (this.frusta) this.frusta.object.visible = shown && this.cameraView?.current === null;
  }

  private lookOutOf(index: number): void {
    if (!this.cameraView || index >= this.placed.length) return;
    this.measure?.toggle(false);
    this.touched = true;
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

  private hands(): HandEvents {
    const stage = this.stage!;
    return {
      click: (x, y, finger) => {
        if (this.measure?.active) return this.measure.pick(x, y, finger);
        const camera = this.cameraAt(x, y);
        if (camera !== null) this.lookOutOf(camera);
      },
      doubleClick: (x, y) => {
        if (this.measure?.active) return;
        const hit = pickPoint(stage, x, y, 24);
        if (!hit) return;
        this.touched = true;
        // What is chosen comes to the middle; its size stays.
        const target = hit.place.applyMatrix4(stage.world.matrix);
        const { eye } = stage.view();
        const ahead = stage.camera.getWorldDirection(new Vector3());
        const shift = target.clone().sub(eye).addScaledVector(ahead, -hit.depth);
        stage.setView({ eye: eye.add(shift), target }, true);
      },
      hover: (x, y) => {
        const camera = this.measure?.active ? null : this.cameraAt(x, y);
        this.canvas.classList.toggle("over", camera !== null);
        this.canvas.title = camera === null ? "" : this.names[camera]!;
      },
      grab: () => {
        this.touched = true;
        if (this.cameraView?.current != null) this.cameraView.stay();
      },
      reset: () => this.reset(),
      escape: () => {
        if (this.cameraView?.current != null) this.cameraView.leave();
        else if (this.measure?.active) this.measure.toggle(false);
      },
      enter: () => this.measure?.active && this.measure.pickMiddle(),
    };
  }

  /** The camera under x and y, unless points are before it. */
  private cameraAt(x: number, y: number): number | null {
    const hit = this.stage && this.cameraView?.current === null ? this.frusta?.at(this.stage, x, y) : null;
    if (!hit) return null;
    const point = pickPoint(this.stage!, x, y, 3);
    return point && point.depth < 0.98 * hit.depth ? null : hit.index;
  }

  private toolbar(): HTMLElement {
    const full = iconButton("full", "Full screen", () => {
      if (document.fullscreenElement) void document.exitFullscreen();
      else void this.root.requestFullscreen().catch(() => this.tell("This browser allows no full screen here."));
    });
    full.hidden = !document.fullscreenEnabled;
    return make("div", { class: "toolbar", role: "group", "aria-label": "View" }, [
      iconButton("reset", "Reset view", () => this.reset()),
      this.measureButton,
      iconButton("picture", "Save a picture of the view", () => this.savePicture()),
      full,
    ]);
  }

  private savePicture(): void {
    const { stage, canvas } = this;
    if (!stage) return;
    stage.draw(Infinity);
    const picture = make("canvas", { width: canvas.width, height: canvas.height });
    const context = picture.getContext("2d");
    if (!context) return;
    context.fillStyle = getComputedStyle(this.root).backgroundColor;
    context.fillRect(0, 0, picture.width, picture.height);
    context.drawImage(canvas, 0, 0);
    const ratio = canvas.width / stage.width;
    this.cameraView?.paint(context, ratio);
    if (this.measure?.active) this.measure.paint(context, ratio);
    picture.toBlob((blob) => {
      if (blob) saveFile(blob, `${this.scene.title || "view"}.png`);
      else this.tell("This browser cannot save the picture.");
    });
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
      this.tell(error instanceof Error ? error.message : String(error));
    }
  }

  private applyScale(metersPerUnit: number | null): void {
    this.measure?.setScale(metersPerUnit);
    const flag = metersPerUnit !== null && metersPerUnit !== this.scene.metersPerUnit && this.options.saveGlb;
    this.panel.tellScale(flag ? `The GLB is saved in meters. For other files: vggt export --meters-per-unit ${Number(metersPerUnit.toPrecision(6))}` : "");
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
    const { stage, cameraView } = this;
    if (!stage) return;
    const current = cameraView?.current ?? null;
    const view = this.worldView();
    const kept = {
      level: this.isLevel,
      threshold: this.store.threshold,
      frame: this.store.frame,
      camera: current === null ? null : this.placed[current]!.camera.frame,
    };
    this.root.dataset["view"] = textOf({ view, ...kept });
    if (this.options.keepViewInUrl) write(textOf({ view: this.touched ? view : null, ...kept }));
  }

  /** Takes the view of the address. */
  private restore(): void {
    if (!this.options.keepViewInUrl || !this.stage) return;
    const kept = read(location.hash);
    this.setLevel(kept.level);
    if (kept.view) this.setWorldView(kept.view);
    this.touched = kept.view !== null;
    const threshold = this.scene.points.hasConfidence ? kept.threshold : 0;
    const frame = this.scene.points.hasFrames && kept.frame !== null && kept.frame < this.store.frames ? kept.frame : null;
    this.show({ threshold, frame });
    const camera = this.placed.findIndex(({ camera }) => camera.frame === kept.camera);
    if (camera >= 0) this.lookOutOf(camera);
  }

  private tell(sentence: string): void {
    this.status.textContent = sentence;
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
