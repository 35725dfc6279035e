// A scene that is done: the viewer, and what can be done with it.

import { artifacts, type Job } from "../api";
import { button } from "../dom";
import { sceneName } from "../format";
import { removeJob, rename } from "../job_card";
import type { JobPage, Panel } from "../pages/job";
import { navigate } from "../router";
import { detailsDialog } from "./details";
import { downloadDialog } from "./download";
import { rerunDialog } from "./rerun";
import { shareDialog } from "./share";

export function resultPanel(first: Job, page: JobPage, whole: HTMLElement): Panel {
  let job = first;
  const renamed = async () => {
    const found = await rename(job);
    if (found) page.show(found);
  };
  const remove = async () => {
    if (await removeJob(job)) navigate("/");
  };
  whole.querySelector(".job-actions")!.append(
    button("pencil", "Rename", () => void renamed()),
    button("download", "Download", () => downloadDialog(job), { class: "primary" }),
    button("share", "Share", () => shareDialog(job)),
    button("again", "Rerun", () => void rerunDialog(job)),
    button("info", "Details", () => detailsDialog(job)),
    button("trash", "Delete", () => void remove()),
  );
  const view = page.view();
  void view.fetch(artifacts(job.id), sceneName(job.name));
  return {
    element: view.element,
    update: (next) => (job = next),
  };
}
