// The points on the graphics card.
import {
  BufferAttribute,
  BufferGeometry,
  GLSL3,
  InterleavedBuffer,
  InterleavedBufferAttribute,
  Matrix4,
  type PerspectiveCamera,
  Points,
  RawShaderMaterial,
} from "three";
import { type PointStore, WORDS } from "./points";
import type { Pose } from "./poses";
import type { Camera } from "./scene";
import { diameter, type Spacing, spacingOf } from "./spacing";

// The block is bound as words, so that every bit arrives as it is: a float attribute might lose those of the color and the frame.
const VERTEX_SHADER = `
precision highp float;
precision highp int;
in uvec3 position;
in uint look;
in uint frame;
uniform mat4 clip_from_world;
uniform uint threshold;
// Camera in world space, and the step of its points' grid at distance 1; 0 where that is not known.
uniform highp sampler2D frames;
uniform float spacing;
// Pixels of a step of 1 at distance 1.
uniform float pixels;
uniform float largest;
out vec3 color;
flat out float size;

void main() {
  vec3 place = uintBitsToFloat(position);
  // Not finite, or not confident enough: beyond the near plane.
  if (look >> 24 < threshold || !(dot(place, place) < 1e30)) {
    gl_Position = vec4(0.0, 0.0, -2.0, 1.0);
    gl_PointSize = 1.0;
    return;
  }
  gl_Position = clip_from_world * vec4(place, 1.0);
  int row = textureSize(frames, 0).x;
  vec4 origin = texelFetch(frames, ivec2(int(frame) % row, int(frame) / row), 0);
  float apart = origin.w > 0.0 ? clamp(distance(place, origin.xyz) * origin.w, 0.25 * spacing, 4.0 * spacing) : spacing;
  size = clamp(apart * pixels / gl_Position.w, 1.0, largest);
  gl_PointSize = size;
  color = vec3(look & 255u, look >> 8 & 255u, look >> 16 & 255u) / 255.0;
}`;

const FRAGMENT_SHADER = `
precision mediump float;
in vec3 color;
flat in float size;
out vec4 shown;

void main() {
  // Of two pixels a disc is a square.
  if (size > 2.5 && distance(gl_PointCoord, vec2(0.5)) > 0.5) discard;
  shown = vec4(color, 1.0);
}`;

/** Largest disc, in CSS pixels, of all points and of a sample while the view moves: filling them may be what takes long. */
const LARGEST = { all: 40, sample: 20 };
/** What is drawn of the points. */
export class Cloud {
  readonly object: Points<BufferGeometry, RawShaderMaterial>;
  /** Size that the user chose, 1 as it is. */
  size = 1;
  /** Numbers of the chosen frame's points; large enough for any frame, since three frees a buffer only with its geometry. */
  private index: BufferAttribute | null = null;
  private indexed: Uint32Array | null = null;
  private readonly spacing: Spacing;

  constructor(
    readonly store: PointStore,
    cameras: Camera[],
    poses: (Pose | null)[],
    depth: number,
  ) {
    const geometry = new BufferGeometry();
    const block = new InterleavedBuffer(store.words, WORDS);
    geometry.setAttribute("position", new InterleavedBufferAttribute(block, 3, 0));
    geometry.setAttribute("look", new InterleavedBufferAttribute(block, 1, 3));
    geometry.setAttribute("frame", new InterleavedBufferAttribute(block, 1, 4));
    this.spacing = spacingOf(store, cameras, poses, depth);
    const material = new RawShaderMaterial({
      glslVersion: GLSL3,
      vertexShader: VERTEX_SHADER,
      fragmentShader: FRAGMENT_SHADER,
      uniforms: {
        clip_from_world: { value: new Matrix4() },
        threshold: { value: 0 },
        frames: { value: this.spacing.frames },
        spacing: { value: this.spacing.typical },
        pixels: { value: 1 },
        largest: { value: LARGEST.all },
      },
    });
    this.object = new Points(geometry, material);
    this.object.frustumCulled = false;
  }

  /** How many points are to be drawn for all to be there, whatever their confidence. */
  get drawable(): number {
    return this.store.chosen?.length ?? this.store.count;
  }

  /** Sets what the next drawing shows: `most` points for a canvas of `height` pixels. Returns how many. */
  prepare(camera: PerspectiveCamera, height: number, ratio: number, most: number): number {
    const { geometry, material } = this.object;
    const count = Math.min(most, this.drawable);
    geometry.setIndex(this.indexOf(this.store.chosen));
    geometry.setDrawRange(0, count);
    const { chosen, shown } = this.store;
    const overlap = chosen ? 1 : Math.max(1, (this.spacing.overlap * shown) / this.store.count);
    const steps = diameter(overlap, count / Math.max(1, this.drawable));
    const { uniforms } = material;
    const clip = uniforms["clip_from_world"]!.value as Matrix4;
    clip.multiplyMatrices(camera.matrixWorldInverse, this.object.matrixWorld).premultiply(camera.projectionMatrix);
    uniforms["threshold"]!.value = this.store.threshold;
    uniforms["pixels"]!.value = (camera.projectionMatrix.elements[5]! * height * this.size * steps) / 2;
    uniforms["largest"]!.value = (count < this.drawable ? LARGEST.sample : LARGEST.all) * ratio;
    return count;
  }

  private indexOf(chosen: Uint32Array<ArrayBuffer> | null): BufferAttribute | null {
    if (!chosen) return null;
    this.index ??= new BufferAttribute(new Uint32Array(this.store.perFrame.reduce((a, b) => Math.max(a, b), 0)), 1);
    if (this.indexed !== chosen) {
      this.index.array.set(chosen);
      this.index.needsUpdate = true;
      this.indexed = chosen;
    }
    return this.index;
  }

  dispose(): void {
    this.object.geometry.dispose();
    this.object.material.dispose();
    this.spacing.frames.dispose();
  }
}
