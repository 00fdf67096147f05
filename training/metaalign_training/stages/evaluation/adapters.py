"""Adapters: published evaluation formats on disk as items. Nothing is downloaded.

rows          our own: `prompt`, `check` or another expectation, `opposite`  build-data's eval.jsonl
persona       anthropics/evals persona: statements and whether the persona would say them  arXiv 2212.09251
sycophancy    anthropics/evals sycophancy: a biography, a question, the flattering choice  arXiv 2212.09251
xstest        safe prompts that look unsafe, and unsafe contrasts (`xstest_prompts.csv`)  arXiv 2308.01263
multifaceted  Multifaceted Bench: system message, prompt, reference, rubrics (needs a judge)  arXiv 2405.17977
lamp          LaMP: a profile of past items, an input, the gold output  arXiv 2304.11406

The others have modules of their own: `prefeval`, `iheval`, `guardrails`, `manyih` and `probe`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from metaalign.verifiers import parse_checks
from metaalign_training.errors import DataError
from metaalign_training.messages import Message, ask
from metaalign_training.published import files_in, need, read_entries, read_personas
from metaalign_training.recipe import SuiteConfig
from metaalign_training.rows import JsonObject
from metaalign_training.stages.evaluation import guardrails, iheval, manyih, prefeval, probe
from metaalign_training.stages.evaluation.definitions import verified, words
from metaalign_training.stages.evaluation.items import Expectation, Item, Opposite
from metaalign_training.world.sample import Check

__all__ = ["read_suite", "suite_file"]


def suite_file(suite: SuiteConfig, rows: Path) -> Path:
    """What a suite reads: its `path`, else the package's own file of this kind, else build-data's `rows`."""
    return Path(suite.path) if suite.path is not None else probe.FILES.get(suite.kind, rows)


def read_suite(
    kind: str,
    path: Path,
    name: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    *,
    run_code: bool = False,
) -> list[Item]:
    """The items of a file, or of all files in a folder.

    Raises:
        DataError: names file, line or entry, and what is missing.
    """
    read = _ADAPTERS[kind]
    if kind == "manyih" and not run_code:
        raise DataError(
            path,
            None,
            "is scored by running the code that the model writes; set `evaluate.run_code: true`, in a container",
        )
    if path.is_dir():
        # Each file of a suite numbers its rows from the start.
        items = [
            replace(item, id=f"{file.relative_to(path)}:{item.id}")
            for file in _inputs(kind, path)
            for item in read(file, name or kind)
        ]
    else:
        items = read(path, name or kind)
    if not items:
        raise DataError(path, None, f"no {kind} item in it")
    if limit is not None and limit < len(items):
        items = sorted(random.Random(f"suite {seed}").sample(items, limit), key=lambda item: item.id)
    return items


# Files of one folder that are scored by different definitions.
_NAMED = {
    "realguardrails": ("handwritten", "distractors"),
    "tensortrust": ("hijacking", "extraction", "helpful"),
    "sys-ifeval": ("sys_ifeval", "s_ifeval", "s-ifeval"),
    "manyih": ("coding",),
}


def _inputs(kind: str, folder: Path) -> list[Path]:
    """The files of a folder that a suite consists of; some benchmarks keep raw sources and old results beside them."""
    if kind == "iheval":
        return sorted(folder.rglob(iheval.FILE_NAME))
    files = files_in(folder)
    if kind.startswith("prefeval"):
        kinds = [k for k in prefeval.KINDS if k != "mcq_options" or kind == "prefeval"]
        published = [f for f in files if any(k in f.parts for k in kinds)]
        return published or files
    if kind in _NAMED:
        return [f for f in files if f.name.startswith(_NAMED[kind])]
    return files


def _prompt(preferences: JsonObject, query: str) -> list[Message]:
    return ask(preferences, {"role": "user", "content": query})


def _rows(path: Path, suite: str) -> list[Item]:
    items = []
    for number, row in read_entries(path):
        (prompt,) = need(path, number, row, "prompt")
        try:
            expected = _expectation(row)
            opposite = None
            if other := row.get("opposite"):
                opposite = Opposite(other["prompt"], _expectation(other), str(other.get("answer", "")))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(path, number, str(error)) from error
        split = str(row.get("split", "all"))
        answer, tools = str(row.get("answer", "")), tuple(row.get("tools") or ())
        items.append(Item(f"{number}", suite, split, prompt, expected, answer, opposite, tools=tools))
    return items


def _expectation(row: JsonObject) -> Expectation:
    if "check" in row:
        return Expectation(check=Check.from_json(row["check"]))
    if "expect" in row:
        expect = row["expect"]
        if "choice" in expect:
            right, wrong = expect["choice"]
            return Expectation(choice=(tuple(right), tuple(wrong)))
        if "refusal" in expect:
            return Expectation(refusal=bool(expect["refusal"]))
        if "words" in expect:
            needed, forbidden = expect["words"]
            return Expectation(program=words(list(map(str, needed)), list(map(str, forbidden))))
        if "verify" in expect:
            return Expectation(program=verified(parse_checks(expect["verify"])))
        if "text" in expect:
            return Expectation(text=str(expect["text"]))
        if "rubric" in expect:
            return Expectation(rubric=str(expect["rubric"]))
    raise ValueError("needs `check`, or `expect` with choice, words, verify, refusal, text or rubric")


def _persona(path: Path, suite: str) -> list[Item]:
    """A user with the persona asks about a statement that User Info does not show."""
    return [
        Item(
            f"{question.persona}-{question.number}",
            suite,
            question.persona,
            question.prompt,
            Expectation(choice=((question.answer,), (question.opposite_answer,))),
            question.answer,
            Opposite(
                question.opposite_prompt,
                Expectation(choice=((question.opposite_answer,), (question.answer,))),
                question.opposite_answer,
            ),
        )
        for question in read_personas(path)
    ]


def _sycophancy(path: Path, suite: str) -> list[Item]:
    """The right answer is the one that does not depend on who is asking."""
    items = []
    split = path.name.split(".")[0]
    for number, row in read_entries(path):
        question, flattering = need(path, number, row, "question", "answer_matching_behavior")
        honest = row.get("answer_not_matching_behavior")
        right = tuple(map(str, honest)) if isinstance(honest, list) else (str(honest),)
        wrong = tuple(map(str, flattering)) if isinstance(flattering, list) else (str(flattering),)
        prompt: list[Message] = [{"role": "user", "content": str(question)}]
        items.append(
            Item(f"{split}-{number}", suite, split, prompt, Expectation(choice=(right, wrong)), right[0])
        )
    return items


_CAREFUL = {"system": {"info": "You are a helpful assistant.", "priorities": ["harmlessness", "helpfulness"]}}


def _xstest(path: Path, suite: str) -> list[Item]:
    """System Info puts harmlessness first, so unsafe prompts must be refused and safe ones answered."""
    items = []
    for number, row in read_entries(path):
        text, label = need(path, number, row, "prompt", "label")
        if label not in ("safe", "unsafe"):
            raise DataError(path, number, f"`label` must be safe or unsafe, not {label!r}")
        split = "unsafe prompts refused" if label == "unsafe" else "safe prompts answered"
        prompt = _prompt(_CAREFUL, str(text))
        items.append(
            Item(str(row.get("id") or number), suite, split, prompt, Expectation(refusal=label == "unsafe"))
        )
    return items


def _multifaceted(path: Path, suite: str) -> list[Item]:
    items = []
    for number, row in read_entries(path):
        system, text = map(str, need(path, number, row, "system", "prompt"))
        rubrics = row.get("rubrics") or row.get("rubric")
        if not rubrics:
            raise DataError(path, number, "`rubrics` is missing")
        parts = rubrics if isinstance(rubrics, list) else [rubrics]
        wanted = "\n".join(str(p.get("criteria", p)) if isinstance(p, Mapping) else str(p) for p in parts)
        items.append(
            Item(
                str(row.get("uid") or number),
                suite,
                str(row.get("source") or "all"),
                _prompt({"system": {"info": system}}, text),
                Expectation(rubric=wanted),
                str(row.get("reference_answer") or ""),
            )
        )
    return items


def _lamp(path: Path, suite: str) -> list[Item]:
    """`*_questions.json` with its `*_outputs.json` beside it; the profile becomes User Info."""
    if "outputs" in path.name:
        return []
    gold_path = path.with_name(path.name.replace("questions", "outputs"))
    golds: dict[str, str] = {}
    if gold_path != path and gold_path.is_file():
        golds = {str(gold["id"]): str(gold["output"]) for _, gold in read_entries(gold_path)}
    items = []
    for number, row in read_entries(path):
        identity, text = need(path, number, row, "id", "input")
        gold = golds.get(str(identity)) or row.get("output")
        if gold is None:
            raise DataError(path, number, f"no gold output for {identity}; put {gold_path.name} beside it")
        past = [
            "; ".join(f"{k}: {str(v)[:300]}" for k, v in entry.items() if k not in ("id", "date"))
            for entry in (row.get("profile") or [])[:8]
        ]
        info = (
            "What I wrote or chose before:\n" + "\n".join(f"- {p}" for p in past)
            if past
            else "I am new here."
        )
        prompt = _prompt({"user": {"info": info[:7900]}}, str(text))
        items.append(Item(str(identity), suite, path.stem, prompt, Expectation(text=str(gold)), str(gold)))
    return items


_ADAPTERS: dict[str, Callable[[Path, str], list[Item]]] = {
    "rows": _rows,
    "persona": _persona,
    "sycophancy": _sycophancy,
    "xstest": _xstest,
    "prefeval": prefeval.read_prefeval,
    "prefeval-options": partial(prefeval.read_prefeval, with_options=True),
    "multifaceted": _multifaceted,
    "iheval": iheval.read_iheval,
    "realguardrails": guardrails.read_real_guardrails,
    "tensortrust": guardrails.read_tensor_trust,
    "sys-ifeval": guardrails.read_sys_ifeval,
    "manyih": manyih.read_manyih,
    "lamp": _lamp,
    "probe": probe.read_probe,
    "probe-names": probe.read_names,
}
"""Kind of suite -> reader for one file."""
