// Looking out of a camera: the flight there, its lens, and its photo or depth over the points.
import { Matrix4, Quaternion, Vector3 } from "three";
import { make } from "./dom";
import { medianDepth } from "./first_view";
import type { Placed } from "./frusta";
import { matrixOf } from "./poses";
import type { Scene } from "./scene";
import type { Stage } from "./stage";

/** How long a flight takes, in ms. */
const FLIGHT = 700;
/** Free around the photo, in CSS pixels. */
const MARGIN = 12;

export type Layer = "photo" | "depth" | "off";

/** A state of three's camera. */
interface Lens {
  position: Vector3;
  turn: Quaternion;
  projection: Matrix4;
}

export class CameraView {
  /** The photos and depth maps lie here, over the canvas. */
  readonly element = make("div", { class: "overlay" });
  /** Number of the camera in `placed`; null in the orbit. */
  current: number | null = null;
  layer: Layer = "photo";
  opacity = 0.6;
  private readonly image = make("img", { alt: "", hidden: true, draggable: "false" });
  private flight: { from: Lens; start: number } | null = null;
  private leaving = false;
  private distance = 1;

  /** `covered` tells how much of the canvas lies under the panel, from the left, and under the bar, from below, in CSS pixels. */
  constructor(
    private readonly stage: Stage,
    private readonly covered: () => { left: number; bottom: number },
    private readonly changed: () => void,
  ) {
    this.element.append(this.image);
  }

  placed: Placed[] = [];
  scene: Scene | null = null;
  sample: Float64Array = new Float64Array();

  enter(index: number): void {
    const camera = this.placed[index];
    if (!camera) return;
    this.current = index;
    this.leaving = false;
    this.distance = medianDepth(this.sample, camera.pose);
    this.stage.controls.enabled = false;
    this.start();
  }

  /** Back to where the eye was before the first camera. */
  leave(): void {
    if (this.current === null) return;
    this.current = null;
    this.leaving = true;
    this.start();
  }

  /** The orbit goes on from here, level again. */
  stay(): void {
    const camera = this.current === null ? undefined : this.placed[this.current];
    if (!camera) return;
    this.end();
    const matrix = this.stage.world.matrix;
    const { center, forward } = camera.pose;
    this.stage.setView({
      eye: center.clone().applyMatrix4(matrix),
      target: center.clone().addScaledVector(forward, this.distance).applyMatrix4(matrix),
    });
    this.changed();
  }

  /** Ends at once, without a flight. */
  end(): void {
    this.current = null;
    this.leaving = false;
    this.flight = null;
    this.stage.pilot = null;
    this.stage.controls.enabled = true;
    this.image.hidden = true;
    this.stage.request();
  }

  private start(): void {
    this.image.hidden = true;
    const { camera } = this.stage;
    this.flight = {
      from: { position: camera.position.clone(), turn: camera.quaternion.clone(), projection: camera.projectionMatrix.clone() },
      start: performance.now(),
    };
    this.stage.pilot = (now) => this.steer(now);
    this.stage.move();
    this.changed();
  }

  /** Places the eye; returns whether it flies. */
  private steer(now: number): boolean {
    const to = this.current === null ? this.orbitLens() : this.cameraLens(this.placed[this.current]!);
    const { camera } = this.stage;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const share = this.flight && !still ? Math.min(1, Math.max(0, now - this.flight.start) / FLIGHT) : 1;
    const eased = share * share * (3 - 2 * share);
    if (this.flight && share < 1) {
      const { from } = this.flight;
      camera.position.lerpVectors(from.position, to.position, eased);
      camera.quaternion.slerpQuaternions(from.turn, to.turn, eased);
      camera.projectionMatrix.elements.forEach((_, i, elements) => {
        elements[i] = from.projection.elements[i]! + eased * (to.projection.elements[i]! - from.projection.elements[i]!);
      });
    } else {
      camera.position.copy(to.position);
      camera.quaternion.copy(to.turn);
      camera.projectionMatrix.copy(to.projection);
    }
    camera.projectionMatrixInverse.copy(camera.projectionMatrix).invert();
    if (share < 1) return true;
    const landed = this.flight !== null;
    this.flight = null;
    if (this.leaving) {
      this.end();
      this.changed();
      return false;
    }
    this.placePhoto();
    if (landed) {
      this.showLayer();
      this.stage.request();
    }
    return false;
  }

