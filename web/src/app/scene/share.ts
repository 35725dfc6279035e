import { api, messageOf, type Job, type Link } from "../api";
import { openDialog } from "../dialog";
import { button, field, fill, h, setText } from "../dom";
import { age, date } from "../format";
import { copyable, expirySelect } from "../once";

/** Makes, lists and removes links under which others see a scene without a login. */
export function shareDialog(job: Job): void {
  const expiry = expirySelect([1, 7, 30, 365], "Never, until it is removed");
  expiry.element.value = "30";
  const made = h("div", { class: "stack", role: "status" });
  const list = h("ul", { class: "rows" });
  const alert = h("p", { class: "error", role: "alert" });

  const attempt = async (action: () => Promise<void>) => {
    setText(alert, "");
    try {
      await action();
      await load();
    } catch (e) {
      setText(alert, messageOf(e));
    }
  };
  const create = (event: Event) => {
    event.preventDefault();
    void attempt(async () => {
      const link = await api.createLink(job.id, expiry.days());
      fill(made, copyable("Link", location.origin + link.path), h("p", { class: "muted" }, "The link is shown this once: copy it now."));
    });
  };
  const row = (link: Link) => {
    const ends = link.expires_at ? `ends ${date(link.expires_at)}` : "does not end";
    const remove = button(null, "Remove", () => void attempt(() => api.removeLink(job.id, link.id)), { "aria-label": `Remove the link made ${age(link.created_at)}` });
    return h("li", {}, h("div", {}, h("strong", {}, `Made ${age(link.created_at)}`), h("small", {}, ends)), remove);
  };
  const load = async () => {
    const { links } = await api.links(job.id);
    fill(list, ...links.map(row));
    others.hidden = links.length === 0;
  };
  const others = h("section", { hidden: true }, h("h3", {}, "Links to this scene"), list);
  openDialog(
    "Share",
    h("p", {}, "Everybody who has the link sees this scene, its name and its photos at the network's size, without a login."),
    h("form", { class: "stack", onsubmit: create }, field("The link ends", expiry.element), h("p", {}, h("button", { class: "primary" }, "Make a link"))),
    made,
    alert,
    others,
  );
  load().catch((e) => setText(alert, messageOf(e)));
}
