// The swap test: one question under two opposite preferences. A model that follows neither, or always the same one, fails.

import { call } from "./api.js";
import { button, el, field, options, say, showProblem } from "./dom.js";
import { OPPOSITES } from "./presets.js";
import { verdict } from "./receipt.js";

const shown = (attributes) => Object.entries(attributes).map(([name, value]) => `${name}: ${value.replaceAll("_", " ")}`).join(", ");

/** Fill `section` with the test; `page.request()` gives the question and its options. */
export function swapTest(section, page) {
  const pair = el("select", {});
  options(pair, OPPOSITES.map((each, index) => [String(index), each.name]));
  const tier = el("select", {});
  options(tier, [["user", "User Info"], ["system", "System Info"]]);
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const result = el("div", { class: "result" });
  const run = button("Run the test", start, { class: "primary" });

  async function start() {
    const { query, body } = page.request();
    if (!query) return page.needQuery();
    const sides = OPPOSITES[Number(pair.value)].pair;
    const { max_completion_tokens: max_tokens, ...rest } = body;
    run.disabled = true;
    showProblem(problem, null);
    result.replaceChildren(el("p", { class: "hint" }, "Asking twice …"));
    try {
      const answers = await Promise.all(sides.map((attributes) =>
        call("POST", "v1/align", { ...rest, max_tokens, query, preferences: { [tier.value]: { attributes }, verify: true } })));
      show(query, sides, answers);
    } catch (error) {
      result.replaceChildren();
      showProblem(problem, error);
    } finally {
      run.disabled = false;
    }
    return undefined;
  }

  function show(query, sides, answers) {
    const found = answers.map((answer) => answer.metaalign?.verified?.[0] ?? { passed: null, checks: [] });
    const right = found.filter((each) => each.passed).length;
    const same = answers[0].text === answers[1].text;
    const passed = right === 2 && !same; // an answer without any measure is in metric units, and in imperial ones too
    const failure = same
      ? "both answers are the same, so the preference changed nothing"
      : `${right ? "only one answer follows" : "neither answer follows"} its own preference`;
    const text = passed ? "Passed: both answers follow their own preference." : `Failed: ${failure}.`;
    result.replaceChildren(
      el("p", { class: `outcome ${passed ? "is-passed" : "is-failed"}` }, text),
      el("div", { class: "pair" }, ...answers.map((answer, index) =>
        el("div", { class: "half" }, el("h3", {}, shown(sides[index])), el("p", { class: "text" }, answer.text), verdict(found[index])))));
    say(`Swap test. ${text}`);
  }

  section.replaceChildren(
    el("h2", { id: "swap-title" }, "Swap test"),
    el("p", { class: "lead" }, "Your question, asked under two preferences that exclude each other. The test passes if each answer follows its own."),
    el("div", { class: "line" }, field("Preferences", pair), field("In", tier), run),
    problem, result);
}
