// A job whose files are on their way, or that was left before they were.

import { api, messageOf, type Job } from "../api";
import { confirmed } from "../dialog";
import { button, fill, h, icon, newId, setText } from "../dom";
import { ACCEPT } from "../files";
import { bytes, bytesOf, counted, dateAndTime, timeLeft } from "../format";
import { liveRegion, toast } from "../layout";
import type { JobPage, Panel } from "../pages/job";
import { navigate } from "../router";
import { continueUpload, missingOf, uploadOf, type Upload } from "../upload";

export function uploadPanel(job: Job, page: JobPage): Panel {
  const element = h("div", { class: "narrow" });
  const upload = uploadOf(job.id);
  if (upload) element.append(running(upload, page));
  else element.append(left(job, page, (upload) => fill(element, running(upload, page))));
  return { element, update: () => {} };
}

async function discard(page: JobPage, remove: () => Promise<unknown>): Promise<void> {
  if (!(await confirmed("Cancel this upload?", "What has been sent so far is removed from the server.", "Cancel the upload"))) return;
  try {
    await remove();
    navigate("/");
  } catch (e) {
    toast(messageOf(e));
    page.reload();
  }
}

/** An upload of this tab. */
function running(upload: Upload, page: JobPage): HTMLElement {
  const live = liveRegion();
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Upload" });
  const text = h("p", { class: "stage" });
  const numbers = h("p", { class: "muted" });
  const message = h("p", { class: "notice", role: "status", hidden: true });
  const pause = button("pause", "Pause", () => upload.pause());
  const resume = button("play", "Go on", () => upload.resume(), { class: "primary" });
  const cancel = button("close", "Cancel", () => void discard(page, () => upload.cancel()));
  const element = h(
    "section",
    { class: "card pad stack", "data-upload": "" },
    h("h2", {}, "Uploading"),
    text,
    bar,
    numbers,
    message,
    h("p", { class: "muted" }, "Keep this tab open until everything is sent. After that you can close it and come back."),
    live.element,
    h("div", { class: "row" }, pause, resume, cancel),
  );

  let told = -1;
  const update = () => {
    if (upload.stage === "started") return page.reload();
    const share = upload.total > 0 ? upload.sent / upload.total : 0;
    bar.value = share;
    element.dataset.upload = upload.stage;
    const { done, all } = upload.files;
    const words = {
      announcing: "Preparing the upload",
      sending: `Sending: ${done} of ${counted(all, "file")} done`,
      waiting: "Interrupted",
      paused: "Paused",
      starting: "Everything is sent. Starting\u2026",
      failed: "The upload has stopped",
      started: "",
    }[upload.stage];
    setText(text, words);
    const speed = upload.speed && upload.stage === "sending" ? `, ${bytes(upload.speed)}/s, ${timeLeft((upload.total - upload.sent) / upload.speed)}` : "";
    setText(numbers, bytesOf(upload.sent, upload.total) + speed);
    setText(message, upload.message);
    message.hidden = upload.message === "";
    message.classList.toggle("error", upload.stage === "failed");
    const stopped = upload.stage === "paused" || upload.stage === "failed";
    [pause.hidden, resume.hidden] = [stopped || upload.stage === "starting", !stopped];
    // A quarter at a time is enough for ears.
    const quarter = Math.floor(share * 4);
    if (quarter !== told) live.say(`${Math.round(share * 100)} % sent`);
    told = quarter;
  };
  upload.watch(update, page.signal);
  update();
  return element;
}

/** An upload that another visit has begun: the same files are chosen again, and it goes on where it stopped. */
function left(job: Job, page: JobPage, begun: (upload: Upload) => void): HTMLElement {
  const { files, unknown } = missingOf(job);
  const all = job.uploads ?? [];
  const have = all.reduce((sum, file) => sum + file.offset, 0);
  const length = all.reduce((sum, file) => sum + file.length, 0);
  const alert = h("p", { class: "error", role: "alert" });
  const remove = button("trash", "Remove", () => void discard(page, () => api.remove(job.id)));
  const ends = job.expires_at ? ` It is kept until ${dateAndTime(job.expires_at)}.` : "";

  if (all.length > 0 && files.length === 0 && unknown === 0) {
    const start = async () => {
      try {
        page.show(await api.start(job.id));
      } catch (e) {
        setText(alert, messageOf(e));
      }
    };
    const text = h("p", {}, `All ${counted(all.length, "file")} were sent, but the job was not started.${ends}`);
    return h("section", { class: "card pad stack" }, h("h2", {}, "Ready to start"), text, alert, h("div", { class: "row" }, button("play", "Start", () => void start(), { class: "primary" }), remove));
  }

  const id = newId();
  const input = h("input", { id, type: "file", multiple: true, accept: ACCEPT, class: "unseen", "data-test": "files" });
  input.addEventListener("change", () => {
    const lacking = continueUpload(job, [...(input.files ?? [])]);
    input.value = "";
    const upload = uploadOf(job.id);
    if (upload) return begun(upload);
    const more = lacking.length > 5 ? ` and ${lacking.length - 5} more` : "";
    setText(alert, `Not among them, or of another length: ${lacking.slice(0, 5).join(", ")}${more}. Choose all files that are missing at once.`);
  });
  const names = files.map((file) => h("li", {}, `${file.name} (${bytes(file.length)})`));
  const several = files.length + unknown;
  return h(
    "section",
    { class: "card pad stack" },
    h("h2", {}, "This upload is not finished"),
    h("p", {}, all.length > 0 ? `${bytesOf(have, length)} have arrived. Choose the same files again, and it goes on where it stopped.${ends}` : `Nothing has arrived yet. Choose the files.${ends}`),
    files.length > 0 && h("details", {}, h("summary", {}, `${counted(several, "file")} still missing`), h("ul", {}, ...names)),
    alert,
    h("div", { class: "row" }, input, h("label", { for: id, class: "button primary" }, icon("photos"), h("span", {}, all.length > 0 ? "Choose the same files" : "Choose files")), remove),
  );
}
