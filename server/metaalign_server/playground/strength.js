// The dial of a tier: how strongly it acts. What is not set is not 1: then what is stored holds.

import { button, el, newId, setText } from "./dom.js";
import { MAX_STRENGTH } from "./state.js";

export const STRENGTH_MARKS = "strength-marks";

const MEANINGS = { 0: ", as if it were not there", 1: ", as trained" };
const written = (value) => String(Number(value.toFixed(2)));

/**
 * A slider for `side.strength`, which it changes.
 *
 * @param title What it is called.
 * @param side The tier of a column's state.
 * @param changed Called after each change.
 * @returns The element, and `show(facts)`: `profile`, whether the column uses one; `stored`, the profile's own strength,
 *   null if nobody knows; `acting`, what holds while nothing is set; `blocked`, why there can be none, or nothing.
 */
export function strengthDial(title, side, changed) {
  let facts = { profile: false, stored: null, acting: 1, blocked: "" };
  const value = el("output", {});
  const why = el("p", { class: "why", id: newId("why"), role: "status" });
  const slider = el("input", {
    type: "range", id: newId("strength"), min: 0, max: MAX_STRENGTH, step: 0.1, list: STRENGTH_MARKS,
    "aria-describedby": why.id,
    title: "1 is as trained, 0 as if it were not there. Move it, click it or press Enter to set it",
    oninput: () => set(slider.valueAsNumber),
    // What is shown while nothing is set becomes the column's own, without a move of the slider.
    onclick: () => side.strength ?? set(facts.acting),
    onkeydown: (event) => {
      if (event.key === "Enter" && side.strength === null) set(facts.acting);
    },
  });
  const back = button("", () => {
    set(null);
    slider.focus(); // this button is gone now
  }, { class: "quiet back" });

  function set(strength) {
    side.strength = strength;
    draw();
    changed();
  }

  function draw() {
    const { profile, stored, acting, blocked } = facts;
    const own = side.strength !== null;
    const shown = own ? side.strength : acting;
    const state = profile ? "as stored: " : "not set: ";
    const meaning = MEANINGS[shown] ?? "";
    slider.value = String(shown); // a stored value between two steps is kept until the slider is moved
    slider.disabled = Boolean(blocked);
    slider.setAttribute("aria-valuetext", `${own ? "" : state}${written(shown)}${meaning}`);
    element.classList.toggle("is-set", own);
    const unset = profile || acting !== 1 ? `${state}${written(shown)}` : "not set";
    setText(value, blocked ? "none" : own ? written(shown) : unset);
    back.textContent = !profile ? "Clear strength" : stored === null ? "As stored" : `As stored: ${written(stored)}`;
    back.hidden = !own || Boolean(blocked);
    setText(why, blocked);
  }

  const element = el("div", { class: "strength" }, el("label", { for: slider.id }, title), slider, value, back, why);
  draw();
  return {
    element,
    show(told) {
      facts = told;
      draw();
    },
  };
}
