"""`metaalign-train export RECIPE [--out DIR]`: a checkpoint folder that the server, plain vLLM and transformers load.

Writes safetensors, tokenizer, chat template, model card, and the manifest with hashes and evaluation summary; with
`adapter_only`, the LoRA adapter instead. `push_to_hub` uploads the folder.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from metaalign.prompt import PromptAssembler, packaged_template, write_manifest
from metaalign_training.adapters import CONFIG, WEIGHTS, rank_of, stack
from metaalign_training.card import model_card
from metaalign_training.errors import StageError
from metaalign_training.models import load_tokenizer
from metaalign_training.recipe import Recipe

__all__ = ["ExportReport", "export"]

logger = logging.getLogger(__name__)

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_FILES = ("config.json", "generation_config.json", *_TOKENIZER)
_SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's `--max-lora-rank`."""


class ExportReport(TypedDict):
    """What was written.

    Attributes:
        out: The folder.
        template: SHA-256 of the chat template.
        files: Name -> SHA-256; missing for an adapter, which has no manifest.
        hub: Address of the uploaded copy, if there is one.
    """

    out: str
    template: NotRequired[str]
    files: NotRequired[dict[str, str]]
    hub: NotRequired[str]


def export(
    recipe: Recipe,
    trained: Sequence[Path],
    target: Path,
    *,
    datasets: Mapping[str, str],
    data: Mapping[str, Any],
    training: Mapping[str, Mapping[str, float]],
    evaluation: Mapping[str, Mapping[str, float]],
) -> ExportReport:
    """Write the checkpoint to `target`, and upload it if the recipe says so.

    Args:
        recipe: The recipe of the checkpoint.
        trained: Folders of the training stages in order; the last has a whole model, or an adapter with its `merged`
            model. For an adapter alone, all of them have one.
        target: Folder to write to; an earlier export in it is replaced.
        datasets: Name -> SHA-256 of the rows.
        data: Metrics of build-data.
        training: Metrics of the training stages.
        evaluation: Summary of `evaluate`.

    Raises:
        StageError: a file is missing, the template is not the one used in training, or the hub refuses the upload.
    """
    adapter = recipe.export.adapter_only
    last = trained[-1]
    source = last if adapter or not (last / "merged").is_dir() else last / "merged"
    files = _files(source, adapter)
    tokenizer = load_tokenizer(recipe.model, source)
    template = str(tokenizer.chat_template)
    if recipe.model.template == "metaalign" and template != packaged_template().source:
        raise StageError(
            f"export: the chat template in {source} is not the packaged one; train again, or set `model.template: own`"
        )
    PromptAssembler.from_tokenizer(tokenizer)
    _copy(files, target)
    if adapter and len(trained) > 1:
        stack(trained, target)
    (target / "chat_template.jinja").write_text(template, encoding="utf-8")
    card = model_card(
        recipe,
        parameters=_parameters(target),
        rank=_served_rank(target) if adapter else None,
        data=data,
        training=training,
        evaluation=evaluation,
    )
    (target / "README.md").write_text(card, encoding="utf-8")
    report: ExportReport = {"out": str(target)}
    if not adapter:
        manifest = write_manifest(
            target,
            base_model=recipe.model.base or "none (random initialisation)",
            datasets=dict(datasets),
            recipe={**recipe.model_dump(exclude_none=True), "training": dict(training)},
            evaluation=dict(evaluation),
        )
        report["template"] = manifest.template.sha256
        report["files"] = {name: record.sha256 for name, record in manifest.files.items()}
    if recipe.export.push_to_hub is not None:
        report["hub"] = _push(target, recipe.export.push_to_hub, private=recipe.export.private)
    return report


def _files(source: Path, adapter: bool) -> list[Path]:
    """The files that are copied from a training stage's folder."""
    weights = (path.name for pattern in _WEIGHTS for path in source.glob(pattern))
    files = []
    for name in (WEIGHTS, CONFIG, *_TOKENIZER) if adapter else (*weights, *_FILES):
        if (source / name).is_file():
            files.append(source / name)
        elif name != "generation_config.json":
            raise StageError(f"export: {source / name} is missing; run the training stage again")
    return files


def _copy(files: Sequence[Path], target: Path) -> None:
    """Copy the files to `target`, and only then remove the weights of an earlier export."""
    target.mkdir(parents=True, exist_ok=True)
    partial = target / ".partial"
    try:
        partial.mkdir(exist_ok=True)
        for path in files:
            shutil.copyfile(path, partial / path.name)
        for pattern in _WEIGHTS:
            for old in target.glob(pattern):
                old.unlink()
        for path in files:
            (partial / path.name).replace(target / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _parameters(folder: Path) -> int:
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            shapes = [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118  (it is not a mapping)
        total += sum(math.prod(shape) for shape in shapes)
    return total


def _served_rank(folder: Path) -> int:
    """The smallest `--max-lora-rank` that serves the adapter in `folder`."""
    rank = rank_of(folder)
    return next((served for served in _SERVED_RANKS if served >= rank), rank)


def _push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload the folder and return its address.

    Raises:
        StageError: the hub refuses the upload or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Export from metaalign-train"
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise StageError(
            f"export.push_to_hub: {repository} was not written ({reason}); log in with `hf auth login`; "
            f"the export itself is in {folder}"
        ) from error
    return str(address)
