"""Run the stages of a recipe, each in its folder below WORK: what it reads and what it leaves there.

WORK/build-data   sft.jsonl, prompts.jsonl, pairs.jsonl, eval.jsonl, card and coverage
WORK/sft          the model (or an adapter, with the whole model in merged/)
WORK/samples      sft.jsonl, the best of several answers of the SFT model
WORK/rejection    the model, laid out as in sft
WORK/pairs        pairs.jsonl, sampled from the model before; further rounds: pairs-2, pairs-3, …
WORK/dpo          the model, laid out as in sft; further rounds: dpo-2, dpo-3, …
WORK/grpo         the model, laid out as in sft
WORK/evaluate     answers, scores, results.json, answers.md, report.md, report.html
WORK/probe        the same for requests that were written by hand
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
from metaalign_training.recipe import DataConfig, Recipe, SuiteConfig
from metaalign_training.records import RECORD_NAME, Json, Record, Stage, read_record, update_metrics

if TYPE_CHECKING:  # stages import torch, so each is imported only when it runs
    from metaalign_training.stages.data.card import InstructionReport
    from metaalign_training.stages.data.hierarchy import HierarchyReport
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


_PREFERENCE_SHARE = 0.4
"""Share of the questions that are not SFT's own where later stages need some."""

Trained = Literal["sft", "rejection", "dpo", "grpo"]
"""The commands that train."""


def _turned(name: str, turn: int) -> str:
    """The name of a stage in a round of iterative DPO."""
    return name if turn == 1 else f"{name}-{turn}"


