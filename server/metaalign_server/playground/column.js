// One column: preferences, the answer as it streams, its receipt, and what the model was told.

import { Problem, call, streamChat } from "./api.js";
import { blendEditor } from "./blend.js";
import { afterPaint, button, count, debounced, el, field, newId, say, showProblem } from "./dom.js";
import { tierEditor } from "./editor.js";
import { influence, influenceElements } from "./influence.js";
import { receiptElements } from "./receipt.js";
import { LETTERS, MAX_CANDIDATES, columnOf, isBlended, isReady, summary, toPreferences } from "./state.js";

const RENDER_AFTER = 350; // milliseconds without a key stroke

/** A view of one column of the state. */
export class Column {
  /**
   * @param column The column's part of the state, which the view changes.
   * @param page What columns share: `known`, `locked`, `request()` for the question and its options, `changed()`, `remove(column)`,
   *   `copy(column)`, `removable()`.
   */
  constructor(column, page) {
    this.column = column;
    this.page = page;
    this.answer = null;
    this.running = null;
    this.rendering = null;
    this.acting = { system: 1, user: 1 }; // what holds where the column sets no strength, as the last dry run said
    this.renderSoon = debounced(RENDER_AFTER, () => this.render());
    this.build();
    this.renderSoon();
  }

  get letter() {
    return this.element.dataset.letter;
  }

  /** Take the place number `index`. */
  place(index) {
    const letter = LETTERS[index];
    this.element.dataset.letter = letter;
    this.title.textContent = letter;
    this.element.setAttribute("aria-label", `Column ${letter}`);
    this.text.setAttribute("aria-label", `Answer ${letter}`);
    this.removeButton.setAttribute("aria-label", `Remove column ${letter}`);
    this.removeButton.hidden = !this.page.removable();
    this.copyButton.setAttribute("aria-label", `Copy column ${letter} to a new one`);
    this.copyButton.hidden = !this.page.addable();
    this.againButton.setAttribute("aria-label", `Ask column ${letter} alone`);
  }

  build() {
    const { column, page } = this;
    const changed = () => {
      this.note();
      this.showSteering();
      page.changed();
      this.renderSoon();
    };
    this.editors = ["system", "user"].map((tier) => tierEditor(tier, column[tier], page.known, changed));
    this.blend = blendEditor(column, page.known, changed);
    const profile = el("input", {
      type: "text", list: "profile-names", placeholder: "none, or museum, museum@stable, museum:2", autocomplete: "off", spellcheck: "false",
      "data-part": "profile",
      oninput: () => {
        column.profile = profile.value;
        column.stored = null; // another profile's; the next dry run tells
        changed();
      },
    });
    profile.value = column.profile;
    const profileLine = field("Profile", profile);
    profileLine.classList.add("profile");
    profileLine.hidden = !column.profile;
    const profileButton = button("Profile", () => {
      profileLine.hidden = !profileLine.hidden;
      profileButton.setAttribute("aria-expanded", String(!profileLine.hidden));
      if (profileLine.hidden) return;
      this.folded.open = true;
      profile.focus();
    }, { class: "quiet", "aria-expanded": String(!profileLine.hidden) });

    const candidates = el("input", {
      type: "number", min: 1, max: MAX_CANDIDATES, step: 1, placeholder: "not set",
      title: "So many answers are sampled; the one that the preferences make likeliest is shown",
      oninput: () => {
        if (!candidates.checkValidity()) return;
        column.candidates = candidates.value ? candidates.valueAsNumber : null;
        changed();
      },
    });
    candidates.value = column.candidates === null ? "" : String(column.candidates);
    const candidatesLine = field("Candidates", candidates);
    candidatesLine.classList.add("candidates");
    this.candidatesNote = el("span", { class: "unit" });
    candidatesLine.append(this.candidatesNote);

    this.title = el("h3", {}, "");
    this.inShort = el("span", { class: "in-short" });
    this.removeButton = button("×", () => page.remove(this), { class: "quiet" });
    this.copyButton = button("Copy", () => page.copy(this), { class: "quiet" });
    this.againButton = button("Ask", () => this.ask(), { class: "quiet" });
    const wide = !matchMedia("(max-width: 700px)").matches; // on a phone the answers come first
    this.folded = el("details", { class: "edit", open: wide },
      el("summary", {}, "Preferences ", this.inShort), profileLine, ...this.editors.map((editor) => editor.element),
      this.blend.element, candidatesLine);

    this.text = el("div", { class: "text", role: "region", "aria-live": "polite" });
    this.placeholder = el("p", { class: "empty" }, "No answer yet.");
    this.problem = el("p", { class: "problem", role: "alert", hidden: true });
    this.stopButton = button("Stop", () => this.stop(), { class: "quiet", hidden: true });
    this.thumbs = el("div", { class: "thumbs", role: "group", "aria-label": "Rate this answer", hidden: true },
      this.thumb("Good", "up"), this.thumb("Bad", "down"));
    this.mapButton = button("Influence", () => this.toggleMap(), {
      class: "quiet", hidden: true, "aria-pressed": "false", title: "Colour each token by how much a tier made it likelier",
    });
    this.mapNote = el("p", { class: "hint", role: "status" });
    this.thanks = el("p", { class: "hint", role: "status" });
    this.receipt = el("div", { class: "receipt" });
    this.slip = el("div", { class: "slip", hidden: true }, this.receipt);
    this.told = el("div", { class: "told-body" });
    this.total = el("span", { class: "tokens" });
    this.note();
    this.showSteering();

    this.element = el("article", { class: "column" },
      el("header", { class: "column-head" }, this.title, this.againButton, profileButton, this.copyButton, this.removeButton),
      this.folded,
      el("div", { class: "answer" }, this.placeholder, this.text, this.problem,
        el("div", { class: "answer-tools" }, this.stopButton, this.thumbs, this.mapButton), this.mapNote, this.thanks),
      this.slip,
      el("details", { class: "told", open: wide }, el("summary", {}, "Meta-Prompt ", this.total), this.told));
  }

