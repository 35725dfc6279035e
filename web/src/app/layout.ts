// What stands around every page: the header, and the places for what is said to everybody.

import { fill, h, icon, setText } from "./dom";
import { userName } from "./session";

const toastPlace = h("div", { class: "toasts", role: "status" });

/** Says something for a few seconds. */
export function toast(text: string): void {
  const element = h("p", { class: "toast" }, text);
  toastPlace.append(element);
  setTimeout(() => element.remove(), 5000);
}

/** Makes the header and the place of pages. */
export function layout(): HTMLElement {
  const main = h("main", { id: "main" });
  const nav = h("nav", { "aria-label": "Main" });
  const header = h(
    "header",
    { class: "top" },
    h("a", { class: "skip", href: "#main" }, "Skip to content"),
    h("a", { class: "brand", href: "/" }, icon("cube"), h("span", {}, "VGGT")),
    nav,
  );
  const follow = () => {
    const user = userName();
    fill(
      nav,
      user !== null && h("a", { class: "button primary", href: "/new" }, icon("plus"), h("span", {}, "New scene")),
      user !== null && h("a", { class: "button plain", href: "/account", title: "Account" }, icon("user"), h("span", { class: "label" }, user)),
    );
    nav.hidden = user === null;
  };
  follow();
  document.addEventListener("vggt-user", follow);
  header.querySelector(".skip")!.addEventListener("click", (event) => {
    event.preventDefault();
    main.querySelector<HTMLElement>("h1")?.focus();
  });
  document.body.append(header, main, toastPlace);
  return main;
}

/** Makes a region that is read to those who do not see the page. */
export function liveRegion(): { element: HTMLElement; say(text: string): void } {
  const element = h("p", { class: "unseen", role: "status" });
  return { element, say: (text) => setText(element, text) };
}
