import { h, icon } from "../dom";
import { loginForm } from "../login_form";
import { navigate, type Route } from "../router";

/** The login, and then back to where one wanted to go. */
export const login: Route = ({ url }) => {
  const to = url.searchParams.get("to") ?? "/";
  // Only a path of this server: "//other.example" and "/\other.example" are addresses of others.
  const back = /^\/(?![/\\])/.test(to) ? to : "/";
  const form = loginForm(() => navigate(back, { replace: true }));
  const element = h(
    "div",
    { class: "login-page" },
    h("div", { class: "card pad" }, icon("cube"), h("h1", {}, "Log in"), h("p", { class: "muted" }, "Photos or a video in, a 3D scene out."), form),
  );
  return { title: "Log in", element, focus: form.querySelector("input")! };
};
