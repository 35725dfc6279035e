// What clicks, double clicks and keys mean.
import type { CameraView } from "./camera_view";
import type { Frusta } from "./frusta";
import type { HandEvents } from "./hands";
import type { Measure } from "./measure";
import { pickPoint } from "./pick";
import type { Stage } from "./stage";
import type { Standpoint } from "./standpoint";

/** So near to a point a double click has to be, in CSS pixels. */
const PIVOT = 24;
/** Points so near to a click, and before a camera by this part of its distance, hide it. */
const HIDING = 3;
const BEFORE = 0.02;
/** With more points it is not looked whether some hide the camera on which the pointer rests. */
const MOST_AT_HAND = 3_000_000;

export interface Parts {
  stage: Stage;
  standpoint: Standpoint;
  cameraView: CameraView;
  measure: Measure;
  frusta(): Frusta | null;
  /** Names of the cameras. */
  names(): string[];
  lookOutOf(index: number): void;
  reset(): void;
}

export function gesturesOf({ stage, standpoint, cameraView, measure, frusta, names, lookOutOf, reset }: Parts): HandEvents {
  /** The camera under x and y, unless points hide it. */
  const cameraAt = (x: number, y: number, exact: boolean): number | null => {
    const hit = cameraView.current === null ? frusta()?.at(stage, x, y) : null;
    if (!hit) return null;
    const point = exact ? pickPoint(stage, x, y, HIDING) : null;
    return point && point.depth < (1 - BEFORE) * hit.depth ? null : hit.index;
  };
  return {
    click(x, y, finger) {
      if (measure.active) return measure.pick(x, y, finger);
      const camera = cameraAt(x, y, true);
      if (camera !== null) lookOutOf(camera);
    },
    doubleClick(x, y) {
      const hit = measure.active ? null : pickPoint(stage, x, y, PIVOT);
      if (hit) standpoint.center(hit.place, hit.depth);
    },
    hover(x, y) {
      const few = (stage.cloud?.store.count ?? 0) <= MOST_AT_HAND;
      const camera = measure.active ? null : cameraAt(x, y, few);
      stage.canvas.classList.toggle("over", camera !== null);
      stage.canvas.title = camera === null ? "" : names()[camera]!;
    },
    grab() {
      standpoint.touched = true;
      if (cameraView.current !== null) cameraView.stay();
    },
    reset,
    escape() {
      if (cameraView.current !== null) cameraView.leave();
      else if (measure.active) measure.toggle(false);
    },
    enter() {
      if (measure.active) measure.pickMiddle();
    },
  };
}
