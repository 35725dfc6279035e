// A job that has ended without a scene.

import { api, messageOf, type Job } from "../api";
import { button, h } from "../dom";
import { sceneName } from "../format";
import { removeJob } from "../job_card";
import { toast } from "../layout";
import { beginLike } from "../pages/new";
import type { JobPage, Panel } from "../pages/job";
import { navigate } from "../router";
import { failureText } from "../words";
import { showWarnings } from "./progress";

export function endedPanel(job: Job, page: JobPage): Panel {
  const warnings = h("ul", { class: "warnings" });
  showWarnings(warnings, job);
  const remove = async () => {
    if (await removeJob(job)) navigate("/");
  };
  const again = async () => {
    try {
      const { options } = await api.job(page.id);
      beginLike(options, sceneName(job.name));
    } catch (e) {
      toast(messageOf(e));
    }
  };
  const { reason, cure } = failureText(job);
  const words = {
    failed: [h("h2", {}, "This did not work"), h("p", { class: "error" }, reason), h("p", {}, cure)],
    cancelled: [h("h2", {}, "Cancelled"), h("p", {}, "This job was cancelled before it was done.")],
    other: [h("h2", {}, "The result was deleted"), h("p", {}, "Only this entry is left of the scene.")],
  }[job.state === "failed" || job.state === "cancelled" ? job.state : "other"];
  const element = h(
    "div",
    { class: "narrow" },
    h(
      "section",
      { class: "card pad stack" },
      ...words,
      warnings,
      h("div", { class: "row" }, button("again", "Try again with the same options", () => void again(), { class: "primary" }), button("trash", "Delete", () => void remove())),
    ),
  );
  return { element, update: () => {} };
}
