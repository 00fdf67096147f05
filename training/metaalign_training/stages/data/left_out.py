"""What filters, teacher and annotator leave out of each source, why, and what to change."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

from metaalign_training.errors import StageError
from metaalign_training.stages.data.comparisons import Comparison

__all__ = ["Lost", "report_left_out"]

logger = logging.getLogger(__name__)

_REMEDIES = {
    "too short": "relax `filters.min_characters`",
    "too long": "relax `filters.max_characters`",
    "near-duplicate": "relax `filters.near_duplicate`",
    "in an evaluation set": "relax `filters.contaminated` or `decontaminate`",
    "answer too short": "relax `filters.min_answer_characters`, or ask another `teacher`",
    "equal answers": "ask another `teacher`",
    "no better answer": "ask another `annotator`, or set `annotate: false`",
}
"""Why a text, or its answers, are left out -> what to change below `data.instructions`."""


def report_left_out(field: str, name: str, found: int, kept: int, reasons: Mapping[str, int]) -> None:
    """Warn if most texts of a source are left out.

    Raises:
        StageError: all are.
    """
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    if not kept:
        raise StageError(
            f"{field}: none of {found} texts of {name} is kept ({why}); {_remedy(reasons)}, or remove it"
        )
    if kept < found / 2:
        logger.warning(
            "build-data: %d of %d texts of %s are kept (%s); if that is not meant, %s",
            kept, found, name, why, _remedy(reasons),
        )  # fmt: skip


def _remedy(reasons: Iterable[str]) -> str:
    return ", or ".join(_REMEDIES[reason] for reason in reasons)


class Lost:
    """Comparisons that give no row, by source and reason.

    Most of a source may be lost after the teacher was paid, so this only warns: an error would change what is drawn for
    the other sources, and with it what they were asked.
    """

    def __init__(self, comparisons: Iterable[Comparison]) -> None:
        self._asked = Counter(self._source(comparison) for comparison in comparisons)
        self.by_source: dict[str, Counter[str]] = {}

    @staticmethod
    def _source(comparison: Comparison) -> str:
        return comparison.instruction.origin.rpartition(":")[0]

    def add(self, comparison: Comparison, reason: str) -> None:
        """Count a comparison that gives no row."""
        self.by_source.setdefault(self._source(comparison), Counter())[reason] += 1

    def warn(self) -> None:
        """Warn of each source of which most comparisons are lost."""
        for source, reasons in self.by_source.items():
            asked, kept = self._asked[source], self._asked[source] - reasons.total()
            if kept < asked / 2:
                why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
                logger.warning(
                    "build-data: %d of %d comparisons of %s give rows (%s); if that is not meant, %s",
                    kept, asked, source, why, _remedy(reasons),
                )  # fmt: skip
