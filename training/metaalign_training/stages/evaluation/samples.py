"""answers.md: some answers of each suite as they are, good and bad: what the scores are of."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from metaalign_training.stages.evaluation.items import Item, Score

__all__ = ["write_samples"]

_EACH = 10
_ROLES = {
    "system": "System Info",
    "user_info": "User Info",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
}


def write_samples(
    folder: Path, items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score], seed: int
) -> None:
    """Write `answers.md`: of each suite ten answers with the full score and ten without, drawn by `seed`."""
    suites: dict[str, dict[bool, list[int]]] = defaultdict(lambda: {True: [], False: []})
    for number, (item, one) in enumerate(zip(items, scores, strict=True)):
        suites[item.suite][one.value == 1].append(number)
    lines = [
        "# Answers",
        "",
        f"Drawn by seed {seed}, unedited: of each suite up to {_EACH} with the full score, and up to {_EACH} without.",
    ]
    for suite, groups in suites.items():
        rng = random.Random(f"answers {seed} {suite}")
        lines += ["", f"## {suite}"]
        for right, title in ((True, "Full score"), (False, "Less")):
            own = groups[right]
            lines += ["", f"### {title} ({len(own)} of {len(own) + len(groups[not right])})"]
            for number in sorted(rng.sample(own, min(_EACH, len(own)))):
                lines += ["", *_shown(items[number], answers[number], scores[number])]
    (folder / "answers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _shown(item: Item, answer: str, score: Score) -> list[str]:
    lacks = f": {', '.join(score.failed)}" if score.failed else ""
    shown = [f"**{item.split}** {item.id}{lacks}", ""]
    for message in item.prompt:
        text = str(message.get("content") or message.get("tool_calls") or "")
        role = _ROLES.get(message["role"], message["role"])
        # A trailing backslash is a line break, so tiers with several lines stay readable.
        shown += ["> " + f"{role}: {text}".replace("\n", "\\\n> ") + "\\"]
    shown[-1] = shown[-1].removesuffix("\\")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", answer)), default=0))
    return [*shown, "", f"{fence}text", answer, fence]
