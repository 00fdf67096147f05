// The receipt in words: what was applied, what lost to whom, which checks passed.

import { count, el, quoted } from "./dom.js";

const TIERS = { system: "the provider", user: "the user" };
const shown = (name) => name.replaceAll("_", " ");
const listed = (all) => (all.length > 1 ? `${all.slice(0, -1).join(", ")} and ${all.at(-1)}` : String(all[0]));
const capital = (name) => name.charAt(0).toUpperCase() + name.slice(1);

/** The layer that won, for example `system:profile museum:1`, as people say it. */
function winner(by) {
  const [tier, ...rest] = by.split(":");
  const source = rest.join(":");
  const who = TIERS[tier] ?? tier;
  const stored = /^(profile|feedback on) (.+):(\d+)$/.exec(source);
  if (source === "request") return `${who} in this request`;
  if (source === "messages") return `${who} in a message`;
  if (source === "tenant") return "the operator’s policy, which nothing overrides";
  if (stored) return `${who} in the profile ${stored[2]}, version ${stored[3]}`;
  return `${who} (${source})`;
}

/** One overridden value as a sentence. */
export function overriddenSentence({ dimension, tier, value, kept, by }) {
  const who = TIERS[tier] ?? tier;
  return `${capital(shown(dimension))}: ${quoted(value)} of ${who} lost to ${quoted(kept)}, set by ${winner(by)}.`;
}

function appliedSentence(receipt) {
  const { system_info: system, user_info: user } = receipt.tokens;
  if (!receipt.applied) return "Nothing was applied: the model read the question alone.";
  const parts = [];
  if (system) parts.push(`System Info (${count(system, "token")})`);
  if (user) parts.push(`User Info (${count(user, "token")})`);
  return `${parts.join(" and ")} ${parts.length > 1 ? "were" : "was"} applied.`;
}

/** How the answer was steered, as sentences. */
function steeringSentences({ strength, branches, blend, candidates, score }) {
  const said = [`Strength: ${strength.system} of System Info, ${strength.user} of User Info; ${count(branches, "branch", "branches")} drew each token.`];
  if (blend) {
    const weights = listed(blend.map((weight) => Number(weight.toFixed(3))));
    said.push(`A blend of ${count(blend.length, "User tier")}, with the ${blend.length === 1 ? "weight" : "weights"} ${weights}.`);
  }
  if (candidates) {
    const scored = typeof score === "number" ? `, with a score of ${score.toFixed(3)} nats a token` : "";
    said.push(`The best of ${candidates} candidates${scored}.`);
  }
  return said;
}

/** The verdict of one answer: its mark, and a line for each check. */
export function verdict(verified) {
  if (verified.passed === null) {
    return el("p", { class: "verdict is-open" }, "Not checked: no dimension here can be checked by a program.");
  }
  const lines = verified.checks.map((check) =>
    el("li", { class: check.passed ? "is-passed" : "is-failed" },
      el("strong", {}, `${check.passed ? "Passed" : "Failed"}: ${shown(check.name)}`), ` (${check.why})`),
  );
  return el("ul", { class: "verdict" }, ...lines);
}

/** The receipt as elements; `facts` are small things below it, such as the time that the answer took. */
export function receiptElements(receipt, facts = []) {
  const parts = [el("p", {}, appliedSentence(receipt))];
  if (receipt.profiles.length) {
    const names = receipt.profiles.map((name) => name.replace(/:(\d+)$/, ", version $1"));
    parts.push(el("p", {}, `From the profile ${names.join("; then ")}.`));
  }
  if (receipt.learned_examples) {
    parts.push(el("p", {}, `${count(receipt.learned_examples, "liked answer")} served as examples.`));
  }
  if (receipt.steering) parts.push(...steeringSentences(receipt.steering).map((text) => el("p", {}, text)));
  for (const entry of receipt.overridden) {
    parts.push(el("p", { class: "lost" }, overriddenSentence(entry)));
  }
  if (!receipt.overridden.length && receipt.applied) parts.push(el("p", {}, "Nothing was overridden."));
  for (const verified of receipt.verified ?? []) parts.push(verdict(verified));
  const template = `${receipt.template.name}/${receipt.template.version}`;
  const small = [...facts, ["template", template], ["spec", receipt.spec_hash.slice(0, 12)]];
  parts.push(el("dl", {}, ...small.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
  return parts;
}
