"""The typed recipe of a checkpoint; YAML files under `recipes/` validate into it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metaalign.preferences import describe_validation_error

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "ModelConfig",
    "Recipe",
    "RecipeError",
    "SftConfig",
    "load_recipe",
]


class RecipeError(Exception):
    """A recipe that cannot be used; one line with file, field and remedy."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Model):
    """How many samples of each split, in shares of `samples`."""

    samples: int = Field(ge=1)
    shares: dict[str, float]
    vocabulary_size: int = Field(ge=300)


class ModelConfig(_Model):
    """Shape of the Qwen3-architecture model."""

    hidden_size: int
    layers: int
    heads: int
    head_dim: int = 32
    feed_forward: int
    context: int = 2048


class SftConfig(_Model):
    """One stage of supervised fine-tuning; learning rate per step, cosine to zero."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = 0.05
    save_every: int = Field(200, ge=1)


class EvaluationConfig(_Model):
    """Samples a split, and resamples of the bootstrap."""

    per_split: int = Field(ge=1)
    resamples: int = Field(1000, ge=100)


class Recipe(_Model):
    """Everything that decides a checkpoint, apart from the code."""

    name: str
    seed: int
    data: DataConfig
    model: ModelConfig
    sft: SftConfig
    evaluation: EvaluationConfig


def load_recipe(path: Path | None = None) -> Recipe:
    """Read a recipe; without a path, the demo's.

    Raises:
        RecipeError: unreadable, or a field is wrong.
    """
    name = str(path) if path is not None else "demo.yaml"
    try:
        source = (
            resources.files("metaalign_training").joinpath("recipes", "demo.yaml") if path is None else path
        )
        return Recipe.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise RecipeError(f"{name}: not a readable YAML file ({type(error).__name__})") from error
    except ValidationError as error:
        message, _ = describe_validation_error(error, name)
        raise RecipeError(message) from None
