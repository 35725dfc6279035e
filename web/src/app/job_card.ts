// A scene in the gallery: its picture, its name, how it stands, and what can be done with it there.

import { api, artifacts, messageOf, type Job } from "./api";
import { asked, confirmed } from "./dialog";
import { fill, h, icon, iconButton, setText } from "./dom";
import { isFinal } from "./follow";
import { age, dateAndTime, sceneName, timeLeft } from "./format";
import { toast } from "./layout";
import { uploadOf } from "./upload";
import { stateText } from "./words";

export interface JobCard {
  element: HTMLElement;
  job(): Job;
  update(job: Job): void;
}

interface Events {
  changed(job: Job): void;
  removed(): void;
}

/** Longest name of a scene, without the ending that the server adds. */
export const NAME_MAX = 200;

/** Asks for another name of a scene; returns the job with it. */
export async function rename(job: Job): Promise<Job | null> {
  const name = await asked("Rename scene", "Name", sceneName(job.name), "Rename", NAME_MAX);
  if (name === null) return null;
  try {
    return await api.rename(job.id, name);
  } catch (e) {
    toast(messageOf(e));
    return null;
  }
}

/** Removes a job after a question; returns whether it is gone. */
export async function removeJob(job: Job): Promise<boolean> {
  const name = sceneName(job.name);
  const text = job.result ? `\u201c${name}\u201d, its files and its links will be gone for good.` : `\u201c${name}\u201d will be removed from the list.`;
  if (!(await confirmed("Delete this scene?", text, "Delete"))) return false;
  try {
    await (uploadOf(job.id)?.cancel() ?? api.remove(job.id));
    return true;
  } catch (e) {
    toast(messageOf(e));
    return false;
  }
}

/** Cancels a job after a question; returns how it stands then. */
export async function cancelJob(job: Job): Promise<Job | null> {
  const text = "What has been computed so far is lost, and the files have to be sent again.";
  if (!(await confirmed("Cancel this job?", text, "Cancel the job"))) return null;
  try {
    return (await api.cancel(job.id)) ?? null;
  } catch (e) {
    toast(messageOf(e));
    return null;
  }
}

/** Makes the card of a job. */
export function jobCard(first: Job, events: Events): JobCard {
  let job = first;
  let pictured = "";
  const picture = h("div", { class: "picture" });
  const link = h("a", { href: `/jobs/${job.id}` });
  const when = h("time", { class: "muted" });
  const state = h("span", { class: "state" });
  const bar = h("progress", { max: 1, "aria-label": "Progress" });
  const renameButton = iconButton("pencil", "Rename", async () => {
    const renamed = await rename(job);
    if (renamed) events.changed(renamed);
  });
  const removeButton = iconButton("trash", "Delete", async () => {
    if (job.state === "uploading" || isFinal(job)) {
      if (await removeJob(job)) events.removed();
      return;
    }
    const cancelled = await cancelJob(job);
    if (cancelled) events.changed(cancelled);
  });
  const actions = h("div", { class: "row actions" }, renameButton, removeButton);
  const body = h("div", { class: "body" }, h("h2", {}, link), h("p", { class: "row" }, state, when), bar, actions);
  const element = h("li", { class: "card" }, picture, body);

  const update = (next: Job) => {
    job = next;
    const name = sceneName(job.name);
    setText(link, name);
    const final = isFinal(job);
    const left = job.state === "running" && job.seconds_left !== undefined ? ` \u00b7 ${timeLeft(job.seconds_left)}` : "";
    setText(state, job.state === "done" && job.result ? "" : stateText(job) + left);
    state.dataset.state = job.state;
    const time = job.finished_at ?? job.created_at;
    setText(when, time && final ? age(time) : "");
    if (time) [when.dateTime, when.title] = [time, dateAndTime(time)];
    bar.hidden = job.state !== "running";
    bar.value = job.fraction ?? 0;
    renameButton.hidden = !job.result;
    const action = final || job.state === "uploading" ? "Delete" : "Cancel";
    for (const [button, text] of [[renameButton, "Rename"], [removeButton, action]] as const) {
      button.setAttribute("aria-label", `${text} ${name}`);
      button.title = text;
    }
    const wanted = job.result ? job.result.hash : job.state;
    if (wanted !== pictured) fill(picture, pictureOf(job));
    pictured = wanted;
  };
  update(job);
  return { element, job: () => job, update };
}

/** The rendered points, or else the first photo, or else a tile. */
function pictureOf(job: Job): Element {
  const tile = () => h("div", { class: `tile ${job.state}` }, icon(job.state === "done" ? "photos" : "cube"));
  if (!job.result) return tile();
  const img = h("img", { src: `${artifacts(job.id)}/scene.jpg`, alt: "", loading: "lazy", width: 480, height: 360 });
  let tries = 0;
  img.addEventListener("error", () => {
    tries += 1;
    if (tries === 1) img.src = `${artifacts(job.id)}/thumbnails/0.jpg`;
    else img.replaceWith(tile());
  });
  return img;
}
