// The editor of one tier: free text, one row for each dimension that is set, and how strongly it acts.

import { button, count, el, field, newId, options, quoted } from "./dom.js";
import { STRENGTH_MARKS, strengthDial } from "./strength.js";

const ANOTHER = "another";
const PRIORITIES = "priorities";
const DIMENSION_NAME = /^[a-z][a-z0-9_]{0,31}$/;

const TIERS = {
  system: { title: "System Info", who: "from the provider", hint: "For example: Answer like a pirate.", strength: "System strength" },
  user: { title: "User Info", who: "from the reader", hint: "For example: My name is Ada.", strength: "User strength" },
};

/** Where open dimensions get their suggestions from, and sliders their mark; one list for the whole page. */
export function suggestionLists(known) {
  const values = known.dimensions
    .filter((dimension) => dimension.open && dimension.values.length)
    .map((dimension) =>
      el("datalist", { id: `values-${dimension.name}` }, ...dimension.values.map((value) => el("option", { value }))),
    );
  return [...values, el("datalist", { id: STRENGTH_MARKS }, el("option", { value: 1, label: "as trained" }))];
}

/**
 * What a tier, or a part of a blend, says: an editor of `side`, which it changes as the reader types.
 *
 * @param tier "system" or "user".
 * @param title What it is called.
 * @param hint An example.
 * @param side The wishes of a column's state.
 * @param known What the server says of dimensions and limits.
 * @param changed Called after each change.
 * @returns The text field, all elements with it, and `show(rendered)` for what a dry run says.
 */
