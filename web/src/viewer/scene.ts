// What a viewer shows, wherever it comes from. Positions and poses are in world space as vggt has it: x right, y down, z forward of the
// first camera (OpenCV's axes), in the network's unit.

/** Bytes of a point in the block of `PointBlock`. */
export const STRIDE = 20;

/** Points as `src/points.rs` has them: f32 x y z, u8 red green blue, u8 confidence, u32 frame, without the header. */
export interface PointBlock {
  /** Belongs to the viewer once it is shown: the viewer changes the order of the points. */
  bytes: ArrayBuffer;
  count: number;
  /** Points of the scene, of which these are a part; null: more than these, but not known how many. */
  total: number | null;
  /** Whether the byte of confidence is there; without it every point has 255. */
  hasConfidence: boolean;
  /** Whether the number of the frame is there; without it every point has 0. */
  hasFrames: boolean;
  /** Number of frames that the points are from, where that is all that is known of them: it tells how densely they lie. */
  frames?: number;
}

/** A frame's camera, in the pixels of its photo. */
export interface Camera {
  frame: number;
  /** File name of the photo, where it may be known. */
  name?: string;
  width: number;
  height: number;
  fx: number;
  fy: number;
  cx: number;
  cy: number;
  /** Three rows of four, or four of four: p_camera = M p_world. */
  camera_from_world: number[][];
}

/** Pictures of a frame, as addresses that an image may load; undefined where there is none. */
export interface Pictures {
  photo?: string;
  thumbnail?: string;
  depth?: string;
}

/** A scene. */
export interface Scene {
  title: string;
  points: PointBlock;
  cameras: Camera[];
  pictures(frame: number): Pictures;
  /** Meters in a unit of the scene; null: not known. */
  metersPerUnit: number | null;
  /** What made it, by name: shown as it is. */
  details: Record<string, string>;
}

export interface ViewerOptions {
  /** Keeps what a length of 1 is in meters, or forgets it. Absent: it holds for this view only. */
  saveScale?(metersPerUnit: number | null): Promise<void>;
  /** The view, the confidence and the frame stand in the address after #. */
  keepViewInUrl?: boolean;
  /** A page's GLB, in meters where the scale is known. Absent: there is no button for it. */
  saveGlb?(metersPerUnit: number | null): Promise<Blob>;
  /** Of the title in the panel; 2 unless set. */
  headingLevel?: 1 | 2;
}

export interface Viewer {
  /** Shows another scene from where one looks now, such as the result after a preview. */
  setScene(scene: Scene): void;
  /** Ends it and empties the host. */
  dispose(): void;
}
