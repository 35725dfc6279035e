// The options of a reconstruction in plain words. Each choice says what it does; the better one is the default and says so.

import type { JobOptions, Service } from "./api";
import { field, h, newId } from "./dom";

/** What is reconstructed. With `rerun`, only what needs no network is offered. */
export type Kind = "photos" | "video" | "rerun";

const POINTS_OF_DEPTH = "Depthmap and Camera";
const POINTS_DIRECTLY = "Pointmap Regression";

/** Percent of points to drop: where the viewer of VGGT's authors starts, and what the demo's weights need (docs/guide.md). */
const DROPPED = { authors: 25, demo: 10 };

/** Frames of a walk through a room: enough for neighbors to overlap (docs/guide.md, "Keyframes"). */
const KEYFRAMES = 60;
const FPS = 1;

/** The options that give the better result. */
export function betterOptions(service: Service): JobOptions {
  return {
    prediction_mode: POINTS_OF_DEPTH,
    conf_thres: service.demo_weights ? DROPPED.demo : DROPPED.authors,
    fps: FPS,
    keyframes: KEYFRAMES,
    mask_sky: false,
    mask_black_bg: false,
    mask_white_bg: false,
    drop_edges: false,
    drop_outliers: false,
    refine: false,
    show_cam: false,
    max_points: null,
    format: "glb",
    attention: "auto",
    anchors: null,
    drop_unrelated: false,
  };
}

export interface OptionsForm {
  element: HTMLElement;
  setKind(kind: Kind): void;
  /** The options as they are chosen; what belongs to another kind is not among them. */
  value(): JobOptions;
}

