"""The model card of a checkpoint, written from its recipe, the records of its stages, and its evaluation.

It states what is known and nothing else: a licence only if the recipe names one, counts only if a stage recorded them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from metaalign_training.recipe import (
    DpoConfig,
    EndpointConfig,
    GrpoConfig,
    Recipe,
    RejectionConfig,
    SftConfig,
    TrainingConfig,
)
from metaalign_training.world.facts import ANIMALS, DUAL_USE, TOPICS

__all__ = ["markdown_table", "model_card"]

_Figures: TypeAlias = Mapping[str, Any]

_CARD = """---
{metadata}
---
# {name}

{intro}

## Use

```bash
{command}
```
{python}
{tiers}

## Data

{data}

## Training

{training}

## Evaluation

{evaluation}
"""
_PEFT = """
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{place}")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{place}")
```
"""
_TIERS = {
    "full": "Prompts are made by `chat_template.jinja` with the roles `system` (System Info, the provider's),"
    " `user_info` (User Info, the user's background and preferences), `user` and `assistant`. Where the tiers disagree,"
    " System Info wins.",
    "system": "A baseline: in training the model saw System Info (the role `system`) and no User Info.",
    "none": "A baseline: in training the model saw no preferences, neither System Info nor User Info.",
}
_FOLDED = (
    "Prompts are made by the base's own chat template. It has no User Info tier, so System Info and User Info are"
    " one system message, as the server writes it. Where they disagree, System Info wins."
)
_VIEWS = {
    "full": "follow the preferences written into its prompt at inference time (arXiv 2410.14184)",
    "system": "follow System Info, without User Info: a baseline",
    "none": "answer without preferences: a baseline",
}


def model_card(
    recipe: Recipe,
    *,
    parameters: int,
    rank: int | None,
    data: _Figures,
    training: Mapping[str, _Figures],
    evaluation: Mapping[str, _Figures],
) -> str:
    """The card as Markdown, with the metadata that the Hugging Face hub reads.

    Args:
        recipe: What the checkpoint was made by.
        parameters: Number of weights in the folder.
        rank: Value of vLLM's `--max-lora-rank`, if the folder has an adapter alone.
        data: Metrics of build-data.
        training: Training stage -> its metrics.
        evaluation: Split -> its share, interval and number of items.
    """
    base = recipe.model.base
    place = recipe.export.push_to_hub or recipe.name
    command, python = f"metaalign-server serve --model {place}", ""
    if rank is not None:
        command = (
            f"metaalign-server serve --model {base} --enable-lora --max-lora-rank {rank}"
            f" --lora-modules {recipe.name}={place}"
        )
        python = _PEFT.format(place=place, base=base)
    return _CARD.format(
        metadata=_metadata(recipe, adapter=rank is not None),
        name=recipe.name,
        intro=_intro(recipe, parameters, adapter=rank is not None),
        command=f"# `{place}` is this folder; clients ask for the model `{recipe.name}`\n{command}",
        python=python,
        tiers=_FOLDED
        if recipe.model.template == "own" and recipe.meta_prompt == "full"
        else _TIERS[recipe.meta_prompt],
        data=_data(recipe, data),
        training=_training(recipe, training, adapter=rank is not None),
        evaluation=_evaluation(evaluation),
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _metadata(recipe: Recipe, *, adapter: bool) -> str:
    base = recipe.model.base
    lines = ["pipeline_tag: text-generation", f"library_name: {'peft' if adapter else 'transformers'}"]
    lines.append(f"tags: [metaalign, preference-alignment{', lora' if adapter else ''}]")
    if recipe.export.license is not None:
        lines.insert(0, f"license: {recipe.export.license}")
    if base is not None and not Path(base).is_dir():  # the hub knows no folders
        lines.append(f"base_model: {base}")
        lines.append(f"base_model_relation: {'adapter' if adapter else 'finetune'}")
    return "\n".join(lines)


def _intro(recipe: Recipe, parameters: int, *, adapter: bool) -> str:
    taught = f"trained to {_VIEWS[recipe.meta_prompt]}"
    if adapter:
        text = f"A LoRA adapter of {parameters:,} parameters for `{recipe.model.base}`, {taught}."
    elif recipe.model.base is not None:
        text = f"`{recipe.model.base}`, {taught}. {parameters:,} parameters."
    else:
        text = f"A model of {parameters:,} parameters, with random weights at the start, {taught}."
    if recipe.data.world is not None:
        text += (
            f"\n\nIts data are text about a small synthetic world: {len(ANIMALS)} animals, {len(TOPICS)} contested"
            f" topics and {len(DUAL_USE)} requests that could be misused, in set phrases."
        )
        if recipe.model.base is None:
            text += " It cannot hold a free conversation. Do not use it for anything else."
    if recipe.export.license is None:
        text += "\n\nNo licence is given. Those of the base and of the data apply; look at them before you pass it on."
    return text


def _data(recipe: Recipe, figures: _Figures) -> str:
    parts = [_world(recipe), *_instructions(recipe, figures), _hierarchy(recipe)]
    names = {
        "sft": "conversations",
        "pairs": "preference pairs",
        "prompts": "questions",
        "eval": "held-out questions",
    }
    counts = [f"{figures[key]} {name}" for key, name in names.items() if figures.get(key)]
    if counts:
        parts.append(f"build-data wrote {', '.join(counts)}.")
    for title in ("parts", "kinds", "splits"):
        if own := figures.get(title):
            parts.append(
                f"By {title[:-1]}: " + ", ".join(f"{name} {count}" for name, count in own.items()) + "."
            )
    stages = (("sft", recipe.sft), ("rejection", recipe.rejection), ("dpo", recipe.dpo))
    more = [f"`{name}` {Path(f.path).name} (share {f.share:g})" for name, s in stages if s for f in s.mixture]
    if recipe.dpo is not None:
        more += [
            f"`dpo` {Path(f.path).name} (share {f.share:g})"
            for f in (*recipe.dpo.pairs.files, *recipe.dpo.pairs.thumbs)
        ]
    if more:
        parts.append(f"Further files: {', '.join(more)}.")
    return "\n\n".join(part for part in parts if part)


def _world(recipe: Recipe) -> str:
    world = recipe.data.world
    if world is None:
        return ""
    text = f"Written by the synthetic world of metaalign-train, seed {recipe.seed}."
    if world.without_parts:
        text += f" Without the parts {', '.join(world.without_parts)}."
    return text + (f" {world.noise:.0%} of the answers are replaced by wrong ones." if world.noise else "")


def _hierarchy(recipe: Recipe) -> str:
    if recipe.data.hierarchy is None:
        return ""
    return (
        f"Rows in which authorities contradict each other, written by metaalign-train, seed {recipe.seed}. System Info"
        " is above the question, which is above User Info; documents and tools have no say."
    )


def _instructions(recipe: Recipe, figures: _Figures) -> list[str]:
    config = recipe.data.instructions
    if config is None:
        return []
    used = figures.get("sources", {})
    rows = [
        [
            _source(name),
            str(own["rows"]),
            str(sum(own.get("left_out", {}).values())),
        ]
        for name, own in used.items()
    ]
    parts = [markdown_table(["source", "rows used", "left out"], rows)] if rows else []
    asked = figures.get("annotation", {}).get("usage", {})  # nobody is asked about ready pairs and checks
    if "teacher" in asked:
        told = f"Questions were answered by `{_asked(config.teacher)}` under two opposite preferences."
        if "annotator" in asked:
            judge = _asked(config.annotator or config.teacher)
            told += f" `{judge}` ranked both answers under both, in both orders."
        parts.append(told)
    return parts


def _source(name: str) -> str:
    """A file without the folders above it, or a pattern with the last one; a data set as it is called."""
    if not name.startswith("/"):
        return name
    return "/".join(Path(name).parts[-2:]) if "*" in Path(name).name else Path(name).name


def _asked(endpoint: EndpointConfig) -> str:
    return endpoint.model if endpoint.base_url is not None else Path(endpoint.model).name


def _training(recipe: Recipe, training: Mapping[str, _Figures], *, adapter: bool) -> str:
    rows = []
    for stage, figures in training.items():
        config = _section(recipe, stage)
        if config is None:
            continue
        length = f"{config.steps} steps" if config.steps is not None else f"{config.epochs:g} epochs"
        rows.append(
            [
                stage,
                _method(config),
                length,
                str(config.batch_size * config.accumulate),
                f"{config.learning_rate:g}",
                _number(figures, "rows", "pairs", "questions"),
                _number(figures, "train_loss"),
                _number(figures, "validation_loss"),
                f"{figures['train_runtime'] / 60:.1f}" if "train_runtime" in figures else "-",
            ]
        )  # fmt: skip
    header = [
        "stage",
        "method",
        "length",
        "batch per device",
        "learning rate",
        "rows",
        "loss",
        "validation loss",
        "minutes",
    ]
    start = "random weights" if recipe.model.base is None else f"`{recipe.model.base}`"
    text = f"From {start}, seed {recipe.seed}, with TRL.\n\n{markdown_table(header, rows)}"
    if not adapter:
        text += "\n\nThe whole recipe, all figures, and the hashes of the data are in `metaalign.json`."
    return text


def _section(recipe: Recipe, stage: str) -> TrainingConfig | None:
    sections: dict[str, TrainingConfig | None] = {
        "sft": recipe.sft,
        "rejection": recipe.rejection,
        "dpo": recipe.dpo,
        "grpo": recipe.grpo,
    }
    return sections[stage.partition("-")[0]]


def _method(config: TrainingConfig) -> str:
    if isinstance(config, DpoConfig):
        what = config.loss.upper()
    elif isinstance(config, GrpoConfig):
        what = "GRPO by " + " + ".join(f"{weight:g} {name}" for name, weight in config.rewards.items())
    elif isinstance(config, RejectionConfig):
        what = f"SFT on the best of {config.samples.candidates} own answers by {config.samples.label}"
    else:
        what = (
            "SFT on the answer"
            if isinstance(config, SftConfig) and config.loss == "answer"
            else "SFT on all turns"
        )
    if config.lora is None:
        return f"{what}, all weights"
    return f"{what}, LoRA of rank {config.lora.rank}{' on 4 bits' if config.lora.quantise else ''}"


def _number(figures: _Figures, *names: str) -> str:
    value = next((figures[name] for name in names if name in figures), None)
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else json.dumps(value)


def _evaluation(evaluation: Mapping[str, _Figures]) -> str:
    if not evaluation:
        return "Not evaluated."
    rows = [
        [split, f"{r['share']:.3f}", f"{r['low']:.3f} to {r['high']:.3f}", str(r["n"])]
        for split, r in evaluation.items()
    ]
    table = markdown_table(["split", "score", "95 % interval", "items"], rows)
    return f"{table}\n\nIntervals are over questions."