  note() {
    this.inShort.textContent = summary(this.column);
  }

  /** Show what holds where the column sets no strength and no candidates, and whether there can be a strength. */
  showSteering() {
    const { column } = this;
    const stored = column.stored?.strength;
    ["system", "user"].forEach((tier, index) => {
      this.editors[index].dial.show({
        profile: column.profile.trim() !== "",
        stored: stored?.[tier] ?? null,
        acting: stored?.[tier] ?? this.acting[tier],
        blocked: tier === "user" ? this.whyNoStrength() : "",
      });
    });
    const best = column.stored?.candidates;
    const stands = column.candidates === null && best;
    this.candidatesNote.textContent = stands ? `as stored: the best of ${best}` : "the best one is shown";
  }

  /** Why the User tier can have no strength; empty if it can. */
  whyNoStrength() {
    const { blend, stored, user } = this.column;
    if (!isBlended(this.column)) return "";
    if (!blend.some(isReady)) {
      return "The profile holds a blend, which takes the place of the User tier, so a strength cannot be combined with"
        + " it.";
    }
    const both = "A blend takes the place of the User tier, so the two cannot be combined";
    if (user.strength !== null) return `${both}: this strength of ${user.strength} is not sent.`;
    const its = stored?.strength?.user ?? 1;
    if (its !== 1) return `${both}: the profile’s strength of ${its} is not used.`;
    return `${both}. Remove the blend to set a strength.`;
  }

  /** A button that rates the answer; a second press changes nothing, the other one replaces it. */
  thumb(text, rating) {
    const pressed = button(text, async () => {
      try {
        await call("POST", "v1/feedback", { id: this.answer.id, rating });
        for (const each of this.thumbs.children) each.setAttribute("aria-pressed", String(each === pressed));
        this.thanks.textContent = "Kept, as feedback on this answer.";
      } catch (error) {
        this.thanks.textContent = error.message;
      }
    }, { class: `quiet thumb is-${rating}`, "aria-pressed": "false" });
    return pressed;
  }