/** Makes the fields; `change` is told of every choice, `wanted` are the choices at the beginning. */
export function optionsForm(service: Service, kind: Kind, wanted: JobOptions, change: (options: JobOptions) => void): OptionsForm {
  const start = { ...betterOptions(service), ...wanted };
  const isMode = (mode: string) => (start.prediction_mode === POINTS_DIRECTLY) === (mode === POINTS_DIRECTLY);

  const depth = radio("mode", isMode(POINTS_OF_DEPTH), "Depth and cameras", "recommended, sharper");
  const direct = radio("mode", isMode(POINTS_DIRECTLY), "Point map", "points directly from the network; smoother, softer edges");

  const drop = number(start.conf_thres ?? 0, 0, 95, "any");
  const keyframes = number(start.keyframes ?? KEYFRAMES, 2, service.max_images, "1");
  const fps = number(start.fps ?? FPS, 0.01, 120, "any");
  const sharpest = radio("frames", start.keyframes !== null, "Sharpest, most different frames", "recommended for walks: blur and standing still are left out");
  const rate = radio("frames", start.keyframes === null, "Frames per second", "for a tripod or a turntable, where every moment counts");

  const sky = check(start.mask_sky, "Remove the sky", "finds it with a second, small network");
  const black = check(start.mask_black_bg, "Remove black background", "drops points that are almost black");
  const white = check(start.mask_white_bg, "Remove white background", "drops points that are almost white");
  const edges = check(start.drop_edges, "Remove points at edges", "drops points that float between a thing and what is behind it");
  const outliers = check(start.drop_outliers, "Remove single points", "drops points that stand alone; the far background gets thinner too");
  const refine = check(start.refine, "Refine the cameras", "moves them until the same corners agree in several pictures; takes up to some minutes");
  const cameras = check(start.show_cam, "Draw the cameras into the GLB", "small cones in the exported file; the viewer always shows cameras");
  const unrelated = check(start.drop_unrelated, "Leave out unrelated pictures", "those that seem to show something else than the first; otherwise you are only told");

  const most = number(start.max_points ?? "", 1000, 20_000_000, "1");
  most.placeholder = "all";
  most.required = false;
  const format = select(start.format ?? "glb", [["glb", "Exact (32-bit positions)"], ["glb_quantized", "Smaller file (16-bit positions)"]]);
  const attention = select(start.attention ?? "auto", [
    ["auto", "Automatic (recommended)"],
    ["dense", "All to all: most accurate, for few pictures"],
    ["anchors", "Anchors: for hundreds of pictures, with a preview"],
  ]);
  const anchors = number(start.anchors ?? "", 2, 500, "1");
  anchors.placeholder = "40";
  anchors.required = false;
  const anchorsField = field("Number of anchors", anchors, "More of them help where a warning says that they do not cover the capture.");

  const ofVideo = h(
    "fieldset",
    {},
    h("legend", {}, "Frames of the video"),
    sharpest.element,
    indented(field("How many", keyframes, "40 to 100 for a room.")),
    rate.element,
    indented(field("Frames per second", fps)),
  );
  const network = h(
    "div",
    { class: "stack" },
    field("Attention", attention, "Which pictures the network compares with each other."),
    anchorsField,
    unrelated.element,
  );
  const element = h(
    "div",
    { class: "options stack" },
    ofVideo,
    h("fieldset", {}, h("legend", {}, "Geometry"), depth.element, direct.element, refine.element),
    field("Drop the least confident points (%)", drop, "More gives a cleaner scene with more holes. The viewer can hide more later, but not bring dropped ones back."),
    h("fieldset", {}, h("legend", {}, "Background"), service.sky && sky.element, black.element, white.element),
    h("fieldset", {}, h("legend", {}, "Floating points"), edges.element, outliers.element),
    h(
      "details",
      {},
      h("summary", {}, "More options"),
      h("div", { class: "stack" }, network, field("Most points", most, "Taken evenly. Empty keeps all, up to 20 million."), field("GLB", format), cameras.element),
    ),
  );

  const value = (): JobOptions => {
    const options: JobOptions = {
      prediction_mode: depth.input.checked ? POINTS_OF_DEPTH : POINTS_DIRECTLY,
      conf_thres: drop.valueAsNumber || 0,
      mask_black_bg: black.input.checked,
      mask_white_bg: white.input.checked,
      drop_edges: edges.input.checked,
      drop_outliers: outliers.input.checked,
      refine: refine.input.checked,
      show_cam: cameras.input.checked,
      max_points: numberOf(most),
      format: format.value,
    };
    if (service.sky) options.mask_sky = sky.input.checked;
    if (kind === "rerun") return options;
    options.attention = attention.value;
    options.drop_unrelated = unrelated.input.checked;
    if (attention.value !== "dense") options.anchors = numberOf(anchors);
    if (kind === "video") {
      options.keyframes = sharpest.input.checked ? (numberOf(keyframes) ?? KEYFRAMES) : null;
      if (rate.input.checked) options.fps = numberOf(fps) ?? FPS;
    }
    return options;
  };
  const follow = () => {
    ofVideo.hidden = kind !== "video";
    network.hidden = kind === "rerun";
    anchorsField.hidden = attention.value === "dense";
    keyframes.disabled = kind !== "video" || !sharpest.input.checked;
    fps.disabled = kind !== "video" || !rate.input.checked;
  };
  element.addEventListener("input", () => {
    follow();
    change(value());
  });
  // Else a wrong value in there would only stop the form.
  element.addEventListener("invalid", (event) => (event.target as Element).closest("details")?.setAttribute("open", ""), true);
  follow();
  return {
    element,
    value,
    setKind(next) {
      kind = next;
      follow();
    },
  };
}

interface Choice {
  element: HTMLElement;
  input: HTMLInputElement;
}

/** Radio buttons of one form belong together by their name, which no other form may have. */
let forms = 0;
let lastGroup = "";

function radio(group: string, checked: boolean, label: string, hint: string): Choice {
  if (group !== lastGroup) forms += 1;
  lastGroup = group;
  return choice(h("input", { type: "radio", name: `${group}${forms}`, checked }), label, hint);
}

function check(checked: boolean | undefined, label: string, hint: string): Choice {
  return choice(h("input", { type: "checkbox", checked }), label, hint);
}

function choice(input: HTMLInputElement, label: string, hint: string): Choice {
  const id = newId();
  input.setAttribute("aria-describedby", id);
  return { input, element: h("label", { class: "choice" }, input, h("span", {}, label, h("small", { id }, hint))) };
}

function number(value: number | string, min: number, max: number, step: string): HTMLInputElement {
  return h("input", { type: "number", value, min, max, step, required: true, inputmode: step === "1" ? "numeric" : "decimal" });
}

function select(value: string, choices: [string, string][]): HTMLSelectElement {
  const element = h("select", {}, ...choices.map(([value, text]) => h("option", { value }, text)));
  element.value = value;
  return element;
}

const indented = (element: HTMLElement) => {
  element.classList.add("indented");
  return element;
};

const numberOf = (input: HTMLInputElement) => (input.value === "" ? null : input.valueAsNumber);
