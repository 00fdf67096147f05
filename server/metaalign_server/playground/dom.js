// Elements from code. Text only ever becomes a text node, so nothing that a server or a reader wrote can become markup.

let made = 0;

/** A new id, to tie labels to what they label. */
export function newId(name) {
  made += 1;
  return `${name}-${made}`;
}

/**
 * A new element. Attributes that begin with "on" are listeners; false and null leave an attribute out, true sets it
 * empty. Children are nodes or text; null is left out.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** A button with a visible text; `label` is what a screen reader says instead, where the text alone is not enough. */
export function button(text, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, text);
}

/** A labelled control, as two elements of one line. */
export function field(label, control) {
  control.id ||= newId("field");
  return el("span", { class: "field" }, el("label", { for: control.id }, label), control);
}

export function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => el("option", { value }, text)));
  if (chosen !== undefined) select.value = chosen;
}

/** Call `action` once nothing has happened for a while. */
export function debounced(milliseconds, action) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}

/** Call `action` once what is in the page now has been drawn. */
export function afterPaint(action) {
  requestAnimationFrame(() => setTimeout(action));
}

/** Tell screen readers, which do not see what has changed elsewhere on the page. */
export function say(text) {
  $("said").textContent = text;
}

/** Give an element its text, unless it has it: a screen reader would read it out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A problem as a sentence beside what it is about, or nothing. */
export function showProblem(place, problem) {
  place.textContent = problem ? problem.message : "";
  place.hidden = !problem;
}

/** What is between `a` and `b`, as people write it. */
export const quoted = (text) => `“${text}”`;
export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