  /** Colour the answer's tokens by what the tiers did to them, or take the colours away. */
  async toggleMap() {
    const told = this.answer;
    if (this.mapButton.getAttribute("aria-pressed") === "true") {
      this.mapButton.setAttribute("aria-pressed", "false");
      this.text.replaceChildren(told.text);
      this.mapNote.textContent = "";
      return;
    }
    this.mapButton.disabled = true;
    this.mapNote.textContent = "Scoring the answer with and without each tier …";
    try {
      // A steered answer has no prompt of its own that could be scored: the tiers are looked at as trained.
      const { verify, strength, blend, candidates, ...preferences } = told.preferences;
      const steering = told.receipt?.steering;
      if (preferences.profile) Object.assign(preferences, { strength: 1, candidates: 1 }); // and not as stored
      if (steering?.blend && (!blend || this.column.stored?.blend)) {
        throw new Problem("The profile holds a blend, so the answer has no prompt of its own that could be scored.");
      }
      const tokens = await influence(told.body, told.query, told.text, preferences);
      if (this.answer !== told) return; // asked again meanwhile
      const map = influenceElements(tokens);
      this.text.replaceChildren(...map.spans);
      const dialled = steering && (steering.strength.system !== 1 || steering.strength.user !== 1);
      const notes = [map.sentence, dialled && "Scored at strength 1.", blend && "Scored without the blend."];
      this.mapNote.textContent = notes.filter(Boolean).join(" ");
      this.mapButton.setAttribute("aria-pressed", "true");
    } catch (error) {
      this.mapNote.textContent = error.message;
    } finally {
      this.mapButton.disabled = false;
    }
  }

