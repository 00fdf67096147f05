// The blind vote: two columns answer without their names and in an order by chance; the vote goes to /v1/feedback.

import { call } from "./api.js";
import { button, el, field, options, say, showProblem } from "./dom.js";
import { LETTERS, summary, toPreferences } from "./state.js";

function coin() {
  return crypto.getRandomValues(new Uint8Array(1))[0] % 2 === 1;
}

/** Fill `section` with the vote; returns `refresh()`, to be called when there are other columns. */
export function blindVote(section, page) {
  const selects = [el("select", {}), el("select", {})];
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const result = el("div", { class: "result" });
  const run = button("Ask both", start, { class: "primary" });

  function refresh() {
    const letters = page.columns().map((_, index) => [LETTERS[index], `Column ${LETTERS[index]}`]);
    selects.forEach((select, index) => {
      const chosen = letters.some(([value]) => value === select.value) ? select.value : LETTERS[index];
      options(select, letters, chosen);
    });
  }

  async function start() {
    const { query, body } = page.request();
    if (!query) return page.needQuery();
    const { max_completion_tokens: max_tokens, ...rest } = body;
    const sides = selects.map((select) => ({ letter: select.value, column: page.columns()[LETTERS.indexOf(select.value)] }));
    if (coin()) sides.reverse();
    run.disabled = true;
    showProblem(problem, null);
    result.replaceChildren(el("p", { class: "hint" }, "Asking both …"));
    try {
      await Promise.all(sides.map(async (side) => {
        side.said = summary(side.column);
        side.answer = await call("POST", "v1/align", { ...rest, max_tokens, query, preferences: toPreferences(side.column) });
      }));
      show(sides);
    } catch (error) {
      result.replaceChildren();
      showProblem(problem, error);
    } finally {
      run.disabled = false;
    }
    return undefined;
  }

  function show(sides) {
    const names = ["First", "Second"];
    const halves = sides.map((side, index) =>
      el("div", { class: "half" }, el("h3", {}, names[index]), el("p", { class: "text" }, side.answer.text)));
    const outcome = el("p", { class: "outcome", role: "status" });
    const vote = el("div", { class: "line", role: "group", "aria-label": "Your vote" },
      ...names.map((name, index) => button(`${name} is better`, () => choose(index), { class: "primary" })),
      button("No difference", () => choose(null)));

    async function choose(better) {
      const shown = sides.map((side, index) => `${names[index]} was column ${side.letter} (${side.said}).`).join(" ");
      for (const each of vote.children) each.disabled = true;
      let kept = "";
      try {
        if (better !== null) {
          const [won, lost] = [sides[better].answer, sides[1 - better].answer];
          // Two different answers to one question are a training pair under the winner's preferences.
          const pair = won.text === lost.text ? {} : { rejected: lost.text };
          await call("POST", "v1/feedback", { id: won.id, rating: "up", ...pair });
          await call("POST", "v1/feedback", { id: lost.id, rating: "down" });
          kept = " The vote is kept.";
        }
      } catch (error) {
        kept = ` ${error.message}`;
      }
      halves.forEach((half, index) => half.querySelector("h3").append(`: column ${sides[index].letter}`));
      if (better !== null) halves[better].classList.add("is-chosen");
      outcome.textContent = `${shown}${kept}`;
      run.focus();
    }

    result.replaceChildren(el("div", { class: "pair" }, ...halves), vote, outcome);
    say("Both answers are there. Vote for one.");
  }

  section.replaceChildren(
    el("h2", { id: "vote-title" }, "Blind vote"),
    el("p", { class: "lead" }, "Two columns answer without their letters, in an order by chance. Vote, then see which was which."),
    el("div", { class: "line" }, field("Between", selects[0]), field("and", selects[1]), run),
    problem, result);
  refresh();
  return { refresh };
}
