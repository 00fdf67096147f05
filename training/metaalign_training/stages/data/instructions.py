"""Rows from a user's instructions: filter, compare, ask the teacher, annotate, write.

Answers of teacher and annotator are kept in journals in the stage's folder, so a run that was killed, or lost its
endpoint, asks only for what is missing.
"""

from __future__ import annotations

import json
import logging
import random
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metaalign.preferences import LIMITS
from metaalign_training.errors import DataError, StageError, nearest
from metaalign_training.inference.chat import ChatRequest
from metaalign_training.inference.endpoint import open_endpoint, usage_report
from metaalign_training.inference.judge import DEFAULT_RUBRIC, Judge, Verdict
from metaalign_training.messages import Message
from metaalign_training.published import PersonaQuestion, files_in, read_personas
from metaalign_training.recipe import InstructionConfig, SourceConfig
from metaalign_training.rows import Conversation, Pair, Question, write_rows
from metaalign_training.stages.data.card import (
    Annotated,
    AnnotationReport,
    InstructionReport,
    SourceReport,
    write_card,
)
from metaalign_training.stages.data.comparisons import Comparison, Side, compare
from metaalign_training.stages.data.filters import Filter, evaluation_texts
from metaalign_training.stages.data.left_out import Lost, report_left_out
from metaalign_training.stages.data.library import PriorityMatrix, Sampler, load_library, load_priorities
from metaalign_training.stages.data.sources import (
    Instruction,
    files_of,
    read_check_source,
    read_instructions,
    read_pair_source,
)

__all__ = ["build_instructions", "check_kinds"]

logger = logging.getLogger(__name__)


class _Rows:
    """Collects rows, for training and for the held-out set.

    Args:
        aside: Questions that are the later stages' and not SFT's; if there are none, all rows are everybody's.
    """

    def __init__(self, aside: frozenset[str]) -> None:
        self._aside = aside
        self.sft: list[Conversation] = []
        self.pairs: list[Pair] = []
        self.prompts: list[Question] = []
        self.evaluation: list[Question] = []
        self._seen: set[str] = set()

    def sets_aside(self, text: str) -> bool:
        """Whether a question is the later stages' and not SFT's."""
        return text in self._aside

    def _is_for(self, prompt: Sequence[Message]) -> tuple[bool, bool]:
        """Whether a question is SFT's, and whether it is the later stages'."""
        if not self._aside:
            return True, True
        aside = self.sets_aside(prompt[-1]["content"])
        return not aside, aside

    def add_pair(self, pair: Pair) -> None:
        """Add a pair, or its chosen answer as a conversation, or both."""
        to_sft, to_later = self._is_for(pair["prompt"])
        if to_later:
            self.pairs.append(pair)
        if not to_sft:
            return
        row: Conversation = {"part": pair["part"], "messages": [*pair["prompt"], *pair["chosen"]]}
        if pair.get("tools"):
            row["tools"] = pair["tools"]
        if pair.get("chat_template_kwargs"):
            row["chat_template_kwargs"] = pair["chat_template_kwargs"]
        key = json.dumps(row)
        if key not in self._seen:
            self._seen.add(key)
            self.sft.append(row)

    def add_question(self, question: Question) -> None:
        """Add a question that the model itself answers in a later stage."""
        if self._is_for(question["prompt"])[1]:
            self.prompts.append(question)

    def add_checked(self, question: Question, share: float) -> None:
        """Add a question whose answers programs check; nobody has answered it, so it is never SFT's."""
        held_out = _held_out(str(question["prompt"][-1]["content"]), share)
        (self.evaluation if held_out else self.prompts).append(question)

    def prefer(self, prompt: Sequence[Message], chosen: str, rejected: str, part: str, source: str) -> None:
        """Add the pair of two answers to `prompt`."""
        better: Message = {"role": "assistant", "content": chosen}
        worse: Message = {"role": "assistant", "content": rejected}
        self.add_pair(
            {"part": part, "source": source, "prompt": list(prompt), "chosen": [better], "rejected": [worse]}
        )


