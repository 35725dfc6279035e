// The panel: what is shown, and the controls for it. Knows no scene, only what it is told.
import { count, iconButton, make, newId } from "./dom";

export interface PanelEvents {
  threshold(value: number): void;
  frame(frame: number | null): void;
  pointSize(factor: number): void;
  cameras(shown: boolean): void;
  cameraSize(factor: number): void;
  look(index: number): void;
  level(level: boolean): void;
  light(light: boolean): void;
  save?(): void;
  /** It was opened or closed. */
  toggled(): void;
}

/** Steps of the confidence: a share of the points in 256ths. */
const LEVELS = 256;
const HELP: [string, string][] = [
  ["Turn", "drag; one finger; arrow keys"],
  ["Move", "right drag; Shift and drag; two fingers; Shift and arrow keys"],
  ["Zoom", "wheel; pinch; + and -"],
  ["Set pivot", "double click; double tap"],
  ["View from a camera", "click its photo; choose it above"],
  ["Reset the view", "R"],
  ["Leave a photo, end measuring", "Escape"],
];

export class Panel {
  readonly element: HTMLDetailsElement;
  private readonly counts = make("p", { class: "counts" });
  private readonly brief = make("span", { class: "brief" });
  private readonly confidence = make("input", { id: newId(), type: "range", min: 0, max: LEVELS - 1, step: 1, value: 0 });
  private readonly hidden = make("output", { for: this.confidence.id });
  private readonly frames = make("select", { id: newId() });
  private readonly eyes = make("select", { id: newId() });
  private readonly level = checkbox("Level horizon", true);
  private readonly light = checkbox("Light background", false);
  private readonly cameras = checkbox("Cameras", true);
  private readonly cameraSize = make("input", {
    type: "range",
    min: -2,
    max: 3,
    step: 0.25,
    value: 0,
    "aria-label": "Size of the cameras",
  });
  private readonly limited = make("p", { class: "note", hidden: true });
  private readonly flag = make("p", { class: "note", hidden: true });
  private readonly details = make("dl");
  private readonly heading: HTMLHeadingElement;
  private readonly rows: { confidence: HTMLElement; frames: HTMLElement; eyes: HTMLElement; cameras: HTMLElement };
  private readonly following = matchMedia("(prefers-color-scheme: light)");

  constructor(
    private readonly events: PanelEvents,
    level: 1 | 2,
  ) {
    this.heading = make(`h${level}`);
    const size = make("input", { id: newId(), type: "range", min: -2, max: 2, step: 0.1, value: 0 });
    size.addEventListener("input", () => events.pointSize(2 ** size.valueAsNumber));
    this.confidence.addEventListener("input", () => events.threshold(this.confidence.valueAsNumber));
    this.frames.addEventListener("change", () => events.frame(this.frames.value === "" ? null : Number(this.frames.value)));
    this.eyes.addEventListener("change", () => this.eyes.value !== "" && events.look(Number(this.eyes.value)));
    this.cameras.input.addEventListener("change", () => events.cameras(this.cameras.input.checked));
    this.cameraSize.addEventListener("input", () => events.cameraSize(2 ** this.cameraSize.valueAsNumber));
    this.level.input.addEventListener("change", () => events.level(this.level.input.checked));
    this.light.input.addEventListener("change", () => {
      this.following.removeEventListener("change", this.follow);
      events.light(this.light.input.checked);
    });
    this.following.addEventListener("change", this.follow);
    this.rows = {
      confidence: make("div", { class: "row", hidden: true }, [
        make("label", { for: this.confidence.id }, ["Confidence"]),
        this.hidden,
        this.confidence,
      ]),
      frames: chooser("Points of", this.frames, "photo"),
      eyes: chooser("View from", this.eyes, "camera"),
      cameras: make("div", { class: "row" }, [this.cameras.row, this.cameraSize]),
    };
    const save = events.save && make("button", { type: "button", class: "save" }, ["Save GLB"], { click: events.save });
    const body = make("div", { class: "body" }, [
      this.counts,
      this.rows.confidence,
      this.rows.frames,
      this.rows.eyes,
      this.rows.cameras,
      this.limited,
      make("div", { class: "row" }, [make("label", { for: size.id }, ["Point size"]), size]),
      make("div", { class: "row" }, [this.level.row, this.light.row]),
      save && make("p", {}, [save]),
      this.flag,
      make("details", { class: "about" }, [make("summary", {}, ["Details"]), this.details]),
      make("details", {}, [make("summary", {}, ["Controls"]), list(HELP)]),
    ]);
    this.element = make("details", { class: "panel" }, [make("summary", {}, [this.heading, this.brief]), body]);
    this.element.open = matchMedia("(min-width: 700px) and (min-height: 500px)").matches;
    this.element.addEventListener("toggle", () => events.toggled());
  }

