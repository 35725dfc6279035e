// Who is logged in, as far as this page knows: the cookie itself is hidden from scripts.

import { openDialog } from "./dialog";
import { h } from "./dom";
import { loginForm } from "./login_form";
import { navigate } from "./router";

/** Remembers the name of the user, so that a visit without a login begins at the login page and asks for nothing in vain. */
const KEY = "vggt.user";

/** The login that is being asked for. */
let waiting: Promise<void> | null = null;

export function userName(): string | null {
  return localStorage.getItem(KEY);
}

/** Notes that a user has logged in, or out with null. */
export function setUser(name: string | null): void {
  if (name === null) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, name);
  if (name !== null) waiting = null;
  document.dispatchEvent(new Event("vggt-user"));
}

/**
 * Asks for the login that has ended, above the page, so that nothing typed or chosen in it is lost. Returns once there is one. Where
 * there is nothing yet to lose, or another user logs in, the page is opened anew.
 */
export function loginAgain(): Promise<void> {
  waiting ??= ask();
  return waiting;
}

function ask(): Promise<void> {
  const before = userName();
  setUser(null);
  const never = new Promise<void>(() => {});
  if (document.body.dataset.used === undefined) {
    navigate(`/login?to=${encodeURIComponent(location.pathname + location.search)}`, { replace: true });
    return never;
  }
  return new Promise((resolve) => {
    const done = (name: string) => {
      dialog.dataset.answered = "";
      dialog.close();
      if (before !== null && name !== before) location.assign("/");
      else resolve();
    };
    const words = h("p", {}, "Your login has ended. Log in again to go on; what you have entered is kept.");
    const dialog = openDialog("Log in", words, loginForm(done, before ?? ""));
    dialog.addEventListener("close", () => {
      if (dialog.dataset.answered !== undefined) return;
      waiting = null;
      navigate("/login");
    });
  });
}
