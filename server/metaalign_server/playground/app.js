// The page: reads the link, holds the state, and lets the parts know of each other.

import { call, readKnown, setKey } from "./api.js";
import { $, button, debounced, options, say, showProblem } from "./dom.js";
import { Column } from "./column.js";
import { suggestionLists } from "./editor.js";
import { PRESETS } from "./presets.js";
import { profilesBench } from "./profiles.js";
import { MAX_COLUMNS, MIN_COLUMNS, columnOf, fromFragment, newState, toFragment } from "./state.js";
import { swapTest } from "./swap.js";
import { blindVote } from "./vote.js";

const known = await readKnown().catch(() => {
  showProblem($("notice"), { message: "The server went away while the page was loading. Reload it." });
  throw new Error("the page is incomplete");
});
const fromPreset = (preset) => newState(preset.query, preset.columns.map(columnOf));

let state = fromFragment(location.hash) ?? fromPreset(PRESETS[0]);
let views = [];

// The address follows the state, so that a reload keeps it. Not at each key stroke: browsers slow pages down that do so.
const remember = debounced(400, () => history.replaceState(null, "", toFragment(state)));

const page = {
  known,
  locked: false, // whether the server has asked for a key; until there is one, dry runs would only be refused
  columns: () => state.columns,
  changed: remember,

  /** Ask again what profiles hold: another key sees others, and a version or a label may be new. */
  forget() {
    for (const column of state.columns) column.stored = null;
    renderAll();
  },

  removable: () => state.columns.length > MIN_COLUMNS,
  addable: () => state.columns.length < MAX_COLUMNS,

  /** The question, and the options of a request for an answer. */
  request() {
    const model = $("model").value ? { model: $("model").value } : {};
    return {
      query: state.query.trim(),
      verify: state.verify,
      model,
      body: { ...model, temperature: state.temperature, max_completion_tokens: state.limit },
    };
  },

  needQuery() {
    showProblem($("notice"), { message: "Type a question first." });
    $("query").focus();
  },

  remove(view) {
    const index = views.indexOf(view);
    view.stop();
    state.columns.splice(index, 1);
    views.splice(index, 1);
    view.element.remove();
    arrange();
    views[Math.min(index, views.length - 1)].removeButton.focus();
    say(`Column removed; there are ${views.length}.`);
  },

  copy(view) {
    add(structuredClone(view.column));
  },

  /** Put other preferences into the column number `index`. */
  replace(index, column) {
    const view = new Column(column, page);
    views[index].stop();
    views[index].element.replaceWith(view.element);
    state.columns[index] = column;
    views[index] = view;
    arrange();
  },
};

function add(column) {
  state.columns.push(column);
  const view = new Column(column, page);
  views.push(view);
  $("columns").append(view.element);
  arrange();
  view.element.querySelector("textarea, summary").focus();
  say(`There are ${views.length} columns.`);
}

/** Let everything know how many columns there are. */
function arrange() {
  views.forEach((view, index) => view.place(index));
  $("columns").dataset.count = String(views.length);
  $("add-column").hidden = !page.addable();
  vote.refresh();
  profiles.refresh();
  remember();
}

function draw() {
  for (const view of views) view.stop();
  $("query").value = state.query;
  $("temperature").value = String(state.temperature);
  $("limit").value = String(state.limit);
  $("verify").checked = state.verify;
  views = state.columns.map((column) => new Column(column, page));
  $("columns").replaceChildren(...views.map((view) => view.element));
  arrange();
}

async function ask() {
  showProblem($("notice"), null);
  if (!$("ask").reportValidity()) return;
  if (!state.query.trim()) {
    page.needQuery();
    return;
  }
  const asked = [...views];
  await Promise.all(asked.map((view) => view.ask()));
  const complete = asked.filter((view) => view.answer).length;
  if (complete > 1) say(`${complete} answers are complete.`); // a reader of screens would hear only the last of many
}

function renderAll() {
  for (const view of views) view.renderSoon();
}

/** Look who answers: the models, and whether there is a key to be typed. */
async function look() {
  const place = $("server");
  try {
    const { data } = await call("GET", "v1/models");
    page.locked = false;
    const names = data.map((model) => model.id);
    options($("model"), names.map((name) => [name, name]), names.includes($("model").value) ? $("model").value : names[0]);
    $("model-field").hidden = names.length < 2;
    place.textContent = names.length > 1 ? `${names.length} models` : names[0];
    place.className = "server is-ready";
    showProblem($("notice"), null);
    profiles.list();
  } catch (error) {
    page.locked = error.status === 401;
    place.textContent = error.status === 401 ? "asks for a key" : "no answer";
    place.className = "server is-away";
    showProblem($("notice"), error);
  }
}

async function share() {
  const address = new URL(toFragment(state), location.href).href;
  history.replaceState(null, "", address);
  try {
    await navigator.clipboard.writeText(address);
    say("The link is copied. It holds the question and the preferences, and no key.");
    $("share").textContent = "Copied";
    setTimeout(() => { $("share").textContent = "Copy link"; }, 2000);
  } catch {
    // Browsers allow it on secure pages only; the address bar has the link by now.
    showProblem($("notice"), { message: "This browser does not let the page copy. The address bar has the link: copy it there." });
  }
}

const numbers = [["temperature", "temperature"], ["limit", "limit"]];
for (const [id, name] of numbers) {
  $(id).addEventListener("input", () => {
    if ($(id).checkValidity()) state[name] = $(id).valueAsNumber;
    remember();
  });
}
$("verify").addEventListener("change", () => {
  state.verify = $("verify").checked;
  remember();
});
$("query").addEventListener("input", () => {
  state.query = $("query").value;
  remember();
  renderAll();
});
$("query").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("model").addEventListener("change", renderAll);
$("add-column").addEventListener("click", () => add(columnOf()));
$("share").addEventListener("click", share);
const tryKey = debounced(500, async () => {
  await look();
  page.forget();
});
$("key").addEventListener("input", () => {
  setKey($("key").value);
  tryKey();
});
addEventListener("hashchange", () => {
  const given = fromFragment(location.hash);
  if (!given) return;
  state = given;
  draw();
});

$("key").value = ""; // some browsers fill it in again after a reload
document.body.append(...suggestionLists(known));
$("version").textContent = `MetaAlign ${known.version}.`;
for (const preset of PRESETS) {
  document.querySelector(".presets").append(button(preset.name, () => {
    state = { ...fromPreset(preset), verify: state.verify };
    draw();
    ask();
  }, { class: "chip" }));
}
swapTest($("swap"), page);
const vote = blindVote($("vote"), page);
const profiles = profilesBench($("profiles"), page);
draw();
look();