def build_instructions(config: InstructionConfig, seed: int, folder: Path) -> InstructionReport:
    """Write `sft.jsonl`, `pairs.jsonl`, `prompts.jsonl`, `eval.jsonl`, `coverage.json` and the card `README.md`.

    Returns:
        Number of rows by part, what was filtered and why, how often teacher and annotator agreed, tokens and cost.

    Raises:
        DataError: a source, the library or the matrix is wrong.
        EndpointError: the teacher or annotator stops answering; its answers up to then are kept.
        StageError: nothing is left after filtering.
    """
    library, priorities = load_library(config.library), load_priorities(config.priorities)
    sampler = Sampler(seed)
    check_kinds(config, priorities)
    accept = Filter(config.filters, evaluation_texts(config.decontaminate))
    found = _read_sources(config, seed, accept)
    aside = _set_aside(config, found, seed)
    aside |= {_asks(q) for q in found.checked} if aside else frozenset()
    rows = _Rows(aside)
    for question in found.checked:
        rows.add_checked(question, config.held_out)
    for pair in found.pairs:
        rows.add_pair(pair)
    for source, asked in found.personas:
        _add_personas(source, asked, rows, config.held_out)
    comparisons = [
        compare(instruction, library, priorities, sampler)
        for instruction in found.instructions
        for _ in range(config.comparisons_per_instruction)
    ]
    logger.info("build-data: %d instructions, %d comparisons", len(found.instructions), len(comparisons))
    annotated: Annotated = {}
    if comparisons:
        annotated = {"annotation": _annotate(config, comparisons, rows, folder)}
    if not rows.sft:
        raise StageError(
            "build-data: no row for SFT is left; relax `data.instructions.filters`, check that the teacher answers, and"
            " have other sources than `kind: checks`, whose questions nobody has answered"
        )
    for name, own_rows in (
        ("sft", rows.sft),
        ("pairs", rows.pairs),
        ("prompts", rows.prompts),
        ("eval", rows.evaluation),
    ):
        write_rows(folder / f"{name}.jsonl", own_rows)
    coverage = sampler.coverage(library, priorities)
    (folder / "coverage.json").write_text(
        json.dumps(coverage, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    report: InstructionReport = {
        "sources": found.report,
        "filtered": dict(accept.reasons),
        "set_aside": len(aside),
        **annotated,
        "sft": len(rows.sft),
        "pairs": len(rows.pairs),
        "eval": len(rows.evaluation),
        "parts": dict(Counter(str(row["part"]) for row in rows.pairs)),
        "coverage": {
            g: f"{sum(c > 0 for c in leaves.values())} of {len(leaves)}" for g, leaves in coverage.items()
        },
    }
    write_card(folder / "README.md", config, seed, report, coverage)
    return report


@dataclass
class _Found:
    """What the sources hold after filtering.

    Attributes:
        instructions: Questions to compare answers to.
        personas: Persona sources with their statements.
        pairs: Ready pairs.
        checked: Questions whose answers a program checks.
        report: Of each source the rows, and what was left out.
    """

    instructions: list[Instruction] = field(default_factory=list)
    personas: list[tuple[SourceConfig, list[PersonaQuestion]]] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    checked: list[Question] = field(default_factory=list)
    report: dict[str, SourceReport] = field(default_factory=dict)


def _read_sources(config: InstructionConfig, seed: int, accept: Filter) -> _Found:
    """Read all sources; raises DataError if one is wrong, StageError if all of one is left out."""
    found = _Found()
    for index, source in enumerate(config.sources):
        name, before = source.path or str(source.dataset), Counter(accept.reasons)
        if source.kind == "persona":
            asked = _read_personas(source, seed)
            found.personas.append((source, asked))
            found.report[name] = {"rows": len(asked)}
            continue
        if source.kind == "pairs":
            usable, unusable = read_pair_source(source, seed)
            # Several pairs may share a question, but none may be a question of an evaluation set.
            pairs = [pair for pair in usable if accept.keeps(_asks(pair), once=False)]
            found.pairs.extend(pairs)
            found.report[name] = {"rows": len(pairs), "unusable": unusable}
            read, left = len(usable), len(pairs)
        elif source.kind == "checks":
            questions = read_check_source(source, seed)
            checked = [question for question in questions if accept.keeps(_asks(question), once=False)]
            found.checked.extend(checked)
            found.report[name] = {"rows": len(checked)}
            read, left = len(questions), len(checked)
        else:
            instructions = read_instructions(source, seed)
            few = [instruction for instruction in instructions if accept.keeps(instruction.text)]
            found.instructions.extend(few)
            found.report[name] = {"rows": len(few)}
            read, left = len(instructions), len(few)
        if reasons := dict(accept.reasons - before):
            found.report[name]["left_out"] = reasons
            report_left_out(f"data.instructions.sources[{index}]", name, read, left, reasons)
    return found


def _asks(row: Pair | Question) -> str:
    """The last words of the prompt."""
    return str(row["prompt"][-1]["content"])


def check_kinds(config: InstructionConfig, priorities: PriorityMatrix) -> None:
    """Check the kinds of query that sources name.

    Raises:
        StageError: the matrix does not know one.
    """
    for index, source in enumerate(config.sources):
        named = {"query": source.query} | {f"query_values.{v}": k for v, k in source.query_values.items()}
        for name, kind in named.items():
            if kind not in priorities.kinds:
                raise StageError(
                    f"data.instructions.sources[{index}].{name}: {kind!r} is no kind of query in the priority matrix"
                    f"{nearest(kind, priorities.kinds)}"
                )


def _set_aside(config: InstructionConfig, found: _Found, seed: int) -> frozenset[str]:
    """The questions that are the later stages': of each part the same share, drawn by the seed."""
    if not config.preference_share:
        return frozenset()
    strata: dict[str, dict[str, None]] = {}
    asked = [
        *((i.part, i.text) for i in found.instructions),
        *((f"persona {source.part}", q.prompt[-1]["content"]) for source, own in found.personas for q in own),
        *((f"pairs {pair['part']}", _asks(pair)) for pair in found.pairs),
    ]
    for stratum, text in asked:
        if not _held_out(text, config.held_out):
            strata.setdefault(stratum, {})[text] = None
    aside: set[str] = set()
    for stratum, texts in strata.items():
        count = round(len(texts) * config.preference_share)
        aside.update(random.Random(f"stages {seed} {stratum}").sample(list(texts), count))
    return frozenset(aside)


def _held_out(text: str, share: float) -> bool:
    """Whether a question is held out; its words decide, so every run decides alike."""
    return zlib.crc32(text.encode()) % 10_000 < share * 10_000


def _read_personas(source: SourceConfig, seed: int) -> list[PersonaQuestion]:
    if source.path is None:
        raise StageError("data.instructions: a persona source needs a `path`")
    files = [file for path in files_of(source) for file in (files_in(path) if path.is_dir() else [path])]
    questions = [question for file in files for question in read_personas(file)]
    if not questions:
        raise DataError(source.path, None, "no persona item in it")
    if source.limit is not None and source.limit < len(questions):
        questions = random.Random(f"source {seed}").sample(questions, source.limit)
    return questions


def _add_personas(
    source: SourceConfig, questions: Sequence[PersonaQuestion], rows: _Rows, share: float
) -> None:
    """Add persona statements, which need no teacher: the answer is known, and the opposite persona gives the other."""
    for asked in questions:
        right, wrong = asked.answer, asked.opposite_answer
        if _held_out(asked.prompt[-1]["content"], share):
            rows.evaluation.append(
                {
                    "split": f"persona {asked.persona}",
                    "part": source.part,
                    "prompt": asked.prompt,
                    "answer": right,
                    "expect": {"choice": [[right], [wrong]]},
                    "opposite": {
                        "prompt": asked.opposite_prompt,
                        "answer": wrong,
                        "expect": {"choice": [[wrong], [right]]},
                    },
                }
            )
            continue
        rows.prefer(asked.prompt, right, wrong, source.part, "persona")
        rows.prefer(asked.opposite_prompt, wrong, right, source.part, "persona")


def _annotate(
    config: InstructionConfig, comparisons: Sequence[Comparison], rows: _Rows, folder: Path
) -> AnnotationReport:
    """Ask for both answers to every comparison, rank them under both preferences, and add the rows."""
    teacher = open_endpoint(config.teacher, folder / "teacher.jsonl")
    requests = [
        ChatRequest(side.teacher_prompt(c.instruction.text), seed=number)
        for number, c in enumerate(comparisons)
        for side in (c.here, c.there)
    ]
    answers = [answer.strip() for answer in teacher.complete(requests, "teacher: answers")]
    drafted = list(zip(comparisons, answers[::2], answers[1::2], strict=True))
    least = max(1, config.filters.min_answer_characters)
    lost = Lost(comparisons)
    usable: list[tuple[Comparison, str, str]] = []
    for comparison, first, second in drafted:
        if min(len(first), len(second)) < least:
            lost.add(comparison, "answer too short")
        elif first == second:
            lost.add(comparison, "equal answers")
        else:
            usable.append((comparison, first, second))
    endpoints = {"teacher": teacher}
    counts: Counter[str] = Counter({"unusable answers": len(drafted) - len(usable)})
    if config.annotate:
        annotator = open_endpoint(config.annotator or config.teacher, folder / "annotator.jsonl")
        endpoints["annotator"] = annotator
        judge = Judge(annotator)
        verdicts = _verdicts(judge, usable)
        counts["unreadable verdicts"] = judge.unreadable
    else:
        verdicts = [("first", "second") for _ in usable]
    for (comparison, first, second), (here, there) in zip(usable, verdicts, strict=True):
        if not _add(rows, comparison, first, second, here, there, config.held_out, counts):
            lost.add(comparison, "no better answer")
    lost.warn()
    confirmed = [
        case
        for case, verdict in zip(usable, verdicts, strict=True)
        if case[0].swaps
        and verdict == ("first", "second")
        and not _held_out(case[0].instruction.text, config.held_out)
    ]
    _add_implicit(rows, confirmed, counts)
    return {
        "counts": dict(counts),
        "left_out": {source: dict(reasons) for source, reasons in lost.by_source.items()},
        "usage": usage_report(endpoints),
    }


def _add_implicit(
    rows: _Rows, confirmed: Sequence[tuple[Comparison, str, str]], counts: Counter[str]
) -> None:
    """Add pairs whose preference is shown by an example instead of stated.

    Of two comparisons with the same label, the first becomes an example in the second's User Info, so this needs no
    further answer. Both are questions of the same stage.
    """
    latest: dict[tuple[str, bool], tuple[Comparison, str, str]] = {}
    limit = LIMITS["example_text"]
    for comparison, first, second in confirmed:
        key = comparison.label, rows.sets_aside(comparison.instruction.text)
        before = latest.get(key)
        latest[key] = (comparison, first, second)
        if before is None or comparison.instruction.part == "priority":
            continue
        shown, liked, disliked = before
        text, part = comparison.instruction.text, comparison.instruction.part
        if max(len(shown.instruction.text), len(liked), len(disliked)) > limit:
            continue
        for preferred, rejected, chosen, other in (
            (liked, disliked, first, second),
            (disliked, liked, second, first),
        ):
            example = {"query": shown.instruction.text, "preferred": preferred, "rejected": rejected}
            prompt = Side({"user": {"examples": [example]}}, "").prompt(text)
            rows.prefer(prompt, chosen, other, part, "implicit")
            counts["implicit"] += 1


def _rubric(comparison: Comparison) -> str:
    """What the annotator looks for. Where the true answer is known, it does not have to guess it."""
    known = comparison.instruction.answer if comparison.instruction.part == "consensus" else None
    return f"{DEFAULT_RUBRIC} The true answer is: {known}" if known else DEFAULT_RUBRIC


def _verdicts(judge: Judge, usable: Sequence[tuple[Comparison, str, str]]) -> list[tuple[Verdict, Verdict]]:
    """Which answer is better under either preference (step 1B)."""
    cases = [
        (side.prompt(c.instruction.text), first, second, _rubric(c))
        for c, first, second in usable
        for side in (c.here, c.there)
    ]
    found = judge.compare_all(cases, "annotator: rankings")
    return list(zip(found[::2], found[1::2], strict=True))


def _add(
    rows: _Rows,
    comparison: Comparison,
    first: str,
    second: str,
    here: Verdict,
    there: Verdict,
    share: float,
    counts: Counter[str],
) -> bool:
    """Add the rows of a comparison; whether it gives any pair, or is held out."""
    text, part = comparison.instruction.text, comparison.instruction.part
    prompt, turned = comparison.here.prompt(text), comparison.there.prompt(text)
    if _held_out(text, share):
        row: Question = {
            "split": part,
            "part": part,
            "prompt": prompt,
            "answer": first,
            "expect": {"rubric": f"{DEFAULT_RUBRIC} {comparison.here.guide}"},
        }
        if comparison.swaps:
            rubric = f"{DEFAULT_RUBRIC} {comparison.there.guide}"
            row["opposite"] = {"prompt": turned, "answer": second, "expect": {"rubric": rubric}}
        rows.evaluation.append(row)
        counts["held out"] += 1
        return True
    question: Question = {"part": part, "prompt": prompt, "answer": first}
    if comparison.swaps:
        question["opposite"] = {"prompt": turned, "answer": second}
        ours, theirs = comparison.here.checks(), comparison.there.checks()
        if ours and theirs:
            question["expect"] = {"verify": ours}
            question["opposite"]["expect"] = {"verify": theirs}
    rows.add_question(question)
    if here == "first":
        counts["as the guide says"] += 1
        rows.prefer(prompt, first, second, part, "annotated")
        if comparison.swaps and there == "second":
            counts["swapped"] += 1
            rows.prefer(turned, second, first, part, "swap")
    elif comparison.swaps and there == "second":
        counts["only under the opposite"] += 1
        rows.prefer(turned, second, first, part, "annotated")
    elif here == "second" and comparison.swaps:
        # The annotator prefers the answer that was written for the other preference; the annotator decides.
        counts["against the guide"] += 1
        rows.prefer(prompt, second, first, part, "annotated")
    else:
        counts["ties and refused"] += 1
        return False
    return True
