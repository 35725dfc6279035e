// The bar at the bottom while one looks out of a camera.
import type { CameraView, Layer } from "./camera_view";
import { iconButton, make, newId } from "./dom";

const NAMES: Record<Layer, string> = { photo: "Photo", depth: "Depth", off: "Points only" };

export class CameraBar {
  readonly element = make("div", { class: "bar", role: "group", "aria-label": "Camera", hidden: true });
  private readonly title = make("span", { class: "name", role: "status" });
  private readonly layers = make("span", { class: "layers", role: "radiogroup", "aria-label": "Shown over the points" });
  private readonly opacity = make("input", { id: newId(), type: "range", min: 0, max: 100, step: 1 });
  private readonly opacityRow = make("span", { class: "opacity" }, [
    make("label", { for: this.opacity.id }, ["Opacity"]),
    this.opacity,
  ]);
  private readonly name = newId();

  constructor(
    private readonly view: CameraView,
    step: (by: number) => void,
  ) {
    this.opacity.value = String(100 * view.opacity);
    this.opacity.addEventListener("input", () => view.setOpacity(this.opacity.valueAsNumber / 100));
    this.element.append(
      make("p", {}, [
        iconButton("previous", "Previous camera", () => step(-1)),
        this.title,
        iconButton("next", "Next camera", () => step(1)),
        make("button", { type: "button", class: "leave" }, ["Leave"], { click: () => view.leave() }),
      ]),
      make("p", {}, [this.layers, this.opacityRow]),
    );
  }

  update(names: string[]): void {
    const { current, layer } = this.view;
    this.element.hidden = current === null;
    if (current === null) return;
    const title = `${current + 1} of ${names.length}: ${names[current]}`;
    if (this.title.textContent !== title) this.title.textContent = title;
    const layers = this.view.layers();
    const shown = layers.includes(layer) ? layer : "off";
    const focused = this.layers.contains(document.activeElement);
    this.layers.replaceChildren(
      ...layers.map((value) => {
        const input = make("input", { id: newId(), type: "radio", name: this.name, value, checked: value === shown });
        input.addEventListener("change", () => this.view.setLayer(value));
        return make("span", { class: "check" }, [input, make("label", { for: input.id }, [NAMES[value]])]);
      }),
    );
    if (focused) this.layers.querySelector<HTMLInputElement>("input:checked")?.focus();
    this.layers.hidden = layers.length < 2;
    this.opacityRow.hidden = shown === "off";
  }
}
