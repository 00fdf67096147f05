"""Run the stages of a recipe, each in its folder below WORK: what it reads and what it leaves there.

WORK/build-data   sft.jsonl, prompts.jsonl, pairs.jsonl, eval.jsonl, card and coverage
WORK/sft          the model (or an adapter, with the whole model in merged/)
WORK/pairs        pairs.jsonl, sampled from the SFT model
WORK/dpo          the model, laid out as in sft
WORK/evaluate     answers, scores, results.json, report.md, report.html
WORK/export       the record; the checkpoint itself goes where --out says
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from metaalign.prompt.manifest import sha256_of
from metaalign_training.errors import StageError
from metaalign_training.recipe import Recipe
from metaalign_training.records import RECORD_NAME, Json, Record, Stage, StageName, read_record

if TYPE_CHECKING:  # stages import torch, so each is imported only when it runs
    from metaalign_training.stages.data.card import InstructionReport
    from metaalign_training.stages.data.synthetic import WorldReport
    from metaalign_training.stages.evaluation.results import Summary
    from metaalign_training.stages.export import ExportReport

__all__ = ["Pipeline"]

logger = logging.getLogger(__name__)


# How an endpoint is reached does not change its answers: an endpoint that moved is still the same endpoint.
_TRANSPORT = frozenset(
    ("base_url", "api_key_env", "concurrency", "timeout", "retries", "input_price", "output_price")
)


def _plain(config: BaseModel | None) -> Json:
    """The section as JSON, without fields that do not affect the outputs."""
    return _deciding(config.model_dump(mode="json", exclude_none=True)) if config is not None else None


def _deciding(tree: Json) -> Json:
    if isinstance(tree, dict):
        return {key: _deciding(value) for key, value in tree.items() if key not in _TRANSPORT}
    return [_deciding(item) for item in tree] if isinstance(tree, list) else tree


def _figures(record: Record | None) -> Mapping[str, Any]:
    """The metrics of a finished stage; empty if it has not finished."""
    return record.get("metrics", {}) if record is not None else {}


class Pipeline:
    """Runs the stages of one recipe.

    Args:
        recipe: What to make.
        work: Parent of the stages' folders.
        force: Run stages again even if they are done or were made with another recipe.
        main: Whether this process writes the records; of several that train together, only the first does.
    """

    def __init__(self, recipe: Recipe, work: Path, *, force: bool = False, main: bool = True) -> None:
        self.recipe, self.work = recipe, work
        self._force, self.main = force, main

    def _stage(self, name: StageName, config: Mapping[str, Json], inputs: Mapping[str, Path]) -> Stage:
        return Stage(name, self.work / name, config, inputs, main=self.main)

    def _done(self, name: str) -> Path:
        """The folder of a stage that must have finished."""
        record = read_record(self.work / name)
        if record is None or record["status"] != "done":
            state = "has not finished" if record is not None else "has not run"
            raise StageError(
                f"{name} {state} in {self.work}; run `metaalign-train {name}` with the same recipe first"
            )
        return self.work / name

    def prepare(self, name: Literal["sft", "dpo"]) -> None:
        """Do the work that must happen once, before several processes start to train together.

        Raises:
            StageError: the stage cannot start on what it finds.
        """
        if name == "dpo":
            self.pairs()
        if self._force:
            stage = self._dpo_stage() if name == "dpo" else self._sft_stage()
            stage.restart()

    def trained(self) -> Path:
        """Folder of the recipe's last training stage."""
        return self._done("dpo" if self.recipe.dpo is not None else "sft")

    def build_data(self) -> WorldReport | InstructionReport:
        """Write the rows that the other stages read."""
        data = self.recipe.data
        inputs: dict[str, Path] = {}
        if data.instructions is not None:
            from metaalign_training.stages.data.sources import source_files

            inputs = {str(p): p for p in source_files(data.instructions)}

        def work(folder: Path) -> WorldReport | InstructionReport:
            if data.world is not None:
                from metaalign_training.stages.data.synthetic import build_world

                return build_world(data.world, self.recipe.seed, folder)
            if data.instructions is None:
                raise StageError("data: neither `world` nor `instructions`")
            from metaalign_training.stages.data.instructions import build_instructions

            return build_instructions(data.instructions, self.recipe.seed, folder)

        config = {"seed": self.recipe.seed, "data": _plain(data)}
        return self._stage("build-data", config, inputs).run(work, force=self._force)

    def _training_config(self, section: BaseModel | None) -> dict[str, Json]:
        recipe = self.recipe
        return {
            "seed": recipe.seed,
            "meta_prompt": recipe.meta_prompt,
            "model": _plain(recipe.model),
            "section": _plain(section),
        }

    def _mixture(self, files: Iterable[str]) -> dict[str, Path]:
        return {path: Path(path) for path in files}

    def _sft_stage(self) -> Stage:
        data = self._done("build-data") / "sft.jsonl"
        inputs = {"sft.jsonl": data, **self._mixture(f.path for f in self.recipe.sft.mixture)}
        return self._stage("sft", self._training_config(self.recipe.sft), inputs)

    def sft(self) -> dict[str, float]:
        """Supervised fine-tuning."""
        from metaalign_training.stages.sft import train

        stage, data = self._sft_stage(), self.work / "build-data" / "sft.jsonl"
        return stage.run(lambda folder: train(self.recipe, data, folder), force=self._force)

    def pairs(self) -> dict[str, int]:
        """Sample DPO's pairs from the SFT model."""
        from metaalign_training.stages.pairs import make_pairs
        from metaalign_training.stages.sft import model_folder

        if self.recipe.dpo is None:
            raise StageError("dpo: the recipe has no `dpo` section; it is one-stage")
        data, sft = self._done("build-data"), self._done("sft")
        files = self._mixture(f.path for f in self.recipe.dpo.pairs.files)
        inputs = {"build-data": data / RECORD_NAME, "sft": sft / RECORD_NAME, **files}
        stage = self._stage("pairs", self._training_config(self.recipe.dpo.pairs), inputs)
        return stage.run(
            lambda folder: make_pairs(self.recipe, model_folder(sft), data, folder), force=self._force
        )

    def _dpo_stage(self) -> Stage:
        inputs = {
            "sft": self._done("sft") / RECORD_NAME,
            "pairs.jsonl": self._done("pairs") / "pairs.jsonl",
        }
        return self._stage("dpo", self._training_config(self.recipe.dpo), inputs)

    def dpo(self) -> dict[str, float]:
        """Direct preference optimisation, on pairs that are sampled first."""
        from metaalign_training.rows import read_pairs
        from metaalign_training.stages.dpo import train
        from metaalign_training.stages.sft import model_folder

        if self.main:
            self.pairs()
        stage, sft, pairs = self._dpo_stage(), self.work / "sft", self.work / "pairs" / "pairs.jsonl"
        return stage.run(
            lambda folder: train(self.recipe, model_folder(sft), read_pairs(pairs), folder), force=self._force
        )

    def evaluate(self, model: Path | None = None) -> Summary:
        """Score the last training stage's model, the checkpoint in `model`, or the recipe's endpoint."""
        from metaalign_training.stages.evaluation.evaluate import evaluate
        from metaalign_training.stages.sft import model_folder

        config = self.recipe.evaluate
        inputs: dict[str, Path] = {}
        if model is not None:
            names = (RECORD_NAME, "metaalign.json", "config.json")
            inputs["model"] = next((model / n for n in names if (model / n).is_file()), model / "config.json")
        elif config.engine != "endpoint":
            trained = self.trained()
            inputs["model"], model = trained / RECORD_NAME, model_folder(trained)
        rows = self.work / "build-data" / "eval.jsonl"
        for suite in config.suites:
            path = Path(suite.path) if suite.path is not None else self._done("build-data") / "eval.jsonl"
            if path.is_file():
                inputs[str(suite.path or "eval.jsonl")] = path
        settings = {
            "seed": self.recipe.seed,
            "meta_prompt": self.recipe.meta_prompt,
            "evaluate": _plain(config),
        }
        stage = self._stage("evaluate", settings, inputs)
        return stage.run(lambda folder: evaluate(self.recipe, model, rows, folder), force=self._force)

    def export(self, out: Path) -> ExportReport:
        """Write the checkpoint to `out`."""
        from metaalign_training.stages.export import export

        trained = self.trained()
        evaluated = read_record(self.work / "evaluate")
        inputs = {"trained": trained / RECORD_NAME}
        if evaluated is not None and evaluated["status"] == "done":
            inputs["evaluate"] = self.work / "evaluate" / RECORD_NAME
        stages = ["sft", *(["dpo"] if self.recipe.dpo is not None else [])]
        training = {n: _figures(read_record(self.work / n)) for n in stages}
        rows = [self.work / "build-data" / "sft.jsonl", self.work / "pairs" / "pairs.jsonl"]
        datasets = {p.name: sha256_of(p) for p in rows if p.is_file()}

        def work(_: Path) -> ExportReport:
            return export(
                self.recipe,
                [self.work / name for name in stages],
                out,
                datasets=datasets,
                training=training,
                evaluation=_figures(evaluated),
            )

        config = {"name": self.recipe.name, "export": _plain(self.recipe.export), "out": str(out)}
        # The checkpoint lies outside the stage's folder: the stage is only done while the checkpoint is still there.
        force = self._force or (
            not (out / "config.json").is_file() and not (out / "adapter_config.json").is_file()
        )
        return self._stage("export", config, inputs).run(work, force=force)

    def run(self, out: Path) -> Summary:
        """All stages; returns the evaluation."""
        if self.recipe.export.adapter_only:
            from metaalign_training.models import refuse_incomplete_adapter

            refuse_incomplete_adapter(self.recipe)
        self.build_data()
        self.sft()
        if self.recipe.dpo is not None:
            self.dpo()
        evaluation = self.evaluate()
        self.export(out)
        logger.info(
            "run: %s is in %s, its report in %s",
            self.recipe.name,
            out,
            self.work / "evaluate" / "report.html",
        )
        return evaluation