export function wishEditor(tier, title, hint, side, known, changed) {
  const info = el("textarea", {
    id: newId("info"),
    rows: 1,
    maxlength: known.limits.info,
    placeholder: hint,
    "data-part": "info",
    oninput: () => {
      side.info = info.value;
      changed();
    },
  });
  info.value = side.info;
  const rows = el("div", { class: "rows" });
  const add = el("select", { class: "add", "aria-label": `Add a dimension to ${title}`, onchange: addRow });
  const order = el("input", {
    type: "text",
    placeholder: "harmlessness, helpfulness",
    "data-part": "priorities",
    oninput: () => {
      side.priorities = order.value;
      changed();
    },
  });
  order.value = side.priorities;
  const priorities = field("Most important first", order);
  priorities.classList.add("priorities");
  priorities.hidden = !side.priorities;

  function refreshAdd() {
    const taken = new Set(side.attributes.map((entry) => entry.name));
    const free = known.dimensions.filter((dimension) => !taken.has(dimension.name));
    options(add, [
      ["", "+ Add"],
      ...(tier === "system" && priorities.hidden ? [[PRIORITIES, "priorities: what comes first"]] : []),
      ...free.map((dimension) => [dimension.name, `${dimension.name}: ${dimension.summary}`]),
      [ANOTHER, "one of your own …"],
    ], "");
    add.disabled = side.attributes.length >= known.limits.attributes;
  }

  function addRow() {
    const name = add.value;
    if (!name) return;
    if (name === PRIORITIES) {
      priorities.hidden = false;
      refreshAdd();
      order.focus();
      return;
    }
    const entry = { name: name === ANOTHER ? "" : name, value: "", locked: false };
    const dimension = known.dimensions.find((each) => each.name === name);
    if (dimension && !dimension.open) entry.value = dimension.values[0];
    side.attributes.push(entry);
    draw();
    rows.lastElementChild.querySelector("input, select").focus();
    changed();
  }

  function valueControl(entry, dimension) {
    const set = () => {
      entry.value = control.value;
      changed();
    };
    let control;
    if (dimension && !dimension.open) {
      control = el("select", { onchange: set });
      options(control, dimension.values.map((value) => [value, value.replaceAll("_", " ")]));
      // A link or a profile may hold anything; what is no value shows as the first one, and then is it.
      if (!dimension.values.includes(entry.value)) entry.value = dimension.values[0];
    } else {
      const list = dimension?.values.length ? `values-${dimension.name}` : null;
      control = el("input", {
        type: "text", list, maxlength: known.limits.attribute_value, placeholder: dimension ? dimension.summary : "value", oninput: set,
      });
    }
    control.value = entry.value;
    return control;
  }

  function row(entry) {
    const dimension = known.dimensions.find((each) => each.name === entry.name);
    const control = valueControl(entry, dimension);
    control.id = newId("value");
    let name;
    if (dimension) {
      name = el("label", { for: control.id }, entry.name);
    } else {
      name = el("input", {
        type: "text",
        class: "own",
        "aria-label": "Name of your dimension",
        placeholder: "name",
        maxlength: 32,
        oninput: () => {
          const wanted = name.value.trim().toLowerCase().replace(/[\s-]+/g, "_");
          const usable = DIMENSION_NAME.test(wanted) && !side.attributes.some((other) => other !== entry && other.name === wanted);
          name.setCustomValidity(usable || !wanted ? "" : "Letters, digits and _; each name once.");
          name.reportValidity();
          entry.name = usable ? wanted : "";
          changed();
        },
      });
      name.value = entry.name;
      control.setAttribute("aria-label", "Value of your dimension");
    }
    const lost = el("p", { class: "lost", role: "status", hidden: true });
    const remove = button("×", () => {
      side.attributes.splice(side.attributes.indexOf(entry), 1);
      draw();
      add.focus();
      changed();
    }, { class: "quiet", "aria-label": `Remove ${entry.name || "this dimension"} from ${title}` });
    const lock = tier === "system"
      ? button("Lock", () => {
          entry.locked = !entry.locked;
          lock.setAttribute("aria-pressed", String(entry.locked));
          changed();
        }, {
          class: "quiet lock",
          "aria-pressed": String(entry.locked),
          title: "No later layer of System Info may change it",
          "aria-label": `Lock ${entry.name || "this dimension"}: no later layer may change it`,
        })
      : null;
    return el("div", { class: "row", "data-dimension": entry.name || ANOTHER }, name, control, lock, remove, lost);
  }

  function draw() {
    rows.replaceChildren(...side.attributes.map(row));
    refreshAdd();
  }

  /** Show which rows have lost, from the answer of a dry run; null if it is not known. */
  function show(rendered) {
    for (const [index, element] of [...rows.children].entries()) {
      const entry = side.attributes[index];
      const loss = rendered?.metaalign.overridden.find(
        (each) => each.tier === tier && each.dimension === entry.name && each.value === entry.value.trim(),
      );
      element.classList.toggle("has-lost", Boolean(loss));
      const line = element.querySelector(".lost");
      line.hidden = !loss;
      line.textContent = loss ? `Loses to ${quoted(loss.kept)} of ${loss.by.startsWith("system") ? "System Info" : "User Info"}` : "";
    }
  }

  draw();
  return { info, elements: [info, priorities, rows, add], show };
}

/**
 * The editor of a whole tier; its parameters are those of `wishEditor`.
 *
 * @returns The element, `show(rendered)`, and the dial of its strength.
 */
export function tierEditor(tier, side, known, changed) {
  const texts = TIERS[tier];
  const titleId = newId("tier");
  const tokens = el("span", { class: "tokens" });
  const wishes = wishEditor(tier, texts.title, texts.hint, side, known, changed);
  const dial = strengthDial(texts.strength, side, changed);

  function show(rendered) {
    tokens.textContent = rendered ? count(rendered.metaalign.tokens[`${tier}_info`], "token") : "";
    wishes.show(rendered);
  }

  const element = el("div", { class: `tier is-${tier}`, role: "group", "aria-labelledby": titleId, "data-tier": tier },
    el("div", { class: "tier-head" },
      el("label", { id: titleId, for: wishes.info.id }, texts.title), el("span", { class: "who" }, texts.who), tokens),
    ...wishes.elements, dial.element);
  return { element, show, dial };
}
