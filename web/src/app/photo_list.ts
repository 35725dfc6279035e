// The chosen photos in their order: moved by dragging or with buttons, removed, sorted.

import { fill, h, iconButton } from "./dom";
import { byName, byTime, type Item } from "./files";
import { thumbnail } from "./thumbnail";

export interface PhotoList {
  element: HTMLElement;
  /** Shows other items, keeping the pictures of those that stay. */
  set(items: Item[]): void;
}

/** Makes the list; `change` is told the items in their new order, and `say` what a screen reader is to hear. */
export function photoList(change: (items: Item[]) => void, say: (text: string) => void): PhotoList {
  let items: Item[] = [];
  let dragged: Item | null = null;
  const tiles = new Map<number, HTMLLIElement>();
  const list = h("ol", { class: "photos", "aria-label": "Chosen files, in order" });

  const move = (from: number, to: number) => {
    if (from === to || to < 0 || to >= items.length) return;
    const moved = [...items];
    const [item] = moved.splice(from, 1);
    moved.splice(to, 0, item!);
    change(moved);
    say(`${item!.file.name} is number ${to + 1} of ${items.length} now.`);
  };
  const indexOf = (item: Item) => items.indexOf(item);

  const step = (item: Item, by: number, button: HTMLButtonElement) => {
    move(indexOf(item), indexOf(item) + by);
    button.scrollIntoView({ block: "nearest" });
    button.focus();
  };
  const remove = (item: Item) => {
    const at = indexOf(item);
    change(items.filter((other) => other !== item));
    say(`${item.file.name} was removed.`);
    const next = items[Math.min(at, items.length - 1)];
    tiles.get(next?.id ?? -1)?.querySelector<HTMLButtonElement>("button.remove")?.focus();
  };

  const tileOf = (item: Item): HTMLLIElement => {
    const known = tiles.get(item.id);
    if (known) return known;
    const name = item.file.name;
    const earlier = iconButton("left", `Move ${name} earlier`, () => step(item, -1, earlier));
    const later = iconButton("right", `Move ${name} later`, () => step(item, 1, later));
    const away = iconButton("close", `Remove ${name}`, () => remove(item));
    away.classList.add("remove");
    const number = h("span", { class: "number" });
    const caption = h("span", { class: "name", title: name }, name);
    const li = h("li", { draggable: "true" }, thumbnail(item), number, caption, h("div", { class: "row" }, earlier, later, away));
    li.addEventListener("dragstart", (event) => {
      dragged = item;
      event.dataTransfer?.setData("text/plain", name);
      li.classList.add("dragged");
    });
    li.addEventListener("dragend", () => {
      dragged = null;
      li.classList.remove("dragged");
    });
    li.addEventListener("dragover", (event) => {
      if (!dragged) return;
      event.preventDefault();
      event.stopPropagation();
      // The order changes while the photo is held, as it would on a table.
      const [from, to] = [indexOf(dragged), indexOf(item)];
      const box = li.getBoundingClientRect();
      const past = event.clientX > box.left + box.width / 2;
      if ((to > from && past) || (to < from && !past)) move(from, to);
    });
    li.addEventListener("drop", (event) => {
      if (dragged) event.preventDefault();
    });
    tiles.set(item.id, li);
    return li;
  };

  const sortBy = (order: (a: Item, b: Item) => number, told: string) => {
    change([...items].sort(order));
    say(told);
  };
  const sorts = h(
    "div",
    { class: "row sorts" },
    h("button", { type: "button", onclick: () => sortBy(byName, "Sorted by name.") }, "Sort by name"),
    h("button", { type: "button", onclick: () => sortBy(byTime, "Sorted by time.") }, "Sort by time"),
    h("button", { type: "button", onclick: () => sortBy((a, b) => indexOf(b) - indexOf(a), "Order reversed.") }, "Reverse"),
  );

  const set = (next: Item[]) => {
    items = next;
    for (const id of [...tiles.keys()]) if (!items.some((item) => item.id === id)) tiles.delete(id);
    const wanted = items.map(tileOf);
    // A tile that is dragged must not leave the document, so only what is elsewhere is moved.
    for (const child of [...list.children]) if (!wanted.includes(child as HTMLLIElement)) child.remove();
    wanted.forEach((li, at) => {
      if (list.children[at] !== li) list.insertBefore(li, list.children[at] ?? null);
      const [earlier, later] = li.querySelectorAll<HTMLButtonElement>(".row button");
      fill(li.querySelector(".number")!, at + 1);
      // Not `disabled`, which would take the focus away from who moves it there step by step.
      earlier!.setAttribute("aria-disabled", String(at === 0));
      later!.setAttribute("aria-disabled", String(at === wanted.length - 1));
    });
    sorts.hidden = items.length < 2;
  };
  set([]);
  return { element: h("div", {}, sorts, list), set };
}
