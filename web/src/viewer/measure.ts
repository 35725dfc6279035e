// The length between two points, and the scale that follows when somebody knows it.
import { Vector3 } from "three";
import { make, newId } from "./dom";
import { pickPoint } from "./pick";
import type { Stage } from "./stage";

/** How near to a point a click has to be, in CSS pixels, with a mouse and with a finger. */
const NEAR = { mouse: 14, finger: 28 };

export interface MeasureEvents {
  /** The user told how long the line is, or took that back. */
  scaled(metersPerUnit: number | null): void;
  tell(sentence: string): void;
  changed(): void;
}

export class Measure {
  /** Line, ends and label, over the canvas. */
  readonly overlay = make("div", { class: "overlay" });
  /** What the bar at the bottom has while one measures. */
  readonly bar = make("form", { class: "bar", "aria-label": "Measure", hidden: true });
  active = false;
  metersPerUnit: number | null = null;
  /** Ends in world space. */
  private ends: Vector3[] = [];
  private readonly svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  private readonly line = this.svg.appendChild(document.createElementNS(this.svg.namespaceURI, "path"));
  private readonly label = make("span", { class: "length", hidden: true });
  private readonly cross = make("span", { class: "cross", hidden: true, "aria-hidden": "true" });
  private readonly words = make("p", { role: "status" });
  private readonly meters = make("input", { id: newId(), type: "number", min: "0", step: "any", inputmode: "decimal" });
  private readonly known = make("p", { hidden: true }, [
    make("label", { for: this.meters.id }, ["This length is"]),
    this.meters,
    " m",
    make("button", { type: "submit" }, ["Set scale"]),
  ]);
  private readonly clearButton = make("button", { type: "button", hidden: true }, ["Clear"], { click: () => this.clear() });
  private readonly forget = make("button", { type: "button", hidden: true }, ["Forget scale"], {
    click: () => this.events.scaled(null),
  });

  constructor(
    private readonly stage: Stage,
    private readonly events: MeasureEvents,
  ) {
    this.svg.setAttribute("aria-hidden", "true");
    this.overlay.append(this.svg as unknown as HTMLElement, this.label, this.cross);
    const buttons = make("p", {}, [
      this.clearButton,
      this.forget,
      make("button", { type: "button" }, ["Done"], { click: () => this.toggle(false) }),
    ]);
    this.bar.append(this.words, this.known, buttons);
    this.bar.addEventListener("submit", (event) => {
      event.preventDefault();
      const [meters, length] = [this.meters.valueAsNumber, this.length];
      if (!(meters > 0) || !length) return this.events.tell("Type a length above 0, in meters.");
      this.events.scaled(meters / length);
    });
  }

  /** Length of the line in the scene's unit; null without one. */
  get length(): number | null {
    const [a, b] = this.ends;
    return a && b ? a.distanceTo(b) : null;
  }

  toggle(active: boolean): void {
    this.active = active;
    if (!active) this.ends = [];
    this.show();
    this.events.changed();
  }

  clear(): void {
    this.ends = [];
    this.show();
    this.events.changed();
  }

  setScale(metersPerUnit: number | null): void {
    this.metersPerUnit = metersPerUnit;
    this.show();
  }

  /** A click or tap; the third one begins a new line. */
  pick(x: number, y: number, finger: boolean): void {
    const hit = pickPoint(this.stage, x, y, finger ? NEAR.finger : NEAR.mouse);
    if (!hit) {
      this.words.textContent = "There is no point here. Choose a place with points.";
      return;
    }
    if (this.ends.length > 1) this.ends = [];
    // What was typed belongs to another length.
    this.meters.value = "";
    this.ends.push(hit.place);
    this.show();
    this.events.changed();
  }

  /** The point in the middle of the view, for the keyboard. */
  pickMiddle(): void {
    this.pick(this.stage.width / 2, this.stage.height / 2, true);
  }

  /** A length in words. */
  lengthText(length: number): string {
    const n = this.metersPerUnit === null ? length : length * this.metersPerUnit;
    const digits = n >= 100 ? n.toFixed(1) : n >= 1 ? n.toFixed(2) : n.toPrecision(3);
    return this.metersPerUnit === null ? `${digits} units` : `${digits} m`;
  }

  private show(): void {
    const { length } = this;
    this.bar.hidden = !this.active;
    this.cross.hidden = !this.active;
    const touch = matchMedia("(pointer: coarse)").matches;
    const how = touch ? "tap it." : "click it. Or turn until it is in the middle, and press Enter.";
    const steps = [`Choose the first point: ${how}`, "Choose the second point."];
    this.clearButton.hidden = this.ends.length === 0;
    this.words.textContent = length === null ? steps[this.ends.length]! : `Length: ${this.lengthText(length)}`;
    this.known.hidden = length === null;
    this.forget.hidden = this.metersPerUnit === null;
    this.label.textContent = length === null ? "" : this.lengthText(length);
    this.update();
  }

  /** Puts line and label where the ends are now. */
  update(): void {
    const at = this.places();
    this.line.setAttribute(
      "d",
      at.length ? `${pathOf(at)}${at.map(({ x, y }) => `M${x - 5} ${y}h10M${x} ${y - 5}v10`).join("")}` : "",
    );
    const [a, b] = at;
    this.label.hidden = !(this.active && a && b);
    if (a && b) this.label.style.transform = `translate(${(a.x + b.x) / 2}px, ${(a.y + b.y) / 2}px) translate(-50%, -140%)`;
  }

  /** The ends on the canvas; none when one is behind the eye. */
  private places(): { x: number; y: number }[] {
    const at = this.ends.map((end) => this.stage.project(end.clone().applyMatrix4(this.stage.world.matrix)));
    return at.every((place) => place !== null) ? at : [];
  }

  /** Draws line and label into a picture. */
  paint(context: CanvasRenderingContext2D, ratio: number): void {
    const at = this.places().map(({ x, y }) => ({ x: x * ratio, y: y * ratio }));
    const [a, b] = at;
    if (!a || !b) return;
    for (const [color, width] of [
      ["#000", 5],
      ["#ffd34d", 2.5],
    ] as const) {
      context.strokeStyle = color;
      context.lineWidth = width * ratio;
      context.stroke(new Path2D(pathOf(at)));
    }
    context.font = `600 ${15 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.lineWidth = 4 * ratio;
    context.strokeStyle = "#000";
    const place = [(a.x + b.x) / 2, (a.y + b.y) / 2 - 10 * ratio] as const;
    context.strokeText(this.label.textContent ?? "", ...place);
    context.fillStyle = "#fff";
    context.fillText(this.label.textContent ?? "", ...place);
  }
}

function pathOf(places: { x: number; y: number }[]): string {
  return places.map(({ x, y }, i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}
