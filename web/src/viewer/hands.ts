// Mouse, fingers and keys, beyond what turns, shifts and zooms by itself.
import CameraControls from "camera-controls";
import type { Stage } from "./stage";

/** A press that moves no farther than this is a click, in CSS pixels. */
const CLICK = 6;
/** Two clicks within this time and distance are a double click. */
const AGAIN_MS = 400;
const AGAIN_PIXELS = 24;

export interface HandEvents {
  click(x: number, y: number, finger: boolean): void;
  doubleClick(x: number, y: number): void;
  /** The pointer rests over x and y, without a button. */
  hover(x: number, y: number): void;
  /** Somebody is about to move the view. */
  grab(): void;
  reset(): void;
  escape(): void;
  /** Enter on the canvas. */
  enter(): void;
}

/** Until `signal` aborts. */
export function listenToPointers({ canvas, controls }: Stage, events: HandEvents, signal: AbortSignal): void {
  const place = (event: MouseEvent): [number, number] => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  let pressed: { x: number; y: number; moved: boolean } | null = null;
  let fingers = 0;
  let last: { x: number; y: number; time: number } | null = null;
  let hovered = 0;
  // Before the controls see it.
  canvas.addEventListener(
    "pointerdown",
    (event) => {
      const { ROTATE, TRUCK } = CameraControls.ACTION;
      controls.mouseButtons.left = event.shiftKey ? TRUCK : ROTATE;
      fingers += 1;
      const [x, y] = place(event);
      pressed = fingers === 1 && event.button === 0 ? { x, y, moved: false } : null;
      if (fingers > 1 || event.button > 0) events.grab();
    },
    { capture: true, signal },
  );
  addEventListener(
    "pointermove",
    (event) => {
      if (event.target !== canvas && !pressed) return;
      const [x, y] = place(event);
      if (pressed && !pressed.moved && Math.hypot(x - pressed.x, y - pressed.y) > CLICK) {
        pressed.moved = true;
        events.grab();
      }
      if (pressed || event.pointerType === "touch" || event.buttons) return;
      hovered ||= requestAnimationFrame(() => {
        hovered = 0;
        events.hover(x, y);
      });
    },
    { signal },
  );
  const release = (event: PointerEvent) => {
    fingers = Math.max(0, fingers - 1);
    const press = pressed;
    pressed = null;
    if (event.type === "pointercancel" || !press || press.moved || event.target !== canvas) return;
    const { timeStamp: time } = event;
    const [x, y] = place(event);
    const again = last && time - last.time < AGAIN_MS && Math.hypot(x - last.x, y - last.y) < AGAIN_PIXELS;
    last = again ? null : { x, y, time };
    if (again) events.doubleClick(x, y);
    else events.click(x, y, event.pointerType === "touch");
  };
  canvas.addEventListener("pointerup", release, { signal });
  canvas.addEventListener("pointercancel", release, { signal });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
  canvas.addEventListener("wheel", () => events.grab(), { passive: true, capture: true, signal });
}

/** Keys while the canvas, or nothing, has the focus; Escape anywhere in `root`; until `signal` aborts. */
export function listenToKeys(stage: Stage, root: HTMLElement, events: HandEvents, signal: AbortSignal): void {
  const arrows: Record<string, [number, number]> = {
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
    ArrowUp: [0, -1],
    ArrowDown: [0, 1],
  };
  const zooms: Record<string, number> = { "+": 0.85, "=": 0.85, "-": 1 / 0.85, _: 1 / 0.85 };
  const { controls } = stage;
  const listener = (event: KeyboardEvent) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (key === "Escape" && (target === document.body || root.contains(target as Node))) return events.escape();
    // Whatever else has the focus has its own use for keys.
    if (target !== stage.canvas && target !== document.body) return;
    const arrow = arrows[key];
    const zoom = zooms[key];
    if (arrow) {
      events.grab();
      const [x, y] = arrow;
      // The scene goes the way of the arrow, so the eye goes the other.
      if (event.shiftKey) void controls.truck(-0.05 * x * controls.distance, -0.05 * y * controls.distance, true);
      else void controls.rotate(-0.08 * x, -0.08 * y, true);
    } else if (zoom) {
      events.grab();
      void controls.dollyTo(controls.distance * zoom, true);
    } else if (key === "r" || key === "R") events.reset();
    else if (key === "Enter" && target === stage.canvas) events.enter();
    else return;
    stage.move();
    event.preventDefault();
  };
  addEventListener("keydown", listener, { signal });
}
