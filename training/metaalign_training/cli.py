"""`metaalign-train STAGE [RECIPE]`: make Meta-aligned checkpoints, stage by stage.

RECIPE is a YAML file or the name of a packaged recipe (`metaalign-train recipes` lists them). Each stage writes its
result and a record to its folder below --work. A finished stage is not run again, and a killed one resumes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import yaml

from metaalign import MetaAlignError
from metaalign_training.errors import RecipeError
from metaalign_training.recipe import Recipe
from metaalign_training.recipe_files import load_recipe, packaged_recipes

__all__ = ["PROCESS_ENVIRONMENT", "main"]

# Measured on two cores: without these, glibc returns memory to the system after every step, and idle threads spin.
PROCESS_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
_STAGES = {
    "build-data": "build the rows that the other stages read",
    "sft": "supervised fine-tuning",
    "rejection": "rejection sampling: supervised fine-tuning on the model's own best answers",
    "dpo": "sample pairs from the model, then preference optimisation (DPO and other losses), in one or more rounds",
    "grpo": "learn from verifiers or a judge online (GRPO)",
    "evaluate": "score the checkpoint and write the report",
    "probe": "score the checkpoint on requests to the demo that were written by hand, and on names",
    "rescore": "score the stored answers of an evaluation again, without asking a model",
    "export": "write the checkpoint folder that servers load",
    "run": "all of these but probe and rescore, in order",
}


_LAUNCHED = "METAALIGN_TRAIN_LAUNCHED"
"""Set in the processes that `--accelerate` started, which must not start others."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metaalign-train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _STAGES.items():
        stage = commands.add_parser(name, help=text, description=text)
        stage.add_argument(
            "recipe", nargs="?", default="demo", help="YAML file or packaged name; default: demo"
        )
        stage.add_argument(
            "--work", type=Path, help="folder for the stages; default: build/NAME of the recipe"
        )
        stage.add_argument(
            "--set", action="append", default=[], metavar="a.b=VALUE", help="override a field of the recipe"
        )
        stage.add_argument("--seed", type=int, help="seed, instead of the recipe's")
        if name != "rescore":
            stage.add_argument(
                "--force",
                action="store_true",
                help="run the stage again; the old result is kept until the new one is complete",
            )
        if name in ("export", "run"):
            stage.add_argument("--out", type=Path, help="checkpoint folder; default: WORK/checkpoint")
        if name in ("evaluate", "probe"):
            stage.add_argument(
                "--model", type=Path, help="checkpoint folder, instead of the last training stage's"
            )
        if name in ("sft", "rejection", "dpo", "grpo"):
            stage.add_argument(
                "--accelerate",
                metavar="CONFIG",
                help=f"train on several devices: {', '.join(_accelerate_configs())}, or a file",
            )
    report = commands.add_parser(
        "report", help="compare evaluations; a name given twice is two seeds of one system"
    )
    report.add_argument("out", type=Path, help="folder for report.md and report.html")
    report.add_argument("results", nargs="+", metavar="NAME=FOLDER", help="evaluation folders")
    chat = commands.add_parser(
        "chat", help="talk with a checkpoint, and change the preferences in the middle of it"
    )
    chat.add_argument("checkpoint", type=Path, help="checkpoint folder")
    chat.add_argument("--system", default="", metavar="TEXT", help="System Info")
    chat.add_argument("--user", default="", metavar="TEXT", help="User Info")
    chat.add_argument("--prefer", metavar="JSON", help="the whole `preferences` field, instead of these")
    chat.add_argument("--temperature", type=float, default=0.0, help="default: 0, greedy")
    chat.add_argument(
        "--max-new-tokens", type=int, default=512, help="length of an answer at most; default: 512"
    )
    chat.add_argument("--seed", type=int, default=0)
    commands.add_parser("recipes", help="list the packaged recipes")
    return parser


def _accelerate_configs() -> list[str]:
    folder = resources.files("metaalign_training").joinpath("accelerate")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def _restart_with_environment() -> None:
    """Restart this process with variables that are read only at its start."""
    missing = {name: value for name, value in PROCESS_ENVIRONMENT.items() if name not in os.environ}
    if missing:
        os.environ.update(missing)
        os.execv(sys.executable, [sys.executable, "-m", "metaalign_training.cli", *sys.argv[1:]])


def _accelerate_config(config: str) -> Path:
    """The file that `--accelerate` names."""
    path = Path(config)
    if config in _accelerate_configs():
        path = Path(str(resources.files("metaalign_training").joinpath("accelerate", f"{config}.yaml")))
    if not path.is_file():
        raise RecipeError(
            f"--accelerate {config}: no such file; give a file or one of {', '.join(_accelerate_configs())}"
        )
    return path


