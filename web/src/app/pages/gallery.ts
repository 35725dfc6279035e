import { api, isAbort, messageOf, type Job } from "../api";
import { h, icon, setText } from "../dom";
import { follow, isFinal } from "../follow";
import { bytesOf, counted, sceneName } from "../format";
import { jobCard, type JobCard } from "../job_card";
import { liveRegion } from "../layout";
import type { Route } from "../router";
import { tips } from "../tips";

/** Jobs of a page: four rows of a wide window, and few enough pictures for a phone. */
const PAGE = 24;

/** Jobs that are followed by events; a browser has six connections to a server. The others are asked for. */
const FOLLOWED = 2;

/** Milliseconds between two questions for the jobs that are not followed. */
const ASK = 4000;

/** All scenes of the user, newest first. */
export const gallery: Route = ({ signal }) => {
  const cards = new Map<number, JobCard>();
  const followed = new Map<number, AbortController>();
  let next: number | null = null;
  let loading = false;

  const live = liveRegion();
  const storage = h("p", { class: "muted storage" });
  const search = h("input", { type: "search", placeholder: "Search by name", "aria-label": "Search scenes by name", oninput: () => void searched() });
  const grid = h("ul", { class: "cards" });
  const status = h("p", { class: "muted", role: "status" }, "Loading\u2026");
  const more = h("button", { type: "button", class: "more", hidden: true, onclick: () => void load() }, "Show more");
  const head = h("div", { class: "page-head" }, h("h1", {}, "Scenes"), storage, h("div", { class: "search" }, icon("search"), search));
  const empty = h(
    "div",
    { class: "empty", hidden: true },
    icon("cube"),
    h("h2", {}, "Make your first scene"),
    h("p", {}, "Add photos or a video of a room, a building or an object. You get a colored 3D point cloud, the cameras and the depth of every photo."),
    h("p", {}, h("a", { class: "button primary", href: "/new" }, icon("plus"), h("span", {}, "New scene"))),
    tips(),
  );
  const element = h("div", { class: "gallery" }, head, live.element, status, empty, grid, more);

  const matches = (job: Job) => sceneName(job.name).toLowerCase().includes(search.value.trim().toLowerCase());

  const show = () => {
    const all = [...cards.values()];
    const shown = all.filter((card) => {
      card.element.hidden = !matches(card.job());
      return !card.element.hidden;
    });
    empty.hidden = all.length > 0 || loading;
    head.classList.toggle("bare", all.length === 0);
    more.hidden = next === null || loading || search.value.trim() !== "";
    const none = all.length > 0 && shown.length === 0 && !loading;
    setText(status, loading && all.length === 0 ? "Loading\u2026" : none ? `No scene has \u201c${search.value.trim()}\u201d in its name.` : "");
    return shown.length;
  };

  const place = (job: Job) => {
    const known = cards.get(job.id);
    if (known) return known.update(job);
    const card = jobCard(job, {
      changed: (job) => (place(job), show()),
      removed: () => {
        cards.delete(job.id);
        live.say(`${sceneName(job.name)} was removed.`);
        // The focus would be lost with the card.
        const after = card.element.nextElementSibling ?? card.element.previousElementSibling;
        (after?.querySelector<HTMLElement>("a") ?? search).focus();
        card.element.remove();
        show();
        void askStorage();
      },
    });
    cards.set(job.id, card);
    const after = [...cards.values()].filter((other) => other.job().id < job.id).sort((a, b) => b.job().id - a.job().id)[0];
    grid.insertBefore(card.element, after?.element ?? null);
  };

  const load = async () => {
    if (loading) return;
    loading = true;
    show();
    try {
      const page = await api.jobs(PAGE, next, signal);
      page.jobs.forEach(place);
      next = page.next;
      loading = false;
      show();
      followSome();
    } catch (e) {
      loading = false;
      if (!isAbort(e)) setText(status, messageOf(e));
    }
  };

  // The server does not search, so all pages are loaded for it.
  const searched = async () => {
    show();
    while (search.value.trim() !== "" && next !== null && !loading && !signal.aborted) await load();
    const found = show();
    if (search.value.trim() !== "") live.say(counted(found, "scene"));
  };

  const followSome = () => {
    const open = [...cards.values()].map((card) => card.job()).filter((job) => !isFinal(job) && job.state !== "uploading");
    open.sort((a, b) => Number(b.state === "running") - Number(a.state === "running") || a.id - b.id);
    for (const job of open) {
      if (followed.size >= FOLLOWED) return;
      if (followed.has(job.id)) continue;
      const end = new AbortController();
      signal.addEventListener("abort", () => end.abort());
      followed.set(job.id, end);
      const over = () => {
        end.abort();
        followed.delete(job.id);
        followSome();
      };
      const changed = (now: Job) => {
        place(now);
        if (!isFinal(now)) return;
        live.say(`${sceneName(now.name)} ${now.state === "done" ? "is done" : now.state}.`);
        void askStorage();
        over();
      };
      follow(job.id, end.signal, changed, (is) => setText(status, is ? "" : "The server cannot be reached. Trying again\u2026"), over);
    }
  };

  const ask = async () => {
    const others = [...cards.values()].some((card) => !isFinal(card.job()) && !followed.has(card.job().id));
    if (others && !document.hidden && !loading) {
      const page = await api.jobs(PAGE, null, signal).catch(() => null);
      page?.jobs.forEach(place);
      followSome();
    }
  };
  const timer = setInterval(() => void ask(), ASK);
  signal.addEventListener("abort", () => clearInterval(timer));

  const askStorage = async () => {
    const told = await api.storage(signal).catch(() => null);
    if (told) setText(storage, told.limit > 0 ? `${bytesOf(told.used, told.limit)} used` : "");
  };
  void load();
  void askStorage();
  return { title: "Scenes", element };
};
