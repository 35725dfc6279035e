import { api } from "./api";
import { h } from "./dom";
import { layout } from "./layout";
import { account } from "./pages/account";
import { gallery } from "./pages/gallery";
import { job } from "./pages/job";
import { login } from "./pages/login";
import { newScene } from "./pages/new";
import { shared } from "./pages/shared";
import { navigate, startRouter, type Page, type Route } from "./router";
import { userName } from "./session";

/** A page for those who are logged in; others log in first, and come back. */
function own(route: Route): Route {
  return (context) => {
    if (userName() !== null) return route(context);
    const { pathname, search } = context.url;
    queueMicrotask(() => navigate(pathname === "/" ? "/login" : `/login?to=${encodeURIComponent(pathname + search)}`, { replace: true }));
    return { title: "", element: h("div") };
  };
}

function missing(): Page {
  const element = h("div", { class: "narrow" }, h("h1", {}, "Nothing here"), h("p", {}, "There is no such page. ", h("a", { href: "/" }, "See your scenes")));
  return { title: "Nothing here", element };
}

// With the page itself, so that what depends on it is there at once.
if (userName() !== null) api.service().catch(() => {});

startRouter(
  [
    [/^\/$/, own(gallery)],
    [/^\/login$/, login],
    [/^\/new$/, own(newScene)],
    [/^\/jobs\/(\d+)$/, own(job)],
    [/^\/account$/, own(account)],
    [/^\/s\/([^/]+)$/, shared],
    [/(?:)/, missing],
  ],
  layout(),
);
