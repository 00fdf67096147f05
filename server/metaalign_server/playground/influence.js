// The influence map: how much likelier each token of an answer is because of a tier, log p with it minus log p without it.

import { Problem, call } from "./api.js";
import { el } from "./dom.js";

const TIERS = { system: "System Info", user: "User Info" };
const STEPS = [0.5, 2, 5, 9]; // nats: below the first, a token is as likely without the tier

/** Score `text` as the answer to `messages` under `preferences`: the prompt's tokens, each with its log probability. */
async function score(body, messages, text, preferences, signal) {
  const answer = await call("POST", "v1/chat/completions", {
    ...body,
    messages: [...messages, { role: "assistant", content: text }],
    preferences,
    add_generation_prompt: false,
    continue_final_message: true,
    prompt_logprobs: 0,
    max_completion_tokens: 1,
    store: false, // scoring is no exchange that anybody could rate
  }, signal);
  return (answer.prompt_logprobs ?? []).map((entry) => {
    const [id, said] = Object.entries(entry ?? { "": { logprob: 0, decoded_token: "" } })[0];
    return { id, logprob: said.logprob, text: said.decoded_token };
  });
}

/**
 * Compare with and without each tier that `preferences` set.
 *
 * @returns Tokens {text, tier, gain}: the tier that matters most, and by how much, in nats; `tier` is null below 0.5.
 */
export async function influence(body, query, text, preferences, signal) {
  const messages = [{ role: "user", content: query }];
  const { model } = body;
  const tiers = Object.keys(TIERS).filter((tier) => preferences[tier]);
  if (!tiers.length) throw new Problem("This column sets no tier itself, so there is nothing to leave out.");
  const without = (tier) => Object.fromEntries(Object.entries(preferences).filter(([name]) => name !== tier));
  const [rendered, whole, ...others] = await Promise.all([
    call("POST", "v1/preferences/render", { messages, preferences, ...(model ? { model } : {}) }, signal),
    score(body, messages, text, preferences, signal),
    ...tiers.map((tier) => score(body, messages, text, without(tier), signal)),
  ]);
  const answer = whole.slice(rendered.tokens);
  if (!answer.length) throw new Problem("The server does not tell how likely the tokens of this answer were.");
  const gains = others.map((other) => {
    // The prompts differ in the tiers and end alike.
    const end = other.slice(other.length - answer.length);
    if (end.some((token, index) => token.id !== answer[index].id)) {
      throw new Problem("Without the tier this model’s prompt ends differently, so the two cannot be compared.");
    }
    return end.map((token, index) => answer[index].logprob - token.logprob);
  });
  return answer.map((token, index) => {
    const all = gains.map((gain) => gain[index]);
    const gain = all.reduce((best, each) => (Math.abs(each) > Math.abs(best) ? each : best), 0);
    return { text: token.text, gain, tier: Math.abs(gain) < STEPS[0] ? null : tiers[all.indexOf(gain)] };
  });
}

/** The map as elements: the answer in colours, and a sentence for those who do not see them. */
export function influenceElements(tokens) {
  const spans = tokens.map(({ text, tier, gain }) => {
    if (!tier) return text;
    const step = STEPS.filter((limit) => Math.abs(gain) >= limit).length;
    const more = gain > 0 ? "more" : "less";
    return el("span", {
      class: `token is-${tier} step-${step} is-${more}`,
      title: `${TIERS[tier]}: ${gain > 0 ? "+" : ""}${gain.toFixed(1)} nats`,
    }, text);
  });
  const said = Object.entries(TIERS).map(([tier, name]) => {
    const most = tokens.filter((token) => token.tier === tier && token.gain > 0 && token.text.trim())
      .sort((a, b) => b.gain - a.gain).slice(0, 4)
      .map((token) => `“${token.text.trim()}” (+${token.gain.toFixed(1)})`);
    return most.length ? `${name} made these likelier most: ${most.join(", ")}.` : null;
  }).filter(Boolean);
  return { spans, sentence: `${said.join(" ") || "No token depends on a tier."} In nats, log p with the tier minus log p without it.` };
}
