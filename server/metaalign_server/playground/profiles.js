// Profiles: save a column as a version, compare versions, move a label, use one in a column.

import { Problem, call } from "./api.js";
import { button, count, el, field, options, say, showProblem } from "./dom.js";
import { LETTERS, columnOf, toPreferences } from "./state.js";

const path = (name) => `v1/profiles/${encodeURIComponent(name)}`;
const written = (value) => (value === null || value === undefined ? "not set" : typeof value === "string" ? value : JSON.stringify(value));

/** Fill `section`; returns `refresh()` for other columns and `list()` for another key. */
export function profilesBench(section, page) {
  let opened = null;
  const names = el("datalist", { id: "profile-names" });
  const column = el("select", {});
  const name = el("input", { type: "text", list: "profile-names", required: true, maxlength: 63, pattern: "[a-z0-9][a-z0-9_\\-]{0,62}", placeholder: "museum", autocomplete: "off", spellcheck: "false", title: "Small letters, digits, - and _" });
  const note = el("input", { type: "text", maxlength: 500, placeholder: "why, for people" });
  const which = el("select", {});
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const done = el("p", { class: "outcome", role: "status" });
  const details = el("div", { class: "result" });

  /** Do `action` and show what came of it. */
  async function attempt(action) {
    showProblem(problem, null);
    done.textContent = "";
    done.classList.remove("is-passed");
    try {
      const text = await action();
      if (text) {
        done.textContent = text;
        done.classList.add("is-passed");
      }
    } catch (error) {
      showProblem(problem, error);
    }
  }

  async function list() {
    const found = [];
    let after = "";
    for (;;) {
      const answer = await call("GET", `v1/profiles?limit=200${after}`);
      found.push(...answer.data.map((profile) => profile.name));
      if (!answer.has_more) break;
      after = `&after=${encodeURIComponent(found.at(-1))}`;
    }
    names.replaceChildren(...found.map((value) => el("option", { value })));
    options(which, [["", found.length ? "choose" : "none yet"], ...found.map((value) => [value, value])], found.includes(opened) ? opened : "");
    return found;
  }

  async function save() {
    if (!name.reportValidity()) return null;
    const wanted = name.value.trim();
    const saved = page.columns()[LETTERS.indexOf(column.value)];
    const preferences = toPreferences(saved, { stored: true });
    const naming = saved.blend.findIndex((part) => part.profile?.trim());
    if (naming >= 0) {
      const why = "is a profile, and a profile cannot name others. Make it a text, or remove it.";
      throw new Problem(`Part ${naming + 1} of the blend ${why}`);
    }
    const body = { preferences, note: note.value };
    const found = await list();
    let version = 1;
    if (found.includes(wanted)) version = (await call("POST", `${path(wanted)}/versions`, body)).version;
    else await call("POST", "v1/profiles", { name: wanted, ...body });
    choose(wanted);
    await list();
    await open();
    page.forget();
    return `Column ${column.value} is saved as version ${version} of ${wanted}.`;
  }

  /** Versions of another profile must not stay: who is quick would load one of them. */
  function choose(profile) {
    if (profile !== opened) details.replaceChildren();
    opened = profile;
  }

  async function open() {
    const wanted = opened;
    if (!wanted) return;
    const [head, versions] = await Promise.all([call("GET", path(wanted)), call("GET", `${path(wanted)}/versions?limit=50`)]);
    if (wanted === opened) details.replaceChildren(...show(head, versions.data));
  }

  function show(head, versions) {
    const pointing = (number) =>
      Object.entries(head.labels).filter(([, label]) => label.versions.some((target) => target.version === number)).map(([each]) => each);
    const rows = versions.map((version) =>
      el("tr", {},
        el("th", { scope: "row" }, String(version.version)),
        el("td", {}, ...pointing(version.version).map((label) => el("span", { class: "label" }, label))),
        el("td", {}, version.note || "–"),
        el("td", {}, new Date(version.created_at).toLocaleString()),
        el("td", {}, button("Load", () => load(version), { class: "quiet", "aria-label": `Load version ${version.version} into column ${column.value}` }))));
    const numbers = versions.map((version) => [String(version.version), `version ${version.version}`]);

    const label = el("input", { type: "text", value: "stable", pattern: "[a-z][a-z0-9_.\\-]{0,62}", required: true, title: "Small letters, digits, - _ and ." });
    const target = el("select", {});
    options(target, numbers);
    const move = button("Move the label", () => attempt(async () => {
      if (!label.reportValidity()) return null;
      await call("PUT", `${path(head.name)}/labels/${encodeURIComponent(label.value)}`, { version: Number(target.value) });
      await open();
      page.forget();
      return `${head.name}@${label.value} is version ${target.value} now.`;
    }));

    const from = el("select", {});
    const to = el("select", {});
    options(from, numbers, numbers[Math.min(1, numbers.length - 1)][0]);
    options(to, numbers, numbers[0][0]);
    const changes = el("div", { class: "changes" });
    const compare = button("Show the difference", () => attempt(async () => {
      const diff = await call("GET", `${path(head.name)}/diff?from=${from.value}&to=${to.value}`);
      changes.replaceChildren(difference(diff));
      say(`${count(diff.changes.length, "difference")}.`);
    }));

    return [
      el("table", {},
        el("caption", {}, `Versions of ${head.name}`),
        el("thead", {}, el("tr", {}, ...["Version", "Labels", "Note", "Saved", "Column"].map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, ...rows)),
      el("div", { class: "line" }, field("Label", label), field("to", target), move),
      el("div", { class: "line" }, field("Compare", from), field("with", to), compare),
      changes,
    ];
  }

  function difference(diff) {
    if (!diff.changes.length) return el("p", { class: "hint" }, "The two versions say the same.");
    return el("table", { class: "diff" },
      el("caption", {}, `From version ${diff.from} to version ${diff.to}`),
      el("thead", {}, el("tr", {}, ...["Path", "Before", "After"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...diff.changes.map((change) =>
        el("tr", {}, el("th", { scope: "row" }, change.path), el("td", { class: "before" }, written(change.from)), el("td", { class: "after" }, written(change.to))))));
  }

  function load(version) {
    page.replace(LETTERS.indexOf(column.value), columnOf(version.preferences));
    attempt(() => `Version ${version.version} of ${version.profile} is in column ${column.value}.`);
  }

  function refresh() {
    const letters = page.columns().map((_, index) => [LETTERS[index], `Column ${LETTERS[index]}`]);
    options(column, letters, letters.some(([value]) => value === column.value) ? column.value : "A");
  }

  which.addEventListener("change", () => {
    choose(which.value || null);
    attempt(open);
  });
  which.addEventListener("focus", () => attempt(list), { once: true });

  section.replaceChildren(
    el("h2", { id: "profiles-title" }, "Profiles"),
    el("p", { class: "lead" }, "A profile keeps a column’s preferences on the server under a name. Its versions are numbered and never change; labels such as stable point at one and can be moved."),
    el("div", { class: "line" }, field("Save", column), field("as", name), field("Note", note), button("Save a version", () => attempt(save), { class: "primary" })),
    el("div", { class: "line" }, field("Open", which)),
    names, problem, done, details);
  refresh();
  return { refresh, list: () => list().catch(() => {}) };
}
