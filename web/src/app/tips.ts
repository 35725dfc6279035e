import { h } from "./dom";

/** Which pictures work well. */
export function tips(): HTMLElement {
  const texts = [
    "Neighboring pictures should show mostly the same: an overlap of 60 to 80 %.",
    "Walk around what you photograph. Do not only turn on the spot: without a step to the side there is no depth.",
    "Sharp and bright beats many: 10 to 60 photos are enough for a room. Of a video, take a slow walk.",
    "Keep things still. People who walk by, mirrors and glass leave ghosts.",
  ];
  return h("div", { class: "tips" }, h("h2", {}, "Which pictures work well"), h("ul", {}, ...texts.map((text) => h("li", {}, text))));
}
