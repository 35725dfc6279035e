// Name and password, on the login page and in the dialog of a login that has ended.

import { api, messageOf } from "./api";
import { field, h, setText } from "./dom";
import { setUser } from "./session";

/** Makes the form; `done` is told the name of who has logged in. */
export function loginForm(done: (username: string) => void, username = ""): HTMLFormElement {
  const name = h("input", {
    name: "username", value: username, required: true, autocomplete: "username", autocapitalize: "none", spellcheck: "false",
    autofocus: username === "",
  });
  const password = h("input", { name: "password", type: "password", required: true, autocomplete: "current-password", autofocus: username !== "" });
  const alert = h("p", { class: "error", role: "alert" });
  const submit = h("button", { class: "primary wide" }, "Log in");

  const send = async (event: Event) => {
    event.preventDefault();
    submit.disabled = true;
    setText(alert, "");
    try {
      const session = await api.logIn(name.value, password.value);
      setUser(session.username);
      done(session.username);
    } catch (e) {
      setText(alert, messageOf(e));
      password.select();
    } finally {
      submit.disabled = false;
    }
  };
  return h("form", { class: "login", onsubmit: send }, field("User name", name), field("Password", password), alert, submit);
}