def _command(stage: str) -> str:
    """The command that runs a stage."""
    if stage == "samples":
        return "rejection"
    name, dash, turn = stage.partition("-")
    return name if dash and turn.isdigit() else stage


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

    def _stage(self, name: str, config: Mapping[str, Json], inputs: Mapping[str, Path]) -> Stage:
        return Stage(name, self.work / name, config, inputs, main=self.main)

    def _is_done(self, name: str) -> bool:
        record = read_record(self.work / name)
        return record is not None and record["status"] == "done" and not self._force

    def _done(self, name: str) -> Path:
        """The folder of a stage that must have finished."""
        record = read_record(self.work / name)
        if record is None or record["status"] != "done":
            state = "has not finished" if record is not None else "has not run"
            raise StageError(
                f"{name} {state} in {self.work}; run `metaalign-train {_command(name)}` with the same recipe first"
            )
        return self.work / name

    def prepare(self, name: Trained) -> None:
        """Do the work that must happen once, before several processes start to train together.

        Raises:
            StageError: the stage cannot start on what it finds.
        """
        if name == "dpo":
            if self.recipe.dpo is not None and self.recipe.dpo.rounds > 1:
                raise StageError(
                    "dpo.rounds: several rounds cannot be trained by several processes; set it to 1"
                )
            self.pairs()
        if name == "rejection":
            self.samples()
        if name == "grpo" and self.recipe.grpo is not None and self.recipe.grpo.engine == "vllm":
            raise StageError(
                "grpo.engine: vllm samples for one process only; with --accelerate, set it to `transformers`"
            )
        if self._force:
            stages = {
                "sft": self._sft_stage,
                "rejection": self._rejection_stage,
                "dpo": self._dpo_stage,
                "grpo": self._grpo_stage,
            }
            stages[name]().restart()

    def _training_stages(self) -> list[str]:
        """The recipe's training stages, each of which starts from the model of the one before."""
        recipe, names = self.recipe, ["sft"]
        if recipe.rejection is not None:
            names.append("rejection")
        if recipe.dpo is not None:
            names += [_turned("dpo", turn) for turn in range(1, recipe.dpo.rounds + 1)]
        if recipe.grpo is not None:
            names.append("grpo")
        return names

    def _before(self, name: str) -> Path:
        """Folder of the finished training stage before `name`."""
        names = self._training_stages()
        return self._done(names[names.index(name) - 1])

    def trained(self) -> Path:
        """Folder of the recipe's last training stage."""
        return self._done(self._training_stages()[-1])

    def _data(self) -> DataConfig:
        """The recipe's data section; questions are set aside for the stages after SFT only if there are any."""
        data = self.recipe.data
        if data.instructions is None or data.instructions.preference_share is not None:
            return data
        share = _PREFERENCE_SHARE if len(self._training_stages()) > 1 else 0.0
        own = data.instructions.model_copy(update={"preference_share": share})
        return data.model_copy(update={"instructions": own})

    def build_data(self) -> WorldReport | InstructionReport | HierarchyReport:
        """Write the rows that the other stages read."""
        data = self._data()
        inputs: dict[str, Path] = {}
        if data.instructions is not None:
            from metaalign_training.stages.data.sources import source_files

            inputs = {str(p): p for p in source_files(data.instructions)}

        def work(folder: Path) -> WorldReport | InstructionReport | HierarchyReport:
            if data.world is not None:
                from metaalign_training.stages.data.synthetic import build_world

                return build_world(data.world, self.recipe.seed, folder)
            if data.hierarchy is not None:
                from metaalign_training.stages.data.hierarchy import build_hierarchy

                return build_hierarchy(data.hierarchy, self.recipe.seed, folder)
            if data.instructions is None:
                raise StageError("data: neither `world`, `instructions` nor `hierarchy`")
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

    def samples(self) -> dict[str, float]:
        """Sample rejection sampling's rows from the SFT model."""
        from metaalign_training.stages.samples import make_samples
        from metaalign_training.stages.sft import model_folder

        if self.recipe.rejection is None:
            raise StageError("rejection: the recipe has no `rejection` section")
        data, before = self._done("build-data"), self._before("rejection")
        inputs = {"build-data": data / RECORD_NAME, "model": before / RECORD_NAME}
        stage = self._stage("samples", self._training_config(self.recipe.rejection.samples), inputs)
        return stage.run(
            lambda folder: make_samples(self.recipe, model_folder(before), data, folder), force=self._force
        )

    def _rejection_stage(self) -> Stage:
        config = self.recipe.rejection
        inputs = {
            "model": self._before("rejection") / RECORD_NAME,
            "sft.jsonl": self._done("samples") / "sft.jsonl",
            **self._mixture(f.path for f in (config.mixture if config is not None else ())),
        }
        return self._stage("rejection", self._training_config(config), inputs)

    def rejection(self) -> dict[str, float]:
        """Supervised fine-tuning on the model's own best answers, which are sampled first."""
        from metaalign_training.stages.sft import model_folder, train

        if self.main:
            self.samples()
        stage, start = self._rejection_stage(), model_folder(self._before("rejection"))
        rows = self.work / "samples" / "sft.jsonl"
        return stage.run(
            lambda folder: train(self.recipe, rows, folder, self.recipe.rejection, start), force=self._force
        )

    def pairs(self, turn: int = 1) -> dict[str, int]:
        """Sample DPO's pairs of a round from the model before."""
        from metaalign_training.stages.pairs import make_pairs
        from metaalign_training.stages.sft import model_folder

        if self.recipe.dpo is None:
            raise StageError("dpo: the recipe has no `dpo` section; it is one-stage")
        data, before = self._done("build-data"), self._before(_turned("dpo", turn))
        files = self._mixture(f.path for f in self.recipe.dpo.pairs.files)
        inputs = {"build-data": data / RECORD_NAME, before.name: before / RECORD_NAME, **files}
        config = self._training_config(self.recipe.dpo.pairs)
        stage = self._stage(_turned("pairs", turn), config, inputs)
        return stage.run(
            lambda folder: make_pairs(self.recipe, model_folder(before), data, folder, turn),
            force=self._force,
        )

    def _dpo_stage(self, turn: int = 1) -> Stage:
        before, config = self._before(_turned("dpo", turn)), self.recipe.dpo
        inputs = {
            before.name: before / RECORD_NAME,
            "pairs.jsonl": self._done(_turned("pairs", turn)) / "pairs.jsonl",
            **self._mixture(f.path for f in (config.pairs.thumbs if config is not None else ())),
        }
        return self._stage(_turned("dpo", turn), self._training_config(config), inputs)

    def dpo(self) -> dict[str, float]:
        """Preference optimisation, in each round on pairs that are sampled first; returns the last round's metrics."""
        metrics: dict[str, float] = {}
        for turn in range(1, (self.recipe.dpo.rounds if self.recipe.dpo is not None else 1) + 1):
            metrics = self._dpo_round(turn)
        return metrics

    def _dpo_round(self, turn: int) -> dict[str, float]:
        from metaalign_training.rows import read_pairs
        from metaalign_training.stages.dpo import train
        from metaalign_training.stages.sft import model_folder

        if self.main:
            self.pairs(turn)
        stage, before = self._dpo_stage(turn), self._before(_turned("dpo", turn))
        pairs = self.work / _turned("pairs", turn) / "pairs.jsonl"

        def work(folder: Path) -> dict[str, float]:
            rows = read_pairs(pairs) if pairs.stat().st_size else []
            return train(self.recipe, model_folder(before), rows, folder)

        return stage.run(work, force=self._force)

    def _grpo_stage(self) -> Stage:
        if self.recipe.grpo is None:
            raise StageError("grpo: the recipe has no `grpo` section")
        inputs = {
            "build-data": self._done("build-data") / RECORD_NAME,
            "model": self._before("grpo") / RECORD_NAME,
        }
        return self._stage("grpo", self._training_config(self.recipe.grpo), inputs)

    def grpo(self) -> dict[str, float]:
        """Learning from rewards online."""
        from metaalign_training.stages.grpo import train
        from metaalign_training.stages.sft import model_folder

        stage, before = self._grpo_stage(), self._before("grpo")
        models = None
        if self.recipe.dpo is not None:
            models = (model_folder(before), model_folder(self._before("dpo")))
        data = self.work / "build-data"
        return stage.run(
            lambda folder: train(self.recipe, model_folder(before), data, folder, models), force=self._force
        )

    def evaluate(self, model: Path | None = None) -> Summary:
        """Score the last training stage's model, the checkpoint in `model`, or the recipe's endpoint."""
        return self._evaluated("evaluate", self.recipe, model)

    def probe(self, model: Path | None = None) -> Summary:
        """Score as `evaluate` does, but on the package's hand-written requests to the demo, and names."""
        suites = (SuiteConfig(kind="probe"), SuiteConfig(kind="probe-names"))
        config = self.recipe.evaluate.model_copy(update={"suites": suites, "judge": None, "baseline": None})
        return self._evaluated("probe", self.recipe.model_copy(update={"evaluate": config}), model)

    def _evaluated(self, name: str, recipe: Recipe, model: Path | None) -> Summary:
        from metaalign_training.stages.evaluation.adapters import suite_file
        from metaalign_training.stages.evaluation.evaluate import evaluate
        from metaalign_training.stages.sft import model_folder

        config = recipe.evaluate
        inputs: dict[str, Path] = {}
        losses: dict[str, Path] = {}
        if model is not None:
            names = (RECORD_NAME, "metaalign.json", "config.json")
            inputs["model"] = next((model / n for n in names if (model / n).is_file()), model / "config.json")
        elif config.engine != "endpoint":
            trained = self.trained()
            inputs["model"], model = trained / RECORD_NAME, model_folder(trained)
            losses = {
                name: self.work / name / "losses.json" for name in self._training_stages() if name != "grpo"
            }
        rows = self.work / "build-data" / "eval.jsonl"
        for suite in config.suites:
            path = suite_file(suite, rows)
            if path == rows:
                self._done("build-data")
            if path.is_file():
                inputs[suite.path or path.name] = path
        settings = {"seed": recipe.seed, "meta_prompt": recipe.meta_prompt, "evaluate": _plain(config)}
        stage = self._stage(name, settings, inputs)
        return stage.run(lambda folder: evaluate(recipe, model, rows, folder, losses), force=self._force)

    def rescore(self) -> Summary:
        """Score the answers of the finished evaluation again, without asking a model."""
        from metaalign_training.stages.evaluation.adapters import suite_file
        from metaalign_training.stages.evaluation.evaluate import rescore

        folder, config = self._done("evaluate"), self.recipe.evaluate
        record = read_record(folder)
        rows = self.work / "build-data" / "eval.jsonl"
        files = {s.path or suite_file(s, rows).name: suite_file(s, rows) for s in config.suites}
        for name, path in files.items():
            known = record["inputs"].get(name) if record is not None else None
            if known is not None and path.is_file() and sha256_of(path) != known:
                raise StageError(
                    f"rescore: {path} has changed since the answers were given; run `metaalign-train evaluate --force`"
                )
        summary = rescore(self.recipe, rows, folder)
        update_metrics(folder, summary)
        return summary

    def export(self, out: Path) -> ExportReport:
        """Write the checkpoint to `out`."""
        from metaalign_training.stages.export import export

        trained = self.trained()
        evaluated = read_record(self.work / "evaluate")
        inputs = {"trained": trained / RECORD_NAME}
        if evaluated is not None and evaluated["status"] == "done":
            inputs["evaluate"] = self.work / "evaluate" / RECORD_NAME
        stages = self._training_stages()
        training = {n: _figures(read_record(self.work / n)) for n in stages}
        rows = {
            "sft.jsonl": self.work / "build-data" / "sft.jsonl",
            "samples.jsonl": self.work / "samples" / "sft.jsonl",
            "pairs.jsonl": self.work / "pairs" / "pairs.jsonl",
        }
        datasets = {name: sha256_of(path) for name, path in rows.items() if path.is_file()}

        def work(_: Path) -> ExportReport:
            return export(
                self.recipe,
                [self.work / name for name in stages],
                out,
                datasets=datasets,
                data=_figures(read_record(self.work / "build-data")),
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
        """All stages; returns the evaluation.

        Raises:
            StageError: something that a stage needs is missing; checked before the first one.
        """
        from metaalign_training.preflight import check_recipe

        check_recipe(self.recipe, self._is_done)
        self.build_data()
        self.sft()
        if self.recipe.rejection is not None:
            self.rejection()
        if self.recipe.dpo is not None:
            self.dpo()
        if self.recipe.grpo is not None:
            self.grpo()
        evaluation = self.evaluate()
        self.export(out)
        report = self.work / "evaluate" / "report.html"
        logger.info(
            "run: %s is in %s, its report in %s; `metaalign-server serve --model %s` serves it",
            self.recipe.name, out, report, out,
        )  # fmt: skip
        return evaluation
