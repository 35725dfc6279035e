// Elements without markup, so that no text is taken for it and the policy of the page is kept.

type Child = Node | string | null | undefined | false;
type Handlers = { [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };

/** A new element with attributes, listeners and children; false and undefined attributes are left out, true ones are empty. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | number | boolean | undefined> = {},
  children: Child[] = [],
  on: Handlers = {},
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child): child is Node | string => !!child || child === ""));
  for (const [type, listener] of Object.entries(on)) element.addEventListener(type, listener as EventListener);
  return element;
}

/** Lines of a 24 x 24 icon. */
const ICONS = {
  reset: "M4 11a8 8 0 1 1 2.3 6M4 5v6h6",
  measure: "M3 16 16 3l5 5L8 21zM7 12l2 2M10 9l2.5 2.5M13 6l2 2",
  picture: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.2 3.2 0 1 0 .01 0",
  full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  close: "M6 6l12 12M18 6L6 18",
} as const;
export type Icon = keyof typeof ICONS;

export function icon(name: Icon): SVGSVGElement {
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag)) as [
    SVGSVGElement,
    SVGPathElement,
  ];
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: "20", height: "20", "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon alone, whose label is told to screen readers and shown when the pointer rests on it. */
export function iconButton(
  name: Icon,
  label: string,
  click: () => void,
  attributes: Record<string, string | boolean> = {},
): HTMLButtonElement {
  return make("button", { type: "button", class: "icon", "aria-label": label, title: label, ...attributes }, [icon(name)], {
    click,
  });
}

let ids = 0;
/** An id that no other element has. */
export function newId(): string {
  ids += 1;
  return `viewer-${ids}`;
}

export function count(n: number): string {
  return n.toLocaleString("en");
}

/** Saves bytes as a file of this name. */
export function saveFile(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  // Long after the browser began to save.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
