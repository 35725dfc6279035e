// Which page an address stands for. Pages change without a load; the browser's history, titles and focus follow.

/** A page: its element is put into <main>. */
export interface Page {
  title: string;
  element: HTMLElement;
  /** What gets the focus instead of the heading. */
  focus?: HTMLElement;
  /** Fills the window, without scrolling. */
  full?: boolean;
  /** Whether it is shown without a login. */
  open?: boolean;
}

/** Makes a page; the signal tells when it is left. */
export type Route = (context: { params: string[]; url: URL; signal: AbortSignal }) => Page;

let routes: [RegExp, Route][] = [];
let main: HTMLElement;
let left = new AbortController();
let shown = "";

/** Shows another page of this app. */
export function navigate(path: string, { replace = false } = {}): void {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  show(true);
}

/** Sets the title of the window. */
export function setTitle(title: string): void {
  document.title = title ? `${title} \u2013 VGGT` : "VGGT";
}

/** Begins to show pages in an element; the last route takes every path. */
export function startRouter(all: [RegExp, Route][], into: HTMLElement): void {
  routes = all;
  main = into;
  addEventListener("popstate", () => {
    // Not for a change behind the `#`, where a viewer keeps its view.
    if (location.pathname + location.search !== shown) show(true);
  });
  document.addEventListener("click", (event) => {
    const link = (event.target as Element).closest?.("a");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey && !event.defaultPrevented;
    if (!link || !plain || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  });
  show(false);
}

function show(moved: boolean): void {
  left.abort();
  left = new AbortController();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  const url = new URL(location.href);
  shown = url.pathname + url.search;
  const [route, params] = find(url.pathname);
  const page = route({ params, url, signal: left.signal });
  document.body.classList.toggle("full", page.full ?? false);
  main.replaceChildren(page.element);
  setTitle(page.title);
  if (moved) scrollTo(0, 0);
  const heading = page.element.querySelector("h1");
  if (heading) heading.tabIndex = -1;
  const focus = page.focus ?? (moved ? heading : null);
  focus?.focus({ preventScroll: true });
}

function find(path: string): [Route, string[]] {
  for (const [pattern, route] of routes) {
    const match = path.match(pattern);
    if (match) return [route, match.slice(1).map(decodeURIComponent)];
  }
  throw new Error(`no route takes ${path}`);
}
