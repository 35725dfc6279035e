// A job that waits or runs: its place, what is being done, and a preview once there is one.

import { artifacts, type Job } from "../api";
import { button, fill, h, setText } from "../dom";
import { sceneName, sentence } from "../format";
import { cancelJob } from "../job_card";
import { liveRegion } from "../layout";
import type { JobPage, Panel } from "../pages/job";
import { progressText, stateText } from "../words";

export function progressPanel(first: Job, page: JobPage): Panel {
  let job = first;
  let previewed = false;
  let told = "";
  const live = liveRegion();
  const text = h("p", { class: "stage" });
  const bar = h("progress", { max: 1, "aria-label": "Progress" });
  const percent = h("span", { class: "muted" });
  const warnings = h("ul", { class: "warnings" });

  const cancel = async () => {
    const cancelled = await cancelJob(job);
    if (cancelled) page.show(cancelled);
  };
  const card = h(
    "section",
    { class: "card pad stack" },
    text,
    h("div", { class: "bar" }, bar, percent),
    h("div", { class: "warnings-place", role: "status" }, warnings),
    h("p", { class: "muted" }, "You can close this page and come back: the job goes on without it."),
    live.element,
    h("div", { class: "row" }, button("close", "Cancel", () => void cancel())),
  );
  const place = h("div", { class: "preview" });
  const element = h("div", { class: "progress-panel" }, h("div", { class: "narrow" }, card), place);

  const showPreview = async () => {
    const view = page.view();
    fill(place, h("p", { class: "muted" }, "A first look, from the anchors alone. The whole scene replaces it."), view.element);
    const shown = (is: boolean) => {
      previewed = is;
      element.classList.toggle("has-preview", is);
    };
    shown(true);
    // It may be gone: the job has ended since, and its result comes.
    await view.fetchGlb(`${artifacts(job.id)}/preview.glb`, sceneName(job.name)).catch(() => shown(false));
  };

  return {
    element,
    update(next) {
      job = next;
      setText(text, progressText(job));
      if (job.fraction !== undefined && job.state === "running") bar.value = job.fraction;
      else bar.removeAttribute("value");
      setText(percent, job.fraction !== undefined ? `${Math.floor(job.fraction * 100)} %` : "");
      showWarnings(warnings, job);
      // The stage and each half, not every percent.
      const spoken = `${stateText(job)}${(job.fraction ?? 0) >= 0.5 ? ", more than half is done" : ""}`;
      if (spoken !== told) live.say(spoken);
      told = spoken;
      if (job.has_preview && !previewed) void showPreview();
    },
  };
}

/** Shows what is to be known of a job as sentences. */
export function showWarnings(list: HTMLElement, job: Job): void {
  const texts = job.warnings.map((warning) => sentence(warning.text));
  list.hidden = texts.length === 0;
  if (list.children.length !== texts.length) fill(list, ...texts.map((text) => h("li", {}, text)));
}