  /** Have the server say what the model would be told, without asking the model. */
  async render() {
    this.rendering?.abort();
    const { signal } = (this.rendering = new AbortController());
    const { query, model } = this.page.request();
    const messages = query ? [{ role: "user", content: query }] : [];
    const dry = (preferences, said) =>
      call("POST", "v1/preferences/render", { messages: said, preferences, ...model }, signal);
    let rendered = null;
    let problem = null;
    try {
      if (this.page.locked) throw new Problem("With a key at the top of the page, this shows what the model is told.");
      await this.learnStored(dry);
      const preferences = toPreferences(this.column);
      rendered = await dry(preferences, messages);
      const strength = rendered.metaalign.steering?.strength ?? { system: 1, user: 1 };
      for (const tier of ["system", "user"]) {
        if (preferences.strength?.[tier] === undefined) this.acting[tier] = strength[tier];
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      problem = error;
    }
    this.showSteering();
    for (const editor of [...this.editors, this.blend]) editor.show(rendered);
    this.total.textContent = rendered ? `${count(rendered.tokens, "token")} in all` : "";
    this.told.replaceChildren(...(rendered ? this.tiers(rendered, query) : [el("p", { class: "hint" }, problem.message)]));
  }

  /** Ask once what the column's profile says by itself, which the column may replace and go back to. */
  async learnStored(dry) {
    const { column } = this;
    const { profile } = column;
    if (!profile.trim() || column.stored) return;
    let stored;
    try {
      const { steering } = (await dry(toPreferences({ ...columnOf(), profile }), [])).metaalign;
      const { strength = { system: 1, user: 1 }, blend = null, candidates = null } = steering ?? {};
      stored = { strength, blend: blend !== null, candidates };
    } catch (error) {
      // So it answers to profiles that hold a blend and a strength of the User tier: a request must take one back.
      if (error.param !== "preferences.blend") throw error;
      stored = { strength: null, blend: true, candidates: null };
    }
    if (column.profile === profile) column.stored = stored;
  }

  tiers(rendered, query) {
    const block = (name, title, text, none) =>
      el("div", { class: `block is-${name}` }, el("h4", {}, title), text ? el("pre", {}, text) : el("p", { class: "hint" }, none));
    const question = block("query", "User Query", query, "no question yet");
    if (!rendered.branches.length) {
      return [
        block("system", "System Info", rendered.system_info, "empty"),
        block("user", "User Info", rendered.user_info, "empty"),
        question,
      ];
    }
    const branches = rendered.branches.map(({ coefficient, system_info: system, user_info: user }) => {
      const told = [
        system && block("system", "System Info", system),
        user && block("user", "User Info", user),
      ].filter(Boolean);
      return el("li", { class: "branch" },
        el("p", { class: "times" }, `${Number(coefficient.toFixed(2))} ×`.replace("-", "−")),
        el("div", {}, ...(told.length ? told : [el("p", { class: "hint" }, "without preferences")])));
    });
    return [
      el("p", { class: "hint" },
        `${branches.length} prompts draw each token together: their logits, added up with these weights.`),
      el("ol", { class: "branches" }, ...branches),
      question,
    ];
  }

  stop() {
    this.running?.abort();
  }

  /** Ask the model; resolves when the answer is complete, stopped or has failed. */
  async ask() {
    this.stop();
    const { query, body, verify } = this.page.request();
    if (!query) {
      this.page.needQuery();
      return;
    }
    const running = (this.running = new AbortController());
    const preferences = toPreferences(this.column);
    if (verify) preferences.verify = true;
    this.begin();
    const since = performance.now();
    const told = { query, body, preferences, id: "", text: "", receipt: null, usage: null, finish: null };
    try {
      for await (const chunk of streamChat({ ...body, messages: [{ role: "user", content: query }], preferences, stream_options: { include_usage: true } }, running.signal)) {
        told.id ||= chunk.id;
        told.receipt = chunk.metaalign ?? told.receipt;
        told.usage = chunk.usage ?? told.usage;
        const choice = chunk.choices?.[0];
        told.finish = choice?.finish_reason ?? told.finish;
        if (choice?.delta?.content) {
          // The first words come first: the receipt waits until they are on the screen.
          if (!told.text) afterPaint(() => this.running === running && told.receipt && this.showReceipt(told));
          told.text += choice.delta.content;
          this.text.append(choice.delta.content);
        }
      }
      this.answer = told;
      told.seconds = (performance.now() - since) / 1000;
      if (told.finish === "length") throw new Problem("The answer was cut off where it got too long. Raise “Longest answer” for all of it.");
      if (!told.text) throw new Problem("The model said nothing. Ask again, or ask for something else.");
      say(`Answer ${this.letter} is complete.`);
    } catch (error) {
      if (this.running !== running) return; // asked again meanwhile
      const stopped = error.name === "AbortError";
      showProblem(this.problem, stopped ? new Problem("You stopped this answer; what is shown is not all of it.") : error);
    } finally {
      if (this.running === running) this.end(told);
    }
  }

  begin() {
    this.answer = null;
    this.placeholder.hidden = true;
    this.text.replaceChildren();
    this.text.setAttribute("aria-busy", "true"); // screen readers read the whole when it is whole
    this.element.classList.add("is-running");
    this.stopButton.hidden = false;
    this.thumbs.hidden = true;
    this.mapButton.hidden = true;
    this.mapButton.setAttribute("aria-pressed", "false");
    this.mapNote.textContent = "";
    this.thanks.textContent = "";
    this.slip.hidden = true;
    showProblem(this.problem, null);
    for (const each of this.thumbs.children) each.setAttribute("aria-pressed", "false");
  }

  end(told) {
    this.running = null;
    this.text.setAttribute("aria-busy", "false");
    this.element.classList.remove("is-running");
    this.stopButton.hidden = true;
    this.thumbs.hidden = !this.answer;
    this.mapButton.hidden = !this.answer?.text;
    if (told.receipt) this.showReceipt(told);
  }

  showReceipt(told) {
    const facts = [];
    if (told.usage) facts.push(["answer", count(told.usage.completion_tokens, "token")]);
    if (told.seconds) facts.push(["time", `${told.seconds.toFixed(1)} s`]);
    this.receipt.replaceChildren(el("h4", { id: (this.receiptId ??= newId("receipt")) }, "Receipt"), ...receiptElements(told.receipt, facts));
    this.slip.hidden = false;
  }
}