  /** Leaves out what is of no use when nothing can be drawn. */
  withoutView(): void {
    this.element.classList.add("without-view");
    this.element.open = true;
  }

  /** How much of an element lies under the panel, from the left, in CSS pixels; 0 where it would be most of it. */
  covers(element: HTMLElement): number {
    const [panel, other] = [this.element.getBoundingClientRect(), element.getBoundingClientRect()];
    if (panel.top >= other.bottom || panel.height < other.height / 4) return 0;
    const covered = panel.right - other.left;
    return covered < other.width / 3 ? covered : 0;
  }

  /** The background follows the system until the user chooses. */
  private readonly follow = (): void => {
    this.light.input.checked = this.following.matches;
    this.events.light(this.following.matches);
  };

  /** Sets everything that depends on the scene. */
  describe(scene: {
    title: string;
    details: Record<string, string>;
    frames: [number, string][];
    cameras: string[];
    hasConfidence: boolean;
  }): void {
    this.heading.textContent = scene.title;
    this.details.replaceWith(this.fillDetails(scene.details));
    this.rows.confidence.hidden = !scene.hasConfidence;
    this.rows.frames.hidden = scene.frames.length < 2;
    this.rows.eyes.hidden = this.rows.cameras.hidden = scene.cameras.length === 0;
    this.frames.replaceChildren(option("", "all photos"), ...scene.frames.map(([frame, name]) => option(String(frame), name)));
    this.eyes.replaceChildren(option("", "no camera"), ...scene.cameras.map((name, i) => option(String(i), name)));
    this.follow();
  }

  private fillDetails(details: Record<string, string>): HTMLElement {
    this.details.replaceChildren(...list(Object.entries(details)).childNodes);
    return this.details;
  }

  /** Says how many points are shown, of how many. */
  tellCounts(shown: number, loaded: number, total: number | null, threshold: number): void {
    const points = loaded === 1 ? "point" : "points";
    this.brief.textContent = `${count(shown)} ${points}`;
    const thinned = total === null ? ", a part of the scene" : total > loaded ? `, of ${inWords(total)} in the scene` : "";
    const isShown = !this.element.classList.contains("without-view");
    this.counts.textContent = isShown
      ? `${count(shown)} of ${count(loaded)} ${points} shown${thinned}`
      : `${count(loaded)} ${points}`;
    this.confidence.value = String(threshold);
    const share = Math.round((100 * threshold) / LEVELS);
    const text = threshold ? `hides the least confident ${share} %` : "shows all";
    this.hidden.textContent = text;
    this.confidence.setAttribute("aria-valuetext", text);
  }

  setFrame(frame: number | null): void {
    this.frames.value = frame === null ? "" : String(frame);
  }

  setCamera(index: number | null): void {
    this.eyes.value = index === null ? "" : String(index);
    const none = this.eyes.options[0];
    if (none) none.disabled = index === null;
  }

  setLevel(level: boolean): void {
    this.level.input.checked = level;
  }

  /** Says a limit that applies, or nothing. */
  tellLimit(sentence: string): void {
    this.limited.textContent = sentence;
    this.limited.hidden = !sentence;
  }

  /** Says what the scale does, or nothing. */
  tellScale(sentence: string): void {
    this.flag.textContent = sentence;
    this.flag.hidden = !sentence;
  }

  dispose(): void {
    this.following.removeEventListener("change", this.follow);
  }
}

/** A label, a select, and buttons for the choice before and after. */
function chooser(label: string, select: HTMLSelectElement, what: string): HTMLElement {
  const step = (by: number) => {
    const { length } = select.options;
    // From either end it goes on at the other; the first choice does not count as a step.
    const at = select.selectedIndex + by;
    select.selectedIndex = at < 1 ? length - 1 : at >= length ? 1 : at;
    select.dispatchEvent(new Event("change"));
  };
  return make("div", { class: "row chooser" }, [
    make("label", { for: select.id }, [label]),
    iconButton("previous", `Previous ${what}`, () => step(-1)),
    select,
    iconButton("next", `Next ${what}`, () => step(1)),
  ]);
}

function checkbox(label: string, checked: boolean): { row: HTMLElement; input: HTMLInputElement } {
  const input = make("input", { id: newId(), type: "checkbox", checked });
  return { input, row: make("span", { class: "check" }, [input, make("label", { for: input.id }, [label])]) };
}

function option(value: string, text: string): HTMLOptionElement {
  return make("option", { value }, [text]);
}

function list(entries: [string, string][]): HTMLDListElement {
  return make(
    "dl",
    {},
    entries.flatMap(([name, text]) => [make("dt", {}, [name]), make("dd", {}, [text])]),
  );
}

function inWords(n: number): string {
  return n >= 1e6 ? `${(n / 1e6).toFixed(1)} million` : count(n);
}
