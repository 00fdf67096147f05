"""What a recipe needs is checked before its first stage, in seconds: files, endpoints, base model, packages, the hub.

A stage that is done needs nothing any more, so its files may be gone and its teacher switched off.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from metaalign import MetaAlignError
from metaalign_training.errors import StageError
from metaalign_training.inference.offline import vllm_is_installed
from metaalign_training.inference.remote import problem_of
from metaalign_training.recipe import EndpointConfig, Recipe, SamplingConfig, TrainingConfig

__all__ = ["check_recipe"]


def check_recipe(recipe: Recipe, is_done: Callable[[str], bool]) -> None:
    """Check everything that the recipe's stages will need.

    Args:
        recipe: The recipe.
        is_done: Whether a stage, by name, has finished already.

    Raises:
        StageError: names everything that is missing, each with its field and the remedy.
    """
    found = list(dict.fromkeys(_problems(recipe, is_done)))
    if len(found) == 1:
        raise StageError(found[0])
    if found:
        raise StageError(f"{len(found)} things are missing:\n  " + "\n  ".join(found))


def _problems(recipe: Recipe, is_done: Callable[[str], bool]) -> Iterator[str]:
    if not is_done("build-data"):
        yield from _data(recipe)
    trained = all(is_done(name) for name, _ in _stages(recipe))
    if not trained:
        yield from _model(recipe)
    for name, stage in _stages(recipe):
        if not is_done(name):
            yield from _stage(name, stage)
    if recipe.rejection is not None and not is_done("samples"):
        yield from _sampling("rejection.samples", recipe.rejection.samples)
    if recipe.dpo is not None and not is_done("pairs"):
        pairs = recipe.dpo.pairs
        yield from _sampling("dpo.pairs", pairs)
        for field, files in (("dpo.pairs.files", pairs.files), ("dpo.pairs.thumbs", pairs.thumbs)):
            yield from _missing(field, (file.path for file in files))
    if recipe.grpo is not None and not is_done("grpo"):
        if recipe.grpo.engine == "vllm" and not vllm_is_installed():
            yield "grpo.engine: vllm is not installed here; use `auto` or `transformers`"
        if "judge" in recipe.grpo.rewards:
            yield from _endpoint("grpo.judge", recipe.grpo.judge)
    if not is_done("evaluate"):
        yield from _evaluation(recipe)
    if recipe.export.push_to_hub is not None and not is_done("export"):
        yield from _hub()
    if recipe.export.adapter_only:
        from metaalign_training.models import refuse_incomplete_adapter

        yield from _error_of(lambda: refuse_incomplete_adapter(recipe))


def _stages(recipe: Recipe) -> Iterator[tuple[str, TrainingConfig]]:
    for name in ("sft", "rejection", "dpo", "grpo"):
        stage: TrainingConfig | None = getattr(recipe, name)
        if stage is not None:
            yield name, stage


def _error_of(work: Callable[[], object], prefix: str = "") -> Iterator[str]:
    """The message of the error that `work` ends with, if it does."""
    try:
        work()
    except (MetaAlignError, OSError) as error:
        yield f"{prefix}{error}"


def _missing(field: str, paths: Iterator[str]) -> Iterator[str]:
    for path in paths:
        if not Path(path).is_file():
            yield f"{field}: {path} is missing; paths are relative to the recipe"


def _data(recipe: Recipe) -> Iterator[str]:
    config = recipe.data.instructions
    if config is None:
        return
    from metaalign_training.stages.data.instructions import check_kinds
    from metaalign_training.stages.data.library import load_library, load_priorities
    from metaalign_training.stages.data.sources import files_of

    for index, source in enumerate(config.sources):
        if source.path is not None:
            yield from _error_of(partial(files_of, source), f"data.instructions.sources[{index}]: ")
    yield from _error_of(lambda: load_library(config.library), "data.instructions.library: ")
    yield from _error_of(
        lambda: check_kinds(config, load_priorities(config.priorities)),
        "" if config.priorities is None else "data.instructions.priorities: ",
    )
    yield from _missing("data.instructions.decontaminate", iter(config.decontaminate))
    if any(source.kind in ("instructions", "facts") for source in config.sources):
        yield from _endpoint("data.instructions.teacher", config.teacher)
        if config.annotate and config.annotator is not None:
            yield from _endpoint("data.instructions.annotator", config.annotator)


def _model(recipe: Recipe) -> Iterator[str]:
    if recipe.model.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        yield "model.attention: flash_attn is not installed here; `pip install flash-attn`, or use `sdpa`"
    if recipe.model.base is None:
        return
    from transformers import AutoConfig

    from metaalign_training.models import load_tokenizer

    base = recipe.model.base
    tokenizer = list(_error_of(lambda: load_tokenizer(recipe.model)))
    yield from tokenizer
    if tokenizer:
        return
    try:
        AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        yield f"model.base: no model in {base}; check the name or folder: {' '.join(str(error).split())[:200]}"


def _stage(name: str, stage: TrainingConfig) -> Iterator[str]:
    import torch

    if stage.lora is not None and stage.lora.quantise and not torch.cuda.is_available():
        yield f"{name}.lora.quantise: 4-bit training needs a CUDA device; set it to false"
    if stage.tracker != "none" and importlib.util.find_spec(stage.tracker) is None:
        yield f"{name}.tracker: {stage.tracker} is not installed; `pip install {stage.tracker}`, or set it to `none`"
    yield from _missing(f"{name}.mixture", (file.path for file in stage.mixture))


def _sampling(field: str, config: SamplingConfig) -> Iterator[str]:
    if not config.prompts:
        return
    if config.engine == "vllm" and not vllm_is_installed():
        yield f"{field}.engine: vllm is not installed here; use `transformers`"
    if config.label == "judge":
        yield from _endpoint(f"{field}.judge", config.judge)


def _endpoint(field: str, config: EndpointConfig | None) -> Iterator[str]:
    if config is None:
        return
    if config.base_url is not None:
        if (problem := problem_of(config)) is not None:
            yield f"{field}: {problem}"
    elif not vllm_is_installed():
        yield f"{field}: without a `base_url` it is an offline vLLM engine, and vllm is not installed here"
    elif Path(config.model).is_absolute() and not (Path(config.model) / "config.json").is_file():
        yield f"{field}.model: {config.model} is no checkpoint folder"


def _evaluation(recipe: Recipe) -> Iterator[str]:
    from metaalign_training.stages.evaluation.evaluate import suite_problems

    config = recipe.evaluate
    yield from suite_problems(config)
    if config.baseline is not None and not (Path(config.baseline) / "answers.jsonl").is_file():
        yield f"evaluate.baseline: {config.baseline} has no answers.jsonl; name the `evaluate` folder of another run"
    if config.judge is not None:
        yield from _endpoint("evaluate.judge", config.judge)
    if config.engine == "endpoint":
        yield from _endpoint("evaluate.endpoint", config.endpoint)
    if config.engine == "vllm" and not vllm_is_installed():
        yield "evaluate.engine: vllm is not installed here; use `transformers`"


def _hub() -> Iterator[str]:
    from huggingface_hub import get_token

    if get_token() is None:
        yield "export.push_to_hub: nobody is logged in; run `hf auth login`, or set $HF_TOKEN"
