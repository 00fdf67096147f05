// The blend of a column: up to four User tiers, each with its share. The shares always sum to 1: moving one moves the others.

import { button, el, field, newId, say, setText } from "./dom.js";
import { wishEditor } from "./editor.js";
import { MAX_PARTS, apportioned, isReady, moved, partOf } from "./state.js";

/**
 * The editor of `column.blend`, which it changes.
 *
 * @param column The column's part of the state.
 * @param known What the server says of dimensions and limits.
 * @param changed Called after each change.
 * @returns The element, and `show(rendered)` for what a dry run says.
 */
export function blendEditor(column, known, changed) {
  const { blend } = column;
  const titleId = newId("blend");
  const parts = el("div", { class: "parts" });
  const sum = el("p", { class: "sum", role: "status" });
  const hint = el("span", { class: "unit" });
  const addText = button("Add a text", () => add(null), { class: "chip" });
  const addProfile = button("Add a profile", () => add(""), { class: "chip" });
  let views = [];

  /** What the parts that can be sent share among themselves; the others have nothing yet. */
  function shares() {
    const ready = blend.filter(isReady);
    const found = ready.length ? apportioned(ready.map((part) => part.weight)) : [];
    return blend.map((part) => (isReady(part) ? found[ready.indexOf(part)] : null));
  }

  function give(weights) {
    blend.forEach((part, index) => {
      part.weight = weights[index];
    });
  }

  function add(profile) {
    const others = blend.map((part) => part.weight);
    blend.push(partOf({ weight: 1, profile }));
    give(moved([...others, 1], others.length, 1 / blend.length));
    draw();
    views.at(-1).first.focus();
    changed();
  }

  function remove(index) {
    blend.splice(index, 1);
    if (blend.length) give(apportioned(blend.map((part) => part.weight)));
    draw();
    if (blend.length) parts.children[Math.min(index, blend.length - 1)].querySelector(".remove").focus();
    else addText.focus();
    say(`Part removed; there ${blend.length === 1 ? "is 1" : `are ${blend.length}`}.`);
    changed();
  }

  function partView(part, index) {
    const name = `part ${index + 1}`;
    const note = el("p", { class: "hint" });
    const edited = () => {
      tell();
      changed();
    };
    let editor = null;
    let first; // where the reader goes on once the part is there
    let what;
    if (part.profile === null) {
      editor = wishEditor("user", name, "For example: My name is Ada.", part, known, edited);
      editor.info.setAttribute("aria-label", `User Info of ${name}`);
      first = editor.info;
      what = editor.elements;
    } else {
      first = el("input", {
        type: "text", list: "profile-names", placeholder: "museum, museum@stable, museum:2", maxlength: 128,
        autocomplete: "off", spellcheck: "false",
        oninput: () => {
          part.profile = first.value;
          edited();
        },
      });
      first.value = part.profile;
      what = [field("Profile", first)];
    }
    const value = el("span", { class: "share-value" });
    let before = null; // the weights when this move of the slider began: they keep their proportions through all of it
    const slider = el("input", {
      type: "range", id: newId("share"), min: 0.01, max: 1, step: 0.01,
      oninput: () => {
        const ready = blend.filter(isReady);
        if (before?.length !== ready.length) before = ready.map((each) => each.weight);
        moved(before, ready.indexOf(part), slider.valueAsNumber).forEach((weight, other) => {
          ready[other].weight = weight;
        });
        edited();
      },
      onpointerdown: () => {
        before = null; // a slider that was moved back to where it began does not say that it has changed
      },
      onchange: () => {
        before = null;
      },
    });
    const element = el("div", { class: "part", role: "group", "aria-label": `Part ${index + 1}` },
      el("div", { class: "part-head" },
        el("span", { class: "part-name" }, `Part ${index + 1}`),
        el("div", { class: "share" }, el("label", { for: slider.id }, "Share"), slider, value),
        button("×", () => remove(blend.indexOf(part)), {
          class: "quiet remove", "aria-label": `Remove ${name} of the blend`,
        })),
      ...what, note);

    function show(share, alone) {
      const said = [part.profile ?? part.info, ...part.attributes.map((entry) => entry.value)].some((text) => text.trim());
      const empty = "Empty: this share goes to User Info as it is above.";
      slider.disabled = share === null || alone;
      if (share !== null) slider.value = String(share);
      slider.setAttribute("aria-valuetext", share === null ? "left out" : `${share} of 1`);
      value.textContent = share === null ? "–" : String(share);
      note.textContent = share === null ? "Without a name this part is left out." : said || part.examples ? "" : empty;
    }

    return { element, show, editor, first };
  }

  /** Say what the shares are. */
  function tell() {
    const found = shares();
    const counted = found.filter((share) => share !== null);
    views.forEach((view, index) => view.show(found[index], counted.length === 1));
    const alone = counted.length ? "One part has the whole share." : "";
    setText(sum, counted.length > 1 ? `${counted.join(" + ")} = 1` : alone);
  }

  function draw() {
    views = blend.map(partView);
    parts.replaceChildren(...views.map((view) => view.element));
    const full = blend.length >= MAX_PARTS;
    addText.hidden = full;
    addProfile.hidden = full;
    hint.textContent = full ? "Four parts are the most." : blend.length ? "" : "User tiers, mixed by shares";
    element.classList.toggle("has-parts", blend.length > 0);
    tell();
  }

  const element = el("div", { class: "blend is-user", role: "group", "aria-labelledby": titleId },
    el("div", { class: "blend-head" }, el("span", { class: "blend-name", id: titleId }, "Blend"), sum),
    parts,
    el("div", { class: "blend-add" }, addText, addProfile, hint));
  draw();
  return {
    element,
    show(rendered) {
      for (const { editor } of views) editor?.show(rendered);
    },
  };
}
