import { ApiError, api, isAbort, messageOf } from "../api";
import { h, setText } from "../dom";
import { date } from "../format";
import { setTitle, type Route } from "../router";
import { sceneView } from "../scene/view";

/** A scene that somebody has shared, without a login. */
export const shared: Route = ({ params, signal }) => {
  const secret = params[0] ?? "";
  const heading = h("h1", {}, "Shared scene");
  const until = h("p", { class: "muted" });
  const place = h("div", { class: "panel" });
  const element = h("div", { class: "job", "data-kind": "result" }, h("div", { class: "job-head" }, heading, until), place);
  const view = sceneView(signal, {});

  const open = async () => {
    const scene = await api.shared(secret, signal);
    setText(heading, scene.name);
    setTitle(scene.name);
    setText(until, scene.expires_at ? `Shared until ${date(scene.expires_at)}` : "");
    place.replaceChildren(view.element);
    await view.fetch(`/s/${secret}`, scene.name);
  };
  open().catch((e) => {
    if (isAbort(e) || signal.aborted) return;
    const gone = e instanceof ApiError && e.status === 404;
    const text = gone ? "This link has expired or was removed. Ask who sent it for a new one." : messageOf(e);
    element.dataset.kind = "ended";
    place.replaceChildren(h("div", { class: "narrow" }, h("p", { class: "error", role: "alert" }, text)));
  });
  return { title: "Shared scene", element, full: true, open: true };
};