def _launch(config: Path, arguments: Sequence[str]) -> None:
    """Become `accelerate launch`, which starts this program again, once for each device."""
    launch = [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(config),
        "-m",
        "metaalign_training.cli",
    ]
    os.environ[_LAUNCHED] = "1"
    os.execv(sys.executable, [sys.executable, *launch, *arguments])


def _refuse_one_of_several(config: Path) -> None:
    """Refuse to train alone what was meant for several processes.

    Raises:
        RecipeError: accelerate started this process, which knows of no others, though the file asks for some.
    """
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    if "LOCAL_RANK" not in os.environ and settings.get("num_processes", 1) > 1:
        raise RecipeError(
            f"--accelerate {config}: accelerate starts one process for distributed_type"
            f" {settings.get('distributed_type')} here, not {settings['num_processes']}; set it to MULTI_GPU or FSDP,"
            " which start that many on CPU too, or num_processes to 1"
        )


def _recipe(options: argparse.Namespace) -> Recipe:
    changes = list(options.set)
    if options.seed is not None:
        changes.append(f"seed={options.seed}")
    return load_recipe(options.recipe, changes)


def _report(options: argparse.Namespace) -> None:
    from metaalign_training.stages.evaluation.report import write_report

    folders: dict[str, list[Path]] = defaultdict(list)
    for text in options.results:
        name, equals, folder = text.partition("=")
        if not equals:
            raise RecipeError(f"report {text}: must look like NAME=FOLDER")
        folders[name].append(Path(folder))
    write_report(options.out, folders)
    print(options.out / "report.html")


def _chat(options: argparse.Namespace) -> None:
    preferences: dict[str, object] = {
        tier: text for tier, text in (("system", options.system), ("user", options.user)) if text
    }
    if options.prefer is not None:
        try:
            tree = json.loads(options.prefer)
        except ValueError as error:
            raise RecipeError(f"--prefer takes JSON: {error}") from None
        preferences = {"system": tree} if isinstance(tree, str) else tree
    import transformers

    from metaalign_training.talk import talk

    transformers.utils.logging.disable_progress_bar()
    own = ("temperature", "max_new_tokens", "seed")
    talk(options.checkpoint, preferences, {name: getattr(options, name) for name in own})


def _run_stage(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    import datasets
    import transformers

    from metaalign_training.pipeline import Pipeline

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    recipe = _recipe(options)
    launched = _LAUNCHED in os.environ or "LOCAL_RANK" in os.environ
    work = options.work or Path("build") / recipe.name
    force, main = getattr(options, "force", False), os.environ.get("RANK", "0") == "0"
    pipeline = Pipeline(recipe, work, force=force, main=main)
    if getattr(options, "accelerate", None) is not None:
        config = _accelerate_config(options.accelerate)
        if not launched:
            pipeline.prepare(options.command)
            _launch(config, [a for a in arguments if a != "--force"])
        _refuse_one_of_several(config)
    out = getattr(options, "out", None) or work / "checkpoint"
    stages: dict[str, Callable[[], Mapping[str, object]]] = {
        "build-data": pipeline.build_data,
        "sft": pipeline.sft,
        "rejection": pipeline.rejection,
        "dpo": pipeline.dpo,
        "grpo": pipeline.grpo,
        "evaluate": lambda: pipeline.evaluate(options.model),
        "probe": lambda: pipeline.probe(options.model),
        "rescore": pipeline.rescore,
        "export": lambda: pipeline.export(out),
        "run": lambda: pipeline.run(out),
    }
    metrics = stages[options.command]()
    if pipeline.main:
        print(json.dumps(metrics, indent=2, ensure_ascii=False))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 1 failed with one line on standard error, 130 interrupted."""
    if argv is None:
        _restart_with_environment()
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    first = (
        os.environ.get("RANK", "0") == "0"
    )  # of several processes that train together, only the first logs progress
    logging.getLogger("metaalign_training").setLevel(logging.INFO if first else logging.WARNING)
    try:
        if options.command == "recipes":
            print("\n".join(packaged_recipes()))
        elif options.command == "report":
            _report(options)
        elif options.command == "chat":
            _chat(options)
        else:
            _run_stage(options, arguments)
    except KeyboardInterrupt:
        sys.stderr.write("metaalign-train: interrupted; run the same command without --force to resume\n")
        return 130
    except (MetaAlignError, OSError) as error:
        sys.stderr.write(f"metaalign-train: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
