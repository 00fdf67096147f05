"""The errors of the training package, below the contract's `MetaAlignError`.

    MetaAlignError
    └── TrainingError
        ├── RecipeError     recipe_error     a recipe that cannot be used
        ├── DataError       data_error       a row or a file that cannot be used
        ├── EndpointError   endpoint_error   a teacher, judge or model that does not answer as expected
        └── StageError      stage_error      a stage that cannot run with its configuration or inputs

Each message is one line that names the file and line, or the field, and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from metaalign import MetaAlignError

__all__ = ["DataError", "EndpointError", "RecipeError", "StageError", "TrainingError", "nearest"]


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, if one is near, and all of them."""
    known = list(names)
    meant = "".join(f"; did you mean {near!r}?" for near in get_close_matches(name, known, 1))
    return f"{meant} (there are: {', '.join(known) or 'none'})"


class TrainingError(MetaAlignError):
    """Base of the errors that `metaalign-train` reports in one line."""

    code = "training_error"


class RecipeError(TrainingError):
    """A recipe that cannot be used."""

    code = "recipe_error"


class DataError(TrainingError):
    """A row or file that cannot be used; the message says where."""

    code = "data_error"

    def __init__(self, path: Path | str, line: int | None, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}" if line is not None else f"{path}: {message}")


class EndpointError(TrainingError):
    """An endpoint that does not answer as expected; finished answers are kept."""

    code = "endpoint_error"


class StageError(TrainingError):
    """A stage that cannot run with its configuration or inputs."""

    code = "stage_error"