  private orbitLens(): Lens {
    const { controls, camera } = this.stage;
    const [eye, target] = [controls.getPosition(new Vector3()), controls.getTarget(new Vector3())];
    const turn = new Quaternion().setFromRotationMatrix(new Matrix4().lookAt(eye, target, new Vector3(0, 1, 0)));
    const ghost = camera.clone();
    this.stage.fitLens(ghost);
    return { position: eye, turn, projection: ghost.projectionMatrix.clone() };
  }

  /** A lens that puts the photo's pixels where `frame` says. */
  private cameraLens({ camera, pose }: Placed): Lens {
    const { stage } = this;
    const three = stage.world.matrix.clone().multiply(matrixOf(pose));
    const { scale, left, top } = this.frameOf(camera.width, camera.height);
    stage.clip(this.distance);
    const { near, far } = stage.camera;
    const projection = new Matrix4();
    // From pixels of the photo over those of the canvas to -1 .. 1, y upwards.
    const x = (2 * (left + scale * camera.cx)) / stage.width - 1;
    const y = 1 - (2 * (top + scale * camera.cy)) / stage.height;
    const [fx, fy] = [(2 * scale * camera.fx) / stage.width, (2 * scale * camera.fy) / stage.height];
    const [a, b] = [-(far + near) / (far - near), (-2 * far * near) / (far - near)];
    projection.set(fx, 0, -x, 0, 0, fy, -y, 0, 0, 0, a, b, 0, 0, -1, 0);
    return {
      position: new Vector3().setFromMatrixPosition(three),
      turn: new Quaternion().setFromRotationMatrix(three),
      projection,
    };
  }

  /** Where a photo of this size lies on the canvas. */
  private frameOf(width: number, height: number): { scale: number; left: number; top: number } {
    const { stage } = this;
    const covered = this.covered();
    const [across, down] = [stage.width - covered.left, stage.height - covered.bottom];
    const scale = Math.max(0.01, Math.min((across - 2 * MARGIN) / width, (down - 2 * MARGIN) / height));
    return { scale, left: covered.left + (across - scale * width) / 2, top: (down - scale * height) / 2 };
  }

  private placePhoto(): void {
    const camera = this.current === null ? undefined : this.placed[this.current]?.camera;
    if (!camera) return;
    const { scale, left, top } = this.frameOf(camera.width, camera.height);
    const { style } = this.image;
    [style.left, style.top, style.width, style.height] = [left, top, scale * camera.width, scale * camera.height].map(
      (n) => `${n}px`,
    ) as [string, string, string, string];
    style.opacity = String(this.opacity);
  }

  /** Layers that the camera has. */
  layers(): Layer[] {
    const camera = this.current === null ? undefined : this.placed[this.current]?.camera;
    const pictures = camera && this.scene?.pictures(camera.frame);
    return [...(pictures?.photo ? (["photo"] as const) : []), ...(pictures?.depth ? (["depth"] as const) : []), "off"];
  }

  setLayer(layer: Layer): void {
    this.layer = layer;
    this.showLayer();
    this.changed();
  }

  setOpacity(opacity: number): void {
    this.opacity = opacity;
    this.image.style.opacity = String(opacity);
  }

  private showLayer(): void {
    const camera = this.current === null ? undefined : this.placed[this.current]?.camera;
    const pictures = camera && this.scene?.pictures(camera.frame);
    const address = this.layer === "off" || this.flight ? undefined : pictures?.[this.layer];
    this.image.hidden = !address;
    if (!address) return;
    this.image.onerror = () => (this.image.hidden = true);
    if (this.image.src !== new URL(address, location.href).href) this.image.src = address;
    this.image.alt = `${this.layer === "depth" ? "Depth" : "Photo"} of ${camera?.name ?? `frame ${camera?.frame}`}`;
  }

  /** Draws what lies over the canvas into a picture. */
  paint(context: CanvasRenderingContext2D, ratio: number): void {
    if (this.image.hidden || !this.image.complete) return;
    const [left, top, width, height] = ["left", "top", "width", "height"].map(
      (name) => parseFloat(this.image.style.getPropertyValue(name)) * ratio,
    ) as [number, number, number, number];
    context.globalAlpha = this.opacity;
    context.drawImage(this.image, left, top, width, height);
    context.globalAlpha = 1;
  }
}
