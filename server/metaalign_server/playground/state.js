// What the page is about: a question and columns of preferences. All of it fits into a link; the key is no part of it.

export const MIN_COLUMNS = 2;
export const MAX_COLUMNS = 4;
export const LETTERS = "ABCD";
export const MAX_STRENGTH = 4;
export const MAX_CANDIDATES = 16;
export const MAX_PARTS = 4;

/** What a tier says: `attributes` is a list of {name, value, locked}, so that rows keep places while they are typed. */
const wishes = (given) => ({
  info: given.info ?? "",
  priorities: given.priorities ?? "",
  attributes: Object.entries(given.attributes ?? {}).map(([name, value]) => ({
    name,
    value,
    locked: (given.locked ?? []).includes(name),
  })),
});

const asTier = (given) => (typeof given === "string" ? { info: given } : (given ?? {}));

/** A part of a blend: what it says, or, where `profile` is text, the name of the profile that says it. */
export const partOf = ({ weight, profile, user }) => ({
  weight,
  profile: profile ?? null,
  ...wishes(asTier(user)),
  ...(user?.examples?.length ? { examples: user.examples } : {}),
});

/**
 * A column from preferences as the API writes them. A strength or a number of candidates that is null is not set, which
 * is not 1: a profile's own holds. `stored` is what the column's profile says of {strength, blend, candidates}, once a
 * dry run has told; it is in no link.
 */
export function columnOf(preferences = {}) {
  const { strength } = preferences;
  const side = (name) => ({
    ...wishes(asTier(preferences[name])),
    strength: (typeof strength === "number" ? strength : strength?.[name]) ?? null,
  });
  const column = {
    profile: [preferences.profile ?? []].flat().join(", "),
    system: side("system"),
    user: side("user"),
    blend: (preferences.blend ?? []).map(partOf),
    candidates: preferences.candidates ?? null,
    stored: null,
  };
  const order = preferences.system?.priorities;
  if (Array.isArray(order)) column.system.priorities = order.join(", ");
  // The page has no field for these, so they travel as they are, and are not lost when a version is saved again.
  if (preferences.user?.examples?.length) column.examples = preferences.user.examples;
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

// Blends

/** `weights` as hundredths that sum to `whole` of them, each at least one. */
function hundredths(weights, whole) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const quotas = weights.map((weight) => (whole * weight) / total);
  const counts = quotas.map((quota) => Math.max(1, Math.floor(quota)));
  const left = () => whole - counts.reduce((sum, each) => sum + each, 0);
  const furthest = (by) => {
    const found = quotas.map(by);
    return found.indexOf(Math.max(...found));
  };
  while (left() > 0) counts[furthest((quota, index) => quota - counts[index])] += 1;
  while (left() < 0) counts[furthest((_, index) => counts[index])] -= 1;
  return counts;
}

/** Shares that sum to 1, in hundredths. */
export const apportioned = (weights) => hundredths(weights, 100).map((each) => each / 100);

/** The shares after the one at `index` was moved to `wanted`: the others make room for it, in proportion. */
export function moved(weights, index, wanted) {
  if (weights.length === 1) return [1];
  const others = weights.filter((_, other) => other !== index);
  const own = Math.min(Math.max(Math.round(wanted * 100), 1), 100 - others.length);
  const shares = hundredths(others, 100 - own);
  shares.splice(index, 0, own);
  return shares.map((each) => each / 100);
}

/** Whether a part can be sent: a profile that has no name yet cannot. */
export const isReady = (part) => part.profile === null || part.profile.trim() !== "";

/** The blend of a request. Its weights sum to 1, whatever parts are not ready. */
function blendPreferences(blend) {
  const ready = blend.filter(isReady);
  if (!ready.length) return [];
  const weights = ready.map((part) => part.weight);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const even = Math.abs(total - 1) < 1e-9; // then a stored version stays as it is, to the last digit
  const shares = even ? weights : apportioned(weights); // what the page shows
  return ready.map((part, index) => {
    const weight = shares[index];
    if (part.profile !== null) return { weight, profile: part.profile.trim() };
    return { weight, user: { ...tierPreferences(part, false), ...(part.examples ? { examples: part.examples } : {}) } };
  });
}

/** Whether a blend takes the place of the column's User tier: its own, or one that its profile holds. */
export const isBlended = (column) => column.blend.some(isReady) || Boolean(column.stored?.blend);

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
  const blend = blendPreferences(column.blend);
  if (blend.length) preferences.blend = blend;
  // What is not set is left out: a profile's own holds, and a server that does not steer is not asked to.
  const strength = {};
  if (column.system.strength !== null) strength.system = column.system.strength;
  // A blend takes no strength of the User tier, so a profile's is taken back where there could be one.
  if (!isBlended(column)) {
    if (column.user.strength !== null) strength.user = column.user.strength;
  } else if (preferences.profile) {
    strength.user = 1;
  }
  if (Object.keys(strength).length) preferences.strength = strength;
  if (column.candidates !== null) preferences.candidates = column.candidates;
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
    if (side.strength !== null && !(side === column.user && isBlended(column))) said.push(`strength ${side.strength}`);
    if (said.length) parts.push(`${name}: ${said.join(", ")}`);
  }
  if (column.blend.length) parts.push(`a blend of ${column.blend.length}`);
  if (column.candidates > 1) parts.push(`best of ${column.candidates}`);
  return parts.join(" · ") || "no preferences";
}

// Links

const PREFIX = "#p=";
const MAX_LINK = 200_000; // characters; all that can be typed into four columns

/** The state as a fragment, which browsers do not send to any server. */
export function toFragment(state) {
  const kept = JSON.stringify(state, (name, value) => (name === "stored" ? undefined : value));
  const bytes = new TextEncoder().encode(kept);
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return PREFIX + btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

const text = (value, longest) => (typeof value === "string" ? value.slice(0, longest) : "");
const number = (value, low, high, fallback) =>
  typeof value === "number" && value >= low && value <= high ? value : fallback;
const wholeOrNull = (value) => (value === null ? null : Math.round(value));

function readWishes(given) {
  const attributes = Array.isArray(given?.attributes) ? given.attributes.slice(0, 32) : [];
  return {
    info: text(given?.info, 8000),
    priorities: text(given?.priorities, 600),
    attributes: attributes.map((entry) => ({
      name: text(entry?.name, 32),
      value: text(entry?.value, 200),
      locked: entry?.locked === true,
    })),
  };
}

const readTier = (given) => ({ ...readWishes(given), strength: number(given?.strength, 0, MAX_STRENGTH, null) });

const readPart = (given) => ({
  weight: number(given?.weight, 1e-6, 1, 0.01),
  profile: typeof given?.profile === "string" ? text(given.profile, 128) : null,
  ...readWishes(given),
  ...(Array.isArray(given?.examples) ? { examples: given.examples.slice(0, 8) } : {}),
});

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
      blend: Array.isArray(column?.blend) ? column.blend.slice(0, MAX_PARTS).map(readPart) : [],
      candidates: wholeOrNull(number(column?.candidates, 1, MAX_CANDIDATES, null)),
      stored: null,
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
