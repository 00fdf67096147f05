// What the page is about: a question and columns of preferences. All of it fits into a link; the key is no part of it.

export const MIN_COLUMNS = 2;
export const MAX_COLUMNS = 4;
export const LETTERS = "ABCD";
export const MAX_STRENGTH = 4;
export const MAX_CANDIDATES = 16;

/**
 * A tier: `attributes` is a list of {name, value, locked}, so that rows keep their places while they are typed, and
 * `strength` says how strongly it acts.
 */
const tier = (given, strength) => ({
  info: given.info ?? "",
  priorities: given.priorities ?? "",
  attributes: Object.entries(given.attributes ?? {}).map(([name, value]) => ({
    name,
    value,
    locked: (given.locked ?? []).includes(name),
  })),
  strength: strength ?? 1,
});

/** A column from preferences as the API writes them. */
export function columnOf(preferences = {}) {
  const { strength } = preferences;
  const side = (name) => {
    const given = preferences[name];
    return tier(typeof given === "string" ? { info: given } : (given ?? {}), typeof strength === "number" ? strength : strength?.[name]);
  };
  const column = {
    profile: [preferences.profile ?? []].flat().join(", "),
    system: side("system"),
    user: side("user"),
    candidates: preferences.candidates ?? 1,
  };
  const order = preferences.system?.priorities;
  if (Array.isArray(order)) column.system.priorities = order.join(", ");
  // The page has no fields for these, so they travel as they are, and are not lost when a version is saved again.
  if (preferences.user?.examples?.length) column.examples = preferences.user.examples;
  if (preferences.blend?.length) column.blend = preferences.blend;
  return column;
}

export function newState(query, columns) {
  return { query, temperature: 0, limit: 200, verify: true, columns };
}

const words = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);

function tierPreferences(side, isSystem) {
  const set = side.attributes.filter(({ name, value }) => name && value.trim());
  const result = {};
  if (side.info.trim()) result.info = side.info;
  if (set.length) result.attributes = Object.fromEntries(set.map(({ name, value }) => [name, value.trim()]));
  if (isSystem) {
    const priorities = words(side.priorities);
    const locked = set.filter((entry) => entry.locked).map((entry) => entry.name);
    if (priorities.length) result.priorities = priorities;
    if (locked.length) result.locked = [...new Set(locked)];
  }
  return Object.keys(result).length ? result : null;
}

/** The `preferences` of a request; without profile references where they are to be stored as a profile. */
export function toPreferences(column, { stored = false } = {}) {
  const preferences = {};
  const references = words(column.profile);
  if (references.length && !stored) preferences.profile = references;
  const system = tierPreferences(column.system, true);
  const user = tierPreferences(column.user, false);
  if (system) preferences.system = system;
  if (user) preferences.user = user;
  if (column.examples) preferences.user = { ...preferences.user, examples: column.examples };
  if (column.blend) preferences.blend = column.blend;
  // What is as trained is left out: a profile's own stays, and a server that does not steer is not asked to.
  const strength = Object.fromEntries(["system", "user"].map((name) => [name, column[name].strength]).filter(([, value]) => value !== 1));
  if (Object.keys(strength).length) preferences.strength = strength;
  if (column.candidates > 1) preferences.candidates = column.candidates;
  return preferences;
}

/** A column in a few words, for headings and for what is folded away. */
export function summary(column) {
  const parts = [];
  if (column.profile.trim()) parts.push(`profile ${column.profile.trim()}`);
  for (const [name, side] of [["System", column.system], ["User", column.user]]) {
    const said = side.attributes.filter((entry) => entry.name && entry.value).map((entry) => `${entry.name} ${entry.value}`);
    if (side.priorities.trim()) said.push(`first ${words(side.priorities)[0]}`);
    if (side.info.trim()) said.push(side.info.trim().length > 40 ? `${side.info.trim().slice(0, 39)}…` : side.info.trim());
    if (side.strength !== 1) said.push(`strength ${side.strength}`);
    if (said.length) parts.push(`${name}: ${said.join(", ")}`);
  }
  if (column.candidates > 1) parts.push(`best of ${column.candidates}`);
  return parts.join(" · ") || "no preferences";
}

// Links

const PREFIX = "#p=";
const MAX_LINK = 200_000; // characters; all that can be typed into four columns

/** The state as a fragment, which browsers do not send to any server. */
export function toFragment(state) {
  const bytes = new TextEncoder().encode(JSON.stringify(state));
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return PREFIX + btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

const text = (value, longest) => (typeof value === "string" ? value.slice(0, longest) : "");
const number = (value, low, high, fallback) =>
  typeof value === "number" && value >= low && value <= high ? value : fallback;

function readTier(given) {
  const attributes = Array.isArray(given?.attributes) ? given.attributes.slice(0, 32) : [];
  return {
    info: text(given?.info, 8000),
    priorities: text(given?.priorities, 600),
    attributes: attributes.map((entry) => ({
      name: text(entry?.name, 32),
      value: text(entry?.value, 200),
      locked: entry?.locked === true,
    })),
    strength: number(given?.strength, 0, MAX_STRENGTH, 1),
  };
}

/** The state in a fragment, or null if there is none. Anybody may have written it, so only known parts are taken. */
export function fromFragment(fragment) {
  if (!fragment.startsWith(PREFIX) || fragment.length > MAX_LINK) return null;
  try {
    const binary = atob(fragment.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/"));
    const given = JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (c) => c.charCodeAt(0))));
    const columns = given.columns.slice(0, MAX_COLUMNS).map((column) => ({
      profile: text(column?.profile, 600),
      system: readTier(column?.system),
      user: readTier(column?.user),
      candidates: Math.round(number(column?.candidates, 1, MAX_CANDIDATES, 1)),
      ...(Array.isArray(column?.blend) ? { blend: column.blend.slice(0, 4) } : {}),
      ...(Array.isArray(column?.examples) ? { examples: column.examples.slice(0, 8) } : {}),
    }));
    while (columns.length < MIN_COLUMNS) columns.push(columnOf());
    const state = newState(text(given.query, 8000), columns);
    state.temperature = number(given.temperature, 0, 2, 0);
    state.limit = Math.round(number(given.limit, 1, 100_000, 200));
    state.verify = given.verify !== false;
    return state;
  } catch {
    return null; // cut off on its way, or not ours
  }
}
