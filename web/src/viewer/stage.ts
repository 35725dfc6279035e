// The canvas and the eye. Draws only when something changed.
import CameraControls from "camera-controls";
import {
  Box3,
  Group,
  LinearSRGBColorSpace,
  Matrix4,
  PerspectiveCamera,
  Quaternion,
  Raycaster,
  Scene as ThreeScene,
  Sphere,
  Spherical,
  Vector2,
  Vector3,
  Vector4,
  WebGLRenderer,
} from "three";
import type { Cloud } from "./cloud";
import { PageError } from "./errors";
import { FIELD, type View } from "./first_view";
import { Pace } from "./pace";

CameraControls.install({ THREE: { Vector2, Vector3, Vector4, Quaternion, Matrix4, Spherical, Box3, Sphere, Raycaster } });

/** So long after the last movement all points are drawn again, in ms. */
const REST = 200;
/** More than two pixels for one cost a phone's battery and are not seen. */
const MOST_PIXELS = 2;
/** The nearest and the farthest that is drawn, in parts of the distance to the pivot and of the scene. */
const NEAR = 0.005;
const FAR = 1000;

export const NO_WEBGL =
  "This browser has no WebGL 2, or it is switched off. The points cannot be drawn without it; the scene can still be saved.";

export interface StageEvents {
  /** After each picture. */
  drawn(): void;
  /** A sentence for the user; none takes it away. */
  tell(sentence: string): void;
  /** The canvas has another size. */
  resized(): void;
}

