// What is shown once, to be copied, and for how long it holds.

import { button, h } from "./dom";
import { toast } from "./layout";

/** Makes a field with a text and a button that copies it. */
export function copyable(label: string, text: string): HTMLElement {
  const input = h("input", { value: text, readonly: true, "aria-label": label, onfocus: () => input.select() });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast("Copied.");
    } catch {
      // Without https there is no clipboard for scripts.
      input.select();
      if (document.execCommand("copy")) toast("Copied.");
      else toast("Copy the selected text by hand.");
    }
  };
  return h("div", { class: "copyable" }, input, button("copy", "Copy", () => void copy(), { class: "primary" }));
}

/** Makes a choice of days, or of no end. */
export function expirySelect(days: number[], never: string): { element: HTMLSelectElement; days(): number | null } {
  const text = (days: number) => (days === 365 ? "In a year" : days === 1 ? "In a day" : `In ${days} days`);
  const element = h("select", {}, ...days.map((count) => h("option", { value: count }, text(count))), h("option", { value: "" }, never));
  return { element, days: () => (element.value === "" ? null : Number(element.value)) };
}
