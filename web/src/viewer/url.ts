// The view in the address: a reload, and everybody who gets the address, sees the same.
import { Vector3 } from "three";
import type { View } from "./first_view";

/** What of a view is in the address; places are in world space, so that they do not depend on where up is. */
export interface Kept {
  /** Null: the first view, which depends on the size of the window. */
  view: View | null;
  level: boolean;
  threshold: number;
  frame: number | null;
  /** Frame of the camera that one looks out of. */
  camera: number | null;
}

/** So long after the last change it is written, in ms: browsers refuse more than some changes in a second. */
const DELAY = 400;

export function textOf({ view, level, threshold, frame, camera }: Kept): string {
  const parts = new URLSearchParams();
  if (view) parts.set("v", numbersOf(view).join(","));
  if (threshold) parts.set("c", String(threshold));
  if (frame !== null) parts.set("f", String(frame));
  if (camera !== null) parts.set("from", String(camera));
  if (!level) parts.set("level", "0");
  return parts.toString().replaceAll("%2C", ",");
}

/** Eye and target with as many digits as can be seen. */
function numbersOf({ eye, target }: View): number[] {
  const digits = Math.min(20, Math.max(0, 5 - Math.floor(Math.log10(eye.distanceTo(target)))));
  // Adding 0 makes 0 of -0.
  return [...eye.toArray(), ...target.toArray()].map((n) => Number(n.toFixed(digits)) + 0);
}

/** What an address has; what is missing or damaged is as at first. */
export function read(hash: string): Kept {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const whole = (name: string) => {
    const text = parts.get(name);
    return text !== null && /^\d{1,6}$/.test(text) ? Number(text) : null;
  };
  return {
    view: viewOf(parts.get("v")),
    level: parts.get("level") !== "0",
    threshold: Math.min(255, whole("c") ?? 0),
    frame: whole("f"),
    camera: whole("from"),
  };
}

function viewOf(text: string | null): View | null {
  const numbers = (text ?? "").split(",").map(Number);
  if (numbers.length !== 6 || !numbers.every(Number.isFinite)) return null;
  const [eye, target] = [new Vector3().fromArray(numbers), new Vector3().fromArray(numbers, 3)];
  return eye.distanceTo(target) > 0 ? { eye, target } : null;
}

/** Calls `write` once the view rests. */
export class Rest {
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly write: () => void) {}

  changed(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.write, DELAY);
  }

  dispose(): void {
    clearTimeout(this.timer);
  }
}

/** Puts a text after the # of the address, without a step in the history. */
export function write(text: string): void {
  const hash = location.hash.replace(/^#/, "");
  if (text === hash) return;
  try {
    history.replaceState(history.state, "", text ? `#${text}` : location.pathname + location.search);
  } catch {
    // Some browsers allow none for files; the view is as good without.
  }
}
