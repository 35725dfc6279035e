// The block of points in main memory: what can be told, picked and drawn of it.
import { PageError } from "./errors";
import { STRIDE, type PointBlock } from "./scene";

/** 32-bit words of a point: x, y, z, color with confidence, frame. */
export const WORDS = STRIDE / 4;
const LEVELS = 256;
/** No scene has more. */
const MOST_FRAMES = 1 << 16;

/** Blocks that are in random order already. */
const shuffled = new WeakSet<ArrayBuffer>();

/** Points in random order, so that the first n of them are an even sample, with what the panel needs to know of them. */
export class PointStore {
  readonly count: number;
  readonly words: Uint32Array;
  readonly floats: Float32Array;
  /** Number of frames. */
  readonly frames: number;
  /** Points of each frame. */
  readonly perFrame: Uint32Array;
  /** Points of each frame by confidence, [frame][256]. */
  private readonly levels: Uint32Array;
  /** The least confidence and the frame that are shown; null: all frames. */
  threshold = 0;
  frame: number | null = null;
  private readonly indices = new Map<number, Uint32Array<ArrayBuffer>>();

  constructor(readonly block: PointBlock) {
    this.count = block.count;
    this.words = new Uint32Array(block.bytes, 0, WORDS * block.count);
    this.floats = new Float32Array(block.bytes, 0, WORDS * block.count);
    if (!shuffled.has(block.bytes)) shuffle(this.words, this.count);
    shuffled.add(block.bytes);
    let frames = 0;
    for (let i = 0; i < this.count; i++) frames = Math.max(frames, this.words[WORDS * i + 4]! + 1);
    if (frames > MOST_FRAMES)
      throw new PageError("The points are damaged: they name frames that cannot be. Load the scene again.");
    this.frames = frames;
    this.levels = new Uint32Array(frames * LEVELS);
    for (let i = 0; i < this.count; i++) {
      this.levels[LEVELS * this.words[WORDS * i + 4]! + (this.words[WORDS * i + 3]! >>> 24)]! += 1;
    }
    this.perFrame = Uint32Array.from({ length: frames }, (_, frame) => this.sum(frame, 0));
  }

  private sum(frame: number, threshold: number): number {
    let sum = 0;
    for (let level = threshold; level < LEVELS; level++) sum += this.levels[LEVELS * frame + level] ?? 0;
    return sum;
  }

  /** How many points pass the threshold in the chosen frames. */
  get shown(): number {
    if (this.frame !== null) return this.sum(this.frame, this.threshold);
    let sum = 0;
    for (let frame = 0; frame < this.frames; frame++) sum += this.sum(frame, this.threshold);
    return sum;
  }

  /** Numbers of the points of the chosen frame, in the store's order; null: all. */
  get chosen(): Uint32Array<ArrayBuffer> | null {
    if (this.frame === null) return null;
    let index = this.indices.get(this.frame);
    if (!index) {
      index = new Uint32Array(this.perFrame[this.frame] ?? 0);
      for (let i = 0, end = 0; i < this.count; i++) {
        if (this.words[WORDS * i + 4] === this.frame) index[end++] = i;
      }
      // One is enough to go back and forth; more would take the memory of all points again.
      this.indices.clear();
      this.indices.set(this.frame, index);
    }
    return index;
  }

  /** Calls `visit` with the place of each point that is shown. */
  forEachShown(visit: (x: number, y: number, z: number) => void): void {
    const { floats, words, threshold, chosen } = this;
    const count = chosen?.length ?? this.count;
    for (let n = 0; n < count; n++) {
      const at = WORDS * (chosen ? chosen[n]! : n);
      if (words[at + 3]! >>> 24 >= threshold) visit(floats[at]!, floats[at + 1]!, floats[at + 2]!);
    }
  }

  /** Up to `most` finite places as x y z x y z ..., an even sample. */
  sample(most: number): Float64Array {
    const count = Math.min(most, this.count);
    const out = new Float64Array(3 * count);
    let end = 0;
    for (let i = 0; i < count; i++) {
      const place = this.floats.subarray(WORDS * i, WORDS * i + 3);
      if (!place.every(Number.isFinite)) continue;
      out.set(place, end);
      end += 3;
    }
    return out.subarray(0, end);
  }
}

/** Fisher and Yates' shuffle of records, the same for the same number of points. */
function shuffle(words: Uint32Array, count: number): void {
  let state = 0x9e3779b9;
  for (let i = count - 1; i > 0; i--) {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const j = (state >>> 0) % (i + 1);
    const [a, b] = [WORDS * i, WORDS * j];
    for (let k = 0; k < WORDS; k++) {
      const word = words[a + k]!;
      words[a + k] = words[b + k]!;
      words[b + k] = word;
    }
  }
}
