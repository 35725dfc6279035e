// What one does with the view as a whole: first view, measuring, picture, full screen.
import { iconButton, make, saveFile } from "./dom";
import type { Stage } from "./stage";

export interface ToolbarEvents {
  reset(): void;
  measure(): void;
  picture(): void;
  tell(sentence: string): void;
}

export class Toolbar {
  readonly element: HTMLElement;
  private readonly measure: HTMLButtonElement;

  /** `root` is what fills the screen. */
  constructor(root: HTMLElement, events: ToolbarEvents) {
    this.measure = iconButton("measure", "Measure", events.measure, { "aria-pressed": "false" });
    const full = iconButton("full", "Full screen", () => {
      if (document.fullscreenElement) void document.exitFullscreen();
      else void root.requestFullscreen().catch(() => events.tell("This browser allows no full screen here."));
    });
    // Phones by Apple have none.
    full.hidden = !document.fullscreenEnabled;
    const buttons = [
      iconButton("reset", "Reset view", events.reset),
      this.measure,
      iconButton("picture", "Save a picture of the view", events.picture),
      full,
    ];
    this.element = make("div", { class: "toolbar", role: "group", "aria-label": "View" }, buttons);
  }

  setMeasuring(active: boolean): void {
    this.measure.setAttribute("aria-pressed", String(active));
  }
}

/** Saves the view as PNG; `paint` adds what lies over the canvas, in pixels of the picture. */
export function savePicture(
  stage: Stage,
  background: string,
  name: string,
  paint: (context: CanvasRenderingContext2D, ratio: number) => void,
  tell: (sentence: string) => void,
): void {
  const { canvas } = stage;
  stage.draw(Infinity);
  const picture = make("canvas", { width: canvas.width, height: canvas.height });
  const context = picture.getContext("2d");
  if (!context) return;
  context.fillStyle = background;
  context.fillRect(0, 0, picture.width, picture.height);
  context.drawImage(canvas, 0, 0);
  paint(context, canvas.width / stage.width);
  picture.toBlob((blob) => {
    if (blob) saveFile(blob, name);
    else tell("This browser cannot save the picture.");
  });
}
