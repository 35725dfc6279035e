import { api, messageOf, type Job } from "../api";
import { openDialog } from "../dialog";
import { button, field, h, setText } from "../dom";
import { sceneName } from "../format";
import { NAME_MAX } from "../job_card";
import { toast } from "../layout";
import { optionsForm } from "../options";
import { navigate } from "../router";

/** Builds a scene anew with other options; the network and the files are not needed. */
export async function rerunDialog(job: Job): Promise<void> {
  let service, now;
  try {
    [service, now] = await Promise.all([api.service(), api.job(job.id)]);
  } catch (e) {
    return toast(messageOf(e));
  }
  const form = optionsForm(service, "rerun", now.options ?? {}, () => {});
  const name = h("input", { value: sceneName(job.name), maxlength: NAME_MAX, required: true, autocomplete: "off" });
  const alert = h("p", { class: "error", role: "alert" });
  const start = h("button", { class: "primary" }, "Rerun");
  const send = async (event: Event) => {
    event.preventDefault();
    start.disabled = true;
    try {
      const made = await api.rerun(job.id, { ...form.value(), name: name.value.trim() });
      dialog.close();
      navigate(`/jobs/${made.id}`);
    } catch (e) {
      setText(alert, messageOf(e));
      start.disabled = false;
    }
  };
  const footer = h("footer", {}, button(null, "Cancel", () => dialog.close()), start);
  const dialog = openDialog(
    "Rerun with other options",
    h("p", { class: "muted" }, "Makes another scene of the same pictures. It takes seconds: the network does not run again."),
    h("form", { class: "stack", onsubmit: send }, field("Name", name), form.element, alert, footer),
  );
}
