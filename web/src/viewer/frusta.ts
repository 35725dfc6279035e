// The cameras: a pyramid each, with its photo on the image plane.
import {
  BufferAttribute,
  BufferGeometry,
  CanvasTexture,
  Color,
  DoubleSide,
  Float32BufferAttribute,
  Group,
  LinearFilter,
  LineBasicMaterial,
  LineSegments,
  Mesh,
  MeshBasicMaterial,
  NoColorSpace,
  Raycaster,
  Vector2,
  Vector3,
} from "three";
import { cornersOf, type Pose } from "./poses";
import type { Camera, Scene } from "./scene";
import type { Stage } from "./stage";

/** Photos on frusta at most: each is a texture and a call to draw. */
export const MOST_PHOTOS = 256;
/** Longest side of a photo on a frustum, in pixels. */
const PHOTO_SIZE = 160;
/** Ends of lines of a camera: eye to corners, from corner to corner, and a mark of what is up. */
const CORNERS = 2 * (4 + 4 + 2);
/** Photos that are read at a time. */
const AT_A_TIME = 4;
/** Colors from the first to the last camera, bright enough on dark and dark enough on light ground. */
const RAMP = ["#3f7fe8", "#2aa5b0", "#5cab3c", "#d19a1f", "#dc5b32"];

/** A camera that can be drawn. */
export interface Placed {
  camera: Camera;
  pose: Pose;
}

export class Frusta {
  readonly object = new Group();
  private readonly lines = new LineSegments(new BufferGeometry(), new LineBasicMaterial({ vertexColors: true }));
  private readonly photos = new Map<number, Mesh<BufferGeometry, MeshBasicMaterial>>();
  private planeDepth = 0;
  private gone = false;

  /** `depth` is how far the image planes are at size 1. */
  constructor(
    readonly placed: Placed[],
    private readonly scene: Scene,
    private readonly depth: number,
    private readonly changed: () => void,
  ) {
    this.lines.frustumCulled = false;
    this.object.add(this.lines);
    this.lines.geometry.setAttribute("position", new BufferAttribute(new Float32Array(3 * CORNERS * placed.length), 3));
    this.lines.geometry.setAttribute("color", new BufferAttribute(this.colors(), 3));
    this.resize(1);
    void this.loadPhotos();
  }

  /** Whether some cameras have no photo because there are too many. */
  get photosAreLimited(): boolean {
    return this.placed.length > MOST_PHOTOS;
  }

  /** Corners of all image planes and the eyes, at size 1. */
  corners(): Vector3[] {
    return this.placed.flatMap(({ camera, pose }) => [pose.center, ...cornersOf(camera, pose, this.depth)]);
  }

  private colors(): Float32Array {
    const colors = new Float32Array(3 * CORNERS * this.placed.length);
    const last = Math.max(1, this.placed.length - 1);
    this.placed.forEach((_, i) => {
      const color = rampColor(i / last);
      for (let n = 0; n < CORNERS; n++) color.toArray(colors, 3 * (CORNERS * i + n));
    });
    return colors;
  }

  resize(size: number): void {
    this.planeDepth = this.depth * size;
    const places = this.lines.geometry.getAttribute("position") as BufferAttribute;
    let end = 0;
    this.placed.forEach(({ camera, pose }, i) => {
      const corners = cornersOf(camera, pose, this.planeDepth);
      const line = (a: Vector3, b: Vector3) => {
        for (const { x, y, z } of [a, b]) places.setXYZ(end++, x, y, z);
      };
      corners.forEach((corner, k) => {
        line(pose.center, corner);
        line(corner, corners[(k + 1) % 4]!);
      });
      // Which way is up.
      const [a, b] = [corners[0]!, corners[1]!];
      const tip = a
        .clone()
        .add(b)
        .multiplyScalar(0.5)
        .addScaledVector(pose.down, -0.25 * a.distanceTo(b));
      const [left, right] = [a.clone().lerp(b, 0.35), a.clone().lerp(b, 0.65)];
      line(left, tip);
      line(tip, right);
      const photo = this.photos.get(i);
      if (photo) setPlane(photo.geometry, corners);
    });
    places.needsUpdate = true;
    this.changed();
  }

