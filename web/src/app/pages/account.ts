import { api, messageOf, type Token } from "../api";
import { confirmed } from "../dialog";
import { button, field, fill, h, setText } from "../dom";
import { age, bytesOf, date } from "../format";
import { toast } from "../layout";
import { copyable, expirySelect } from "../once";
import { navigate, type Route } from "../router";
import { setUser, userName } from "../session";

/** Who is logged in, the storage, and tokens for programs. */
export const account: Route = ({ signal }) => {
  const about = h("p", {}, `Logged in as ${userName() ?? ""}.`);
  const meter = h("progress", { "aria-label": "Storage used", max: 1, value: 0 });
  const storage = h("p", { class: "muted" });
  const list = h("ul", { class: "rows" });
  const made = h("div", { role: "status" });
  const alert = h("p", { class: "error", role: "alert" });

  const logOut = async () => {
    try {
      await api.logOut();
    } catch (e) {
      return toast(messageOf(e));
    }
    setUser(null);
    navigate("/login");
  };

  const name = h("input", { required: true, maxlength: 64, autocomplete: "off" });
  const expiry = expirySelect([30, 90, 365], "Never, until it is revoked");
  const create = async (event: Event) => {
    event.preventDefault();
    setText(alert, "");
    try {
      const token = await api.createToken(name.value.trim(), expiry.days());
      fill(made, h("p", {}, `This is the token \u201c${token.name}\u201d. It is shown this once: copy it now.`), copyable("Token", token.token));
      name.value = "";
      await load();
    } catch (e) {
      setText(alert, messageOf(e));
    }
  };
  const revoke = async (token: Token) => {
    if (!(await confirmed("Revoke this token?", `Programs that use \u201c${token.name}\u201d cannot log in any more.`, "Revoke"))) return;
    await api.revokeToken(token.id).catch((e) => toast(messageOf(e)));
    await load();
  };
  const load = async () => {
    try {
      const { tokens } = await api.tokens();
      const row = (token: Token) => {
        const ends = token.expires_at ? `ends ${date(token.expires_at)}` : "does not end";
        const used = token.last_used_at ? `used ${age(token.last_used_at)}` : "never used";
        const text = h("div", {}, h("strong", {}, token.name), h("small", {}, `made ${age(token.created_at)}, ${used}, ${ends}`));
        return h("li", {}, text, button(null, "Revoke", () => void revoke(token), { "aria-label": `Revoke ${token.name}` }));
      };
      fill(list, ...(tokens.length > 0 ? tokens.map(row) : [h("li", { class: "muted" }, "There are no tokens.")]));
    } catch (e) {
      if (!signal.aborted) setText(alert, messageOf(e));
    }
  };
  const askStorage = async () => {
    const { used, limit } = await api.storage(signal);
    setText(storage, `${bytesOf(used, limit)} used.`);
    meter.value = limit > 0 ? used / limit : 0;
  };
  askStorage().catch(() => {});
  void load();

  const element = h(
    "div",
    { class: "narrow stack" },
    h("h1", {}, "Account"),
    h("section", { class: "card pad stack" }, about, h("p", {}, button(null, "Log out", () => void logOut()))),
    h("section", { class: "card pad stack" }, h("h2", {}, "Storage"), meter, storage),
    h(
      "section",
      { class: "card pad stack" },
      h("h2", {}, "Access tokens"),
      h("p", { class: "muted" }, "For programs and scripts, which send one in place of your password. See \u201cLogging in\u201d in the server's documentation."),
      list,
      made,
      alert,
      h("form", { class: "stack", onsubmit: create }, field("Name", name, "What it is for, such as \u201cbackup script\u201d."), field("Ends", expiry.element), h("p", {}, h("button", {}, "Make a token"))),
    ),
  );
  return { title: "Account", element };
};
