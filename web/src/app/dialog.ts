// Modal dialogs, which are the browser's own: it keeps the focus inside, closes them with Escape, and gives the focus back.

import { button, h, newId, type Child } from "./dom";

/** Opens a dialog with a heading. It leaves the document when it is closed. */
export function openDialog(title: string, ...children: Child[]): HTMLDialogElement {
  const id = newId();
  const close = h("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "\u00d7");
  // Takes the focus where no field does: the button that closes it would be an odd beginning.
  const heading = h("h2", { id, tabindex: -1, autofocus: true }, title);
  const dialog = h("dialog", { "aria-labelledby": id }, h("header", {}, heading, close), ...children);
  if (dialog.querySelectorAll("[autofocus]").length > 1) heading.removeAttribute("autofocus");
  dialog.addEventListener("close", () => dialog.remove());
  // A click beside it hits the dialog itself, one inside hits what is in it.
  dialog.addEventListener("mousedown", (event) => {
    const box = dialog.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (event.target === dialog && !inside) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks before something that cannot be taken back. */
export function confirmed(title: string, text: string, action: string): Promise<boolean> {
  return new Promise((resolve) => {
    let answer = false;
    const yes = button(null, action, () => ((answer = true), dialog.close()), { class: "danger" });
    const no = button(null, "Keep", () => dialog.close(), { autofocus: true });
    const dialog = openDialog(title, h("p", {}, text), h("footer", {}, no, yes));
    dialog.addEventListener("close", () => resolve(answer));
  });
}

/** Asks for one line of text; null: nothing was changed. */
export function asked(title: string, label: string, value: string, action: string, maxLength: number): Promise<string | null> {
  return new Promise((resolve) => {
    let answer: string | null = null;
    const id = newId();
    const input = h("input", { id, value, maxlength: maxLength, required: true, autofocus: true, autocomplete: "off" });
    const submit = (event: Event) => {
      event.preventDefault();
      answer = input.value.trim() || null;
      dialog.close();
    };
    const footer = h("footer", {}, button(null, "Cancel", () => dialog.close()), h("button", { class: "primary" }, action));
    const form = h("form", { onsubmit: submit }, h("div", { class: "field" }, h("label", { for: id }, label), input), footer);
    const dialog = openDialog(title, form);
    input.select();
    dialog.addEventListener("close", () => resolve(answer === value ? null : answer));
  });
}