  /** The camera whose image plane or eye lies under x and y, and how far it is; null where there is none. */
  at(stage: Stage, x: number, y: number): { index: number; depth: number } | null {
    if (!this.object.visible) return null;
    const ray = new Raycaster();
    ray.setFromCamera(new Vector2((2 * x) / stage.width - 1, 1 - (2 * y) / stage.height), stage.camera);
    const matrix = stage.world.matrix;
    const ahead = stage.camera.getWorldDirection(new Vector3());
    let nearest: { index: number; depth: number } | null = null;
    const offer = (index: number, place: Vector3) => {
      const depth = place.clone().sub(stage.camera.position).dot(ahead);
      if (depth > 0 && (!nearest || depth < nearest.depth)) nearest = { index, depth };
    };
    this.placed.forEach(({ camera, pose }, index) => {
      const [a, b, c, d] = cornersOf(camera, pose, this.planeDepth).map((corner) => corner.applyMatrix4(matrix)) as [
        Vector3,
        Vector3,
        Vector3,
        Vector3,
      ];
      const hit = new Vector3();
      if (ray.ray.intersectTriangle(a, b, c, false, hit) || ray.ray.intersectTriangle(a, c, d, false, hit)) offer(index, hit);
      const eye = pose.center.clone().applyMatrix4(matrix);
      const at = stage.project(eye);
      if (at && Math.hypot(at.x - x, at.y - y) < 12) offer(index, eye);
    });
    return nearest;
  }

  /** Reads the photos some at a time; those that cannot be read are left out. */
  private async loadPhotos(): Promise<void> {
    const step = Math.max(1, this.placed.length / MOST_PHOTOS);
    const wanted = Array.from({ length: Math.min(MOST_PHOTOS, this.placed.length) }, (_, n) => Math.floor(n * step)).values();
    const work = async () => {
      for (const index of wanted) {
        if (this.gone) return;
        const { camera, pose } = this.placed[index]!;
        const { thumbnail, photo } = this.scene.pictures(camera.frame);
        const address = thumbnail ?? photo;
        const picture = address && (await readPicture(address).catch(() => null));
        if (this.gone) return;
        if (picture) this.addPhoto(index, picture, cornersOf(camera, pose, this.planeDepth));
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, work));
  }

  private addPhoto(index: number, picture: HTMLCanvasElement, corners: Vector3[]): void {
    const map = new CanvasTexture(picture);
    map.colorSpace = NoColorSpace;
    map.generateMipmaps = false;
    map.minFilter = LinearFilter;
    const geometry = new BufferGeometry();
    geometry.setAttribute("uv", new Float32BufferAttribute([0, 1, 1, 1, 1, 0, 0, 0], 2));
    geometry.setAttribute("position", new BufferAttribute(new Float32Array(12), 3));
    geometry.setIndex([0, 3, 2, 0, 2, 1]);
    const mesh = new Mesh(
      geometry,
      new MeshBasicMaterial({ map, side: DoubleSide, polygonOffset: true, polygonOffsetFactor: 1, polygonOffsetUnits: 1 }),
    );
    setPlane(geometry, corners);
    mesh.frustumCulled = false;
    this.photos.set(index, mesh);
    this.object.add(mesh);
    mesh.updateMatrixWorld(true);
    this.changed();
  }

  dispose(): void {
    this.gone = true;
    this.lines.geometry.dispose();
    this.lines.material.dispose();
    for (const { geometry, material } of this.photos.values()) {
      geometry.dispose();
      material.map?.dispose();
      material.dispose();
    }
  }
}

/** Cameras for which the nearest other one is looked for. */
const MOST_GAPS = 200;

/** How far image planes are from their eyes: less than from camera to camera, and little next to the scene. */
export function planeDepth(placed: Placed[], depth: number): number {
  const step = Math.ceil(placed.length / MOST_GAPS);
  const some = placed.filter((_, i) => i % step === 0);
  const gaps = some.map(({ pose }) => {
    const others = placed.filter((other) => other.pose !== pose);
    return others.reduce((least, other) => Math.min(least, pose.center.distanceTo(other.pose.center)), Infinity);
  });
  const gap = gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)] ?? Infinity;
  return Math.min(0.12 * depth, Math.max(0.02 * depth, 0.6 * gap));
}

function setPlane(geometry: BufferGeometry, corners: Vector3[]): void {
  const places = geometry.getAttribute("position") as BufferAttribute;
  corners.forEach(({ x, y, z }, i) => places.setXYZ(i, x, y, z));
  places.needsUpdate = true;
}

/** The color at `share` of the ramp; its bytes are those of the screen. */
export function rampColor(share: number): Color {
  const at = share * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(at));
  const [a, b] = [RAMP[low]!, RAMP[low + 1]!].map((hex) => new Color().setStyle(hex, NoColorSpace)) as [Color, Color];
  return a.lerp(b, at - low);
}

/** A picture in the size that a frustum needs. */
async function readPicture(address: string): Promise<HTMLCanvasElement> {
  const image = new Image();
  image.decoding = "async";
  image.src = address;
  await image.decode();
  const scale = Math.min(1, PHOTO_SIZE / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}