export class Stage {
  readonly renderer: WebGLRenderer;
  readonly camera = new PerspectiveCamera(FIELD, 1, 0.01, 100);
  readonly controls: CameraControls;
  readonly scene = new ThreeScene();
  /** Everything of the scene; its matrix is three_from_world. */
  readonly world = new Group();
  readonly pace = new Pace();
  cloud: Cloud | null = null;
  private extent = 1;
  /** Points in the last picture. */
  drawnPoints = 0;
  /** Takes the eye over from the controls while it returns true. */
  pilot: ((now: number) => boolean) | null = null;
  private requested: number | null = null;
  private resting: ReturnType<typeof setTimeout> | undefined;
  private moving = false;
  private last = 0;
  private lost = false;
  /** Whether the points were not drawn yet. */
  private unproved = true;
  private readonly resizes: ResizeObserver;

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly events: StageEvents,
  ) {
    // three logs a failure as an error; the page tells it in a sentence.
    const context = canvas.getContext("webgl2", {
      alpha: true,
      antialias: false,
      depth: true,
      powerPreference: "high-performance",
    });
    if (!context) throw new PageError(NO_WEBGL);
    this.renderer = new WebGLRenderer({ canvas, context });
    this.renderer.setClearColor(0x000000, 0);
    // Colors are those of the photos, from the bytes to the screen.
    this.renderer.outputColorSpace = LinearSRGBColorSpace;
    this.world.matrixAutoUpdate = false;
    this.scene.add(this.world);
    this.controls = new CameraControls(this.camera, canvas);
    this.controls.dollyToCursor = true;
    this.controls.infinityDolly = true;
    this.controls.restThreshold = 0.001;
    this.controls.mouseButtons.right = CameraControls.ACTION.TRUCK;
    this.controls.mouseButtons.middle = CameraControls.ACTION.TRUCK;
    this.controls.touches.one = CameraControls.ACTION.TOUCH_ROTATE;
    this.controls.touches.two = CameraControls.ACTION.TOUCH_DOLLY_TRUCK;
    this.controls.touches.three = CameraControls.ACTION.TOUCH_TRUCK;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.controls.smoothTime = still ? 0 : 0.12;
    this.controls.draggingSmoothTime = still ? 0 : 0.04;
    for (const type of ["control", "controlstart", "transitionstart", "wake"] as const)
      this.controls.addEventListener(type, () => this.move());
    canvas.addEventListener("webglcontextlost", this.onLost);
    canvas.addEventListener("webglcontextrestored", this.onRestored);
    this.resizes = new ResizeObserver(() => {
      this.events.resized();
      this.request();
    });
    this.resizes.observe(canvas);
    // The pixels of another screen do not change its size.
    addEventListener("resize", this.request);
  }

  /** Sets three_from_world. */
  setWorld(matrix: Matrix4): void {
    this.world.matrix.copy(matrix);
    this.scene.updateMatrixWorld(true);
  }

  /** Tells a length that is typical of the scene: the view comes to rest by it. */
  setExtent(length: number): void {
    this.extent = length;
    this.controls.restThreshold = this.controls.minDistance = 1e-4 * length;
  }

  setCloud(cloud: Cloud): void {
    if (this.cloud) {
      this.world.remove(this.cloud.object);
      this.cloud.dispose();
    }
    this.cloud = cloud;
    this.unproved = true;
    this.world.add(cloud.object);
    this.scene.updateMatrixWorld(true);
  }

  setView({ eye, target }: View, animate = false): void {
    void this.controls.setLookAt(...eye.toArray(), ...target.toArray(), animate);
    this.request();
  }

  view(): View {
    return { eye: this.controls.getPosition(new Vector3()), target: this.controls.getTarget(new Vector3()) };
  }

  get width(): number {
    return this.canvas.clientWidth || 1;
  }

  get height(): number {
    return this.canvas.clientHeight || 1;
  }

  get aspect(): number {
    return this.width / this.height;
  }

  /** Where a position of three's space is on the canvas, in CSS pixels; null behind the eye. */
  project(place: Vector3): { x: number; y: number } | null {
    const at = place.clone().applyMatrix4(this.camera.matrixWorldInverse);
    if (at.z >= 0) return null;
    at.applyMatrix4(this.camera.projectionMatrix);
    return { x: ((at.x + 1) / 2) * this.width, y: ((1 - at.y) / 2) * this.height };
  }

  /** Draws before the browser shows its next picture. */
  readonly request = (): void => {
    this.requested ??= requestAnimationFrame(this.frame);
  };

  /** Draws fewer points until the view rests. */
  move(): void {
    this.moving = true;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      this.moving = false;
      this.request();
    }, REST);
    this.request();
  }

  private readonly frame = (now: number): void => {
    this.requested = null;
    // A first step after a rest is none.
    const passed = Math.min(0.1, this.last ? (now - this.last) / 1000 : 0);
    this.last = now;
    if (this.pilot) {
      if (this.pilot(now)) this.move();
    } else {
      this.fitLens(this.camera);
      if (this.controls.update(passed)) this.move();
    }
    this.draw(this.moving ? this.pace.budget : Infinity);
    if (this.moving) this.pace.moved(now, this.drawnPoints, this.cloud?.drawable ?? 0);
    else this.pace.rested();
    if (!this.moving) this.last = 0;
  };

  /** Sets the lens of the orbit to the size of the canvas. */
  fitLens(camera: PerspectiveCamera): void {
    const half = Math.tan((FIELD * Math.PI) / 360);
    camera.fov = (360 / Math.PI) * Math.atan(half * Math.max(1, 1 / this.aspect));
    camera.aspect = this.aspect;
    camera.near = NEAR * this.controls.distance;
    camera.far = FAR * (this.controls.distance + this.extent);
    camera.updateProjectionMatrix();
  }

  /** Sets near and far for an eye so far from what it looks at. */
  clip(distance: number): void {
    this.camera.near = NEAR * distance;
    this.camera.far = FAR * (distance + this.extent);
  }

  /** Draws now; the picture can be read until the task ends. */
  draw(most: number): void {
    if (this.lost) return;
    const ratio = Math.min(devicePixelRatio, MOST_PIXELS);
    const [width, height] = [Math.floor(this.width * ratio), Math.floor(this.height * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height)
      this.renderer.setDrawingBufferSize(this.width, this.height, ratio);
    this.camera.updateMatrixWorld();
    this.drawnPoints = this.cloud?.prepare(this.camera, height, ratio, most) ?? 0;
    this.renderer.render(this.scene, this.camera);
    if (this.unproved && this.cloud) this.prove();
    this.events.drawn();
  }

  /** Says when the points found no place. */
  private prove(): void {
    this.unproved = false;
    const gl = this.renderer.getContext();
    if (gl.getError() !== gl.OUT_OF_MEMORY) return;
    this.events.tell(
      `The graphics memory does not hold ${this.cloud?.store.count.toLocaleString("en")} points. Fewer need less: vggt export --max-points.`,
    );
  }

  private readonly onLost = (): void => {
    this.lost = true;
    this.events.tell("The browser took the graphics away. Waiting for it to give them back; if it does not, reload the page.");
  };

  private readonly onRestored = (): void => {
    this.lost = false;
    this.events.tell("");
    this.request();
  };

  dispose(): void {
    clearTimeout(this.resting);
    if (this.requested !== null) cancelAnimationFrame(this.requested);
    this.requested = 0;
    this.resizes.disconnect();
    removeEventListener("resize", this.request);
    this.canvas.removeEventListener("webglcontextlost", this.onLost);
    this.controls.dispose();
    this.cloud?.dispose();
    this.renderer.dispose();
    this.renderer.forceContextLoss();
  }
}
