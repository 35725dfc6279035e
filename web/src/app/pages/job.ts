import { api, isAbort, messageOf, type Job } from "../api";
import { h, setText } from "../dom";
import { follow, isFinal } from "../follow";
import { sceneName } from "../format";
import { setTitle, type Route } from "../router";
import { endedPanel } from "../scene/ended";
import { progressPanel } from "../scene/progress";
import { resultPanel } from "../scene/result";
import { uploadPanel } from "../scene/uploading";
import { sceneView, type SceneView } from "../scene/view";

/** A part of the page: what is shown of a job in some of its states. */
export interface Panel {
  element: HTMLElement;
  update(job: Job): void;
}

/** What panels may do with the page. */
export interface JobPage {
  id: number;
  signal: AbortSignal;
  /** Shows the job as it is now. */
  show(job: Job): void;
  /** Asks how the job stands, and follows it. */
  reload(): void;
  /** The viewer, which goes from the preview over to the result. */
  view(): SceneView;
}

/** A job, from its upload to its scene. */
export const job: Route = ({ params, signal }) => {
  const id = Number(params[0]);
  const heading = h("h1", {}, "Scene");
  const notice = h("p", { class: "notice", role: "status", hidden: true });
  const place = h("div", { class: "panel" }, h("p", { class: "muted" }, "Loading\u2026"));
  const element = h("div", { class: "job" }, h("div", { class: "job-head" }, heading, h("div", { class: "job-actions" })), notice, place);
  let panel: Panel | null = null;
  let kind = "";
  let following = false;

  const tell = (text: string) => {
    setText(notice, text);
    notice.hidden = text === "";
  };

  const show = (job: Job) => {
    if (signal.aborted) return;
    const name = sceneName(job.name);
    setText(heading, name);
    setTitle(name);
    const wanted = kindOf(job);
    if (wanted !== kind) {
      kind = wanted;
      element.dataset.kind = kind;
      element.querySelector(".job-actions")!.replaceChildren();
      panel = PANELS[wanted](job, page, element);
      place.replaceChildren(panel.element);
    }
    panel!.update(job);
    if (!isFinal(job) && job.state !== "uploading" && !following) start();
  };

  const start = () => {
    following = true;
    const connected = (is: boolean) => tell(is ? "" : "The connection to the server is lost. The job is kept there; this page goes on by itself.");
    follow(id, signal, take, connected, failed);
  };
  // The events tell everything but the options, which do not change.
  let options: Job["options"];
  const take = (job: Job) => {
    options = job.options ?? options;
    if (isFinal(job)) {
      following = false;
      // Whatever was set since: the events may be older than an answer.
      if (job.state === "done") return reload();
    }
    show(options ? { ...job, options } : job);
  };

  const failed = (e: unknown) => {
    following = false;
    if (isAbort(e) || signal.aborted) return;
    tell("");
    place.replaceChildren(h("div", { class: "narrow" }, h("p", { class: "error", role: "alert" }, messageOf(e)), h("p", {}, h("a", { href: "/" }, "See your scenes"))));
    kind = "";
  };
  const reload = () => {
    api.job(id, signal).then((job) => {
      options = job.options;
      show(job);
    }, failed);
  };
  let view: SceneView | null = null;
  const saveScale = async (metersPerUnit: number | null) => show(await api.setScale(id, metersPerUnit));
  const page: JobPage = { id, signal, show, reload, view: () => (view ??= sceneView(signal, { saveScale })) };
  reload();
  return { title: "Scene", element, full: true };
};

const PANELS = { uploading: uploadPanel, progress: progressPanel, result: resultPanel, ended: endedPanel };

function kindOf(job: Job): keyof typeof PANELS {
  if (job.state === "uploading") return "uploading";
  if (job.state === "queued" || job.state === "running") return "progress";
  return job.state === "done" && job.result ? "result" : "ended";
}
