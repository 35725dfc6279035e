import { api, messageOf, type JobOptions, type Service } from "../api";
import { field, fill, h, icon, newId, setText } from "../dom";
import { ACCEPT, add, dropped, totalBytes, type Item } from "../files";
import { bytes, counted, shortDateAndTime } from "../format";
import { NAME_MAX } from "../job_card";
import { liveRegion } from "../layout";
import { optionsForm, type OptionsForm } from "../options";
import { photoList } from "../photo_list";
import { navigate, type Route } from "../router";
import { tips } from "../tips";
import { beginUpload } from "../upload";

/** What is typed and chosen, kept while other pages are looked at. */
const draft: { items: Item[]; name: string; options: JobOptions; named: boolean } = { items: [], name: "", options: {}, named: false };

/** Begins a new scene with the options of another. */
export function beginLike(options: JobOptions | undefined, name: string): void {
  const { name: _, ...others } = options ?? {};
  Object.assign(draft, { options: others, name, named: name !== "" });
  navigate("/new");
}

/** Photos or a video, options, and the start. */
export const newScene: Route = ({ signal }) => {
  const live = liveRegion();
  const notes = h("div", { class: "notes", role: "alert" });
  const count = h("p", { class: "count" });
  const alert = h("p", { class: "error", role: "alert" });
  const submit = h("button", { class: "primary wide" }, "Make the scene");
  const name = h("input", { value: draft.name, maxlength: NAME_MAX, placeholder: "Kitchen", autocomplete: "off" });
  const optionsPlace = h("div", {});
  let service: Service | null = null;
  let form: OptionsForm | null = null;

  const list = photoList((items) => set(items), live.say);
  const kind = () => (draft.items.some((item) => item.isVideo) ? "video" : "photos");

  /** Why these files cannot be sent. */
  const tooMuch = (): string => {
    if (!service) return "";
    const { max_images, max_upload, video } = service;
    const [all, size] = [draft.items.length, totalBytes(draft.items)];
    if (kind() === "video" && !video) return "This server does not take videos. Send photos.";
    if (all > max_images) return `This server takes ${counted(max_images, "photo")} at most; remove ${(all - max_images).toLocaleString("en-US")}.`;
    if (size > max_upload) return `This server takes ${bytes(max_upload)} at most; these are ${bytes(size)}.`;
    return "";
  };

  const set = (items: Item[]) => {
    draft.items = items;
    list.set(items);
    form?.setKind(kind());
    const what = kind() === "video" ? counted(items.length, "video") : counted(items.length, "photo");
    const limit = service ? ` (at most ${bytes(service.max_upload)}${kind() === "video" ? "" : `, ${counted(service.max_images, "photo")}`})` : "";
    setText(count, items.length > 0 ? `${what}, ${bytes(totalBytes(items))}${limit}` : "");
    setText(alert, tooMuch());
    drop.classList.toggle("small", items.length > 0);
    advice.hidden = items.length > 0;
    submit.disabled = !form || items.length === 0 || tooMuch() !== "";
  };

  const take = (files: File[], folder: string | null = null, inOrder = true) => {
    const before = draft.items.length;
    const { items, notes: said } = add(draft.items, files, inOrder);
    fill(notes, ...said.map((text) => h("p", {}, text)));
    if (!draft.named && items.length > 0) {
      const only = items.length === 1 && items[0]!.isVideo ? items[0]!.file.name.replace(/\.[^.]*$/, "") : null;
      const found = folder ?? files[0]?.webkitRelativePath.split("/").at(-2) ?? only;
      if (found) name.value = draft.name = found;
    }
    set(items);
    live.say(`${counted(items.length - before, "file")} added, ${items.length} in all.`);
  };
  name.addEventListener("input", () => Object.assign(draft, { name: name.value, named: true }));

  const input = (attributes: Record<string, string | boolean>, text: string, picture: Parameters<typeof icon>[0], inOrder = true) => {
    const id = newId();
    const element = h("input", { id, type: "file", class: "unseen", ...attributes });
    element.addEventListener("change", () => {
      take([...(element.files ?? [])], null, inOrder);
      // The same file may be chosen again after it was removed.
      element.value = "";
    });
    return h("span", { class: "pick" }, element, h("label", { for: id, class: "button" }, icon(picture), h("span", {}, text)));
  };
  const onPhone = matchMedia("(pointer: coarse)").matches;
  const drop = h(
    "div",
    { class: "drop" },
    h("p", { class: "drop-title" }, onPhone ? "Choose photos or one video" : "Drop photos, a folder or one video here"),
    h(
      "div",
      { class: "row" },
      onPhone && input({ accept: "image/*", capture: "environment" }, "Take photos", "camera", false),
      input({ multiple: true, accept: ACCEPT, "data-test": "files" }, "Choose files", "photos"),
      !onPhone && input({ webkitdirectory: true, multiple: true }, "Choose a folder", "folder"),
    ),
    h("p", { class: "muted" }, "JPEG, PNG, HEIC, AVIF, WebP, TIFF and camera raw; MP4, MOV, MKV and WebM."),
  );
  const advice = tips();

  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  }, { signal });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  }, { signal });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event) || !event.dataTransfer) return;
    event.preventDefault();
    drop.classList.remove("over");
    dropped(event.dataTransfer).then(
      ({ files, folder }) => take(files, folder),
      (e) => fill(notes, h("p", {}, messageOf(e))),
    );
  }, { signal });

  const send = async (event: Event) => {
    event.preventDefault();
    if (!form || submit.disabled) return;
    submit.disabled = true;
    setText(submit, "Beginning\u2026");
    try {
      const options = form.value();
      options.name = name.value.trim() || `Scene, ${shortDateAndTime(Date.now())}`;
      const job = await api.createJob(options);
      beginUpload(job, draft.items.map((item) => item.file));
      Object.assign(draft, { items: [], name: "", named: false });
      navigate(`/jobs/${job.id}`);
    } catch (e) {
      setText(alert, messageOf(e));
      submit.disabled = false;
      setText(submit, "Make the scene");
    }
  };

  api.service().then(
    (told) => {
      service = told;
      form = optionsForm(told, kind(), draft.options, (options) => (draft.options = options));
      optionsPlace.replaceChildren(form.element);
      set(draft.items);
    },
    (e) => setText(alert, messageOf(e)),
  );

  const element = h(
    "form",
    { class: "new", onsubmit: send },
    h("h1", {}, "New scene"),
    live.element,
    h("div", { class: "new-files" }, drop, notes, count, list.element, advice),
    h(
      "div",
      { class: "new-side" },
      h("div", { class: "new-options card pad stack" }, h("h2", {}, "Options"), field("Name", name), optionsPlace),
      h("div", { class: "new-submit stack" }, alert, submit),
    ),
  );
  set(draft.items);
  return { title: "New scene", element };
};
