"""vLLM's command-line flags: our defaults, and a refusal in one line of what vLLM or this server cannot carry out."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.exceptions import VLLMError
from vllm.lora.utils import get_adapter_absolute_path
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser

from metaalign.prompt import read_manifest
from metaalign_server.engine.branches import UNSTEERABLE
from metaalign_server.engine.steering.groups import SCHEDULER
from metaalign_server.settings import ConfigurationError, Settings

__all__ = ["NOT_CARRIED_OUT", "parse_engine_args", "refusals_in_one_line"]

_PRIVATE = "prompts and answers are never logged; --log-level debug logs everything else"
_ONE_PROCESS = "run several servers behind a load balancer, with one PostgreSQL and one Redis"
_REQUEST_LINE = "every request is one line of the log; --log-level warning leaves it out"
_HEADERS = "headers have fixed bounds: 64 KiB and 15 seconds"
_NO_RPC = "the server speaks HTTP only"

NOT_CARRIED_OUT: dict[str, str] = {
    "api_server_count": _ONE_PROCESS,
    "data_parallel_address": _ONE_PROCESS,
    "data_parallel_backend": _ONE_PROCESS,
    "data_parallel_external_lb": _ONE_PROCESS,
    "data_parallel_hybrid_lb": _ONE_PROCESS,
    "data_parallel_multi_port_external_lb": _ONE_PROCESS,
    "data_parallel_rank": _ONE_PROCESS,
    "data_parallel_rpc_port": _ONE_PROCESS,
    "data_parallel_size": _ONE_PROCESS,
    "data_parallel_size_local": _ONE_PROCESS,
    "data_parallel_start_rank": _ONE_PROCESS,
    "data_parallel_supervisor_port": _ONE_PROCESS,
    "disable_access_log_for_endpoints": _REQUEST_LINE,
    "disable_uvicorn_access_log": _REQUEST_LINE,
    "dp_supervisor_probe_failure_threshold": _ONE_PROCESS,
    "dp_supervisor_probe_interval_s": _ONE_PROCESS,
    "dp_supervisor_probe_timeout_s": _ONE_PROCESS,
    "enable_elastic_ep": _ONE_PROCESS,
    "enable_log_deltas": _PRIVATE,
    "enable_log_outputs": _PRIVATE,
    "enable_log_requests": _PRIVATE,
    "enable_offline_docs": "/openapi.json is there without a network",
    "enable_scale_out": "its routes are not served; use `vllm serve`",
    "enable_server_load_tracking": "/metrics has vllm:num_requests_running and metaalign_requests_in_flight",
    "enable_ssl_refresh": "restart the server after a certificate is renewed, or end TLS in a proxy",
    "enable_tokenizer_info_endpoint": "its route is not served; use `vllm serve`",
    "fingerprint_mode": "`system_fingerprint` names the preferences that were applied",
    "fingerprint_value": "`system_fingerprint` names the preferences that were applied",
    "grpc": _NO_RPC,
    "grpc_port": _NO_RPC,
    "h11_max_header_count": _HEADERS,
    "h11_max_incomplete_event_size": _HEADERS,
    "headless": _ONE_PROCESS,
    "log_error_stack": "the log has the place of every error",
    "max_log_len": _PRIVATE,
    "middleware": "put it into a proxy in front of the server",
    "model_tag": "name the model with --model",
    "sse_keep_alive_interval": "let a proxy keep the connection",
    "tokens_only": "its routes are not served; use `vllm serve`",
    "tool_server": "clients call tools, the server does not",
    "trust_request_chat_template": "no request brings its own chat template; give one with --chat-template",
    "trust_request_mm_kwargs": "the server takes text only",
    "uvicorn_log_level": "use --log-level",
}
"""Flags of vLLM, by their names in its parser, that would do nothing here, and what to do instead."""


_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


class _Parser(FlexibleArgumentParser):
    """vLLM's parser, without three hundred lines of usage before what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(" ".join(message.split()))


@contextmanager
def refusals_in_one_line(prefix: str = "") -> Iterator[None]:
    """Turn what vLLM says about its flags and its model into the message of an operator's error.

    Args:
        prefix: What the message begins with, such as a flag.

    Raises:
        ConfigurationError: vLLM refuses something in this block.
    """
    try:
        yield
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigurationError(prefix + " ".join(message.split())) from error
    except (
        VLLMError,
        ValueError,
        TypeError,
        KeyError,
        OSError,
    ) as error:  # a KeyError shows its message as a literal
        message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
        raise ConfigurationError(prefix + " ".join(message.split())) from error


_IN_THE_ENGINE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""The model runs in the engine's process. vLLM does so on a GPU, but on a CPU it takes a process of its own, and the
two spin on shared memory for each other. By its path, because vLLM does not take its name `uni` on a CPU."""


def parse_engine_args(settings: Settings, flags: Sequence[str]) -> Namespace:
    """Build vLLM's arguments: our defaults, then the operator's flags, which take precedence.

    Raises:
        ConfigurationError: vLLM refuses a flag, or it would do nothing here, or names a file that is not there.
    """
    defaults = ["--model", settings.model, "--served-model-name", settings.model_name]
    defaults += ["--host", settings.host, "--port", str(settings.port), "--enable-prompt-tokens-details"]
    # The engine itself is fair too: `sequences` ranks a request by how much of the engine its tenant uses.
    defaults += ["--scheduling-policy", "priority"]
    if settings.steering or (settings.steering is None and current_platform.is_cpu()):
        defaults += ["--scheduler-cls", SCHEDULER]
    if current_platform.is_cpu():
        # Compiling costs more startup time than it saves; blocks of 32 let short Meta-Prompts hit the prefix cache.
        defaults += ["--enforce-eager", "--block-size", "32", "--max-num-seqs", "64"]
        # vLLM binds a worker's process to cores, but not the engine's.
        if os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind") == "nobind":
            defaults += ["--distributed-executor-backend", _IN_THE_ENGINE]
    folder = Path(settings.model)
    if folder.is_dir() and read_manifest(folder) is not None:
        # Our template writes tool calls in this parser's format; a small model would fill JSON with whitespace.
        defaults += ["--tool-call-parser", "hermes", "--enable-auto-tool-choice"]
        defaults += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
        # vLLM would round a float32 checkpoint to 16 bits: near ties would give other answers than the evaluated ones.
        if _weights_dtype(folder) == "float32":
            defaults += ["--dtype", "float32"]
    parser = make_arg_parser(_Parser(prog="metaalign-server serve"))  # type: ignore[no-untyped-call]
    args: Namespace = parser.parse_args([*defaults, *_with_config(parser, flags)])
    _refuse_what_does_nothing(parser, args, settings)
    workers = (
        args.tensor_parallel_size
        * args.pipeline_parallel_size
        * args.prefill_context_parallel_size
        * args.nnodes
    )
    if workers > 1 and args.distributed_executor_backend == _IN_THE_ENGINE:
        args.distributed_executor_backend = None
    with refusals_in_one_line():
        validate_parsed_serve_args(args)
    _check_files(args)
    _check_steering(args, settings)
    _check_connectors(args, settings)
    return args


_SALTED_CONNECTORS = frozenset(
    {"LMCacheMPConnector", "MooncakeStoreConnector", "OffloadingConnector", "SimpleCPUOffloadConnector"}
)
"""Those of vLLM 0.32 whose keys hold the salt: they take vLLM's block hashes, or the salt itself."""


def _check_connectors(args: Namespace, settings: Settings) -> None:
    """Refuse caches outside the engine whose keys leave the salt out: they would be shared between tenants."""
    config = args.kv_transfer_config
    if config is None or config.kv_connector is None:
        return
    named = [config.kv_connector]
    if config.kv_connector == "MultiConnector":
        named = [
            str(one.get("kv_connector")) for one in config.kv_connector_extra_config.get("connectors", ())
        ]
    for name in named:
        if name not in _SALTED_CONNECTORS and name not in settings.allow_kv_connectors:
            raise ConfigurationError(
                f"--kv-transfer-config: {name} may give one tenant what another has cached, because its keys are not"
                f" known to hold the salt; use one of {', '.join(sorted(_SALTED_CONNECTORS))}, or with one tenant only"
                f" set METAALIGN_ALLOW_KV_CONNECTORS={name}"
            )


def _check_steering(args: Namespace, settings: Settings) -> None:
    """Refuse flags that do not go with steering, if the operator asks for it."""
    if not settings.steering:
        return
    met = [one.flag for one in UNSTEERABLE if one.is_on(args)]
    if args.scheduler_cls != SCHEDULER:
        met.append("--scheduler-cls")
    if met:
        raise ConfigurationError(
            f"{met[0]}: does not go with METAALIGN_STEERING=true; leave out one of the two"
        )


def _check_files(args: Namespace) -> None:
    """Refuse what vLLM would look for only after it has loaded the weights, or would go on without."""
    for flag in ("tool_parser_plugin", "reasoning_parser_plugin"):
        plugin = getattr(args, flag)
        if plugin and not Path(plugin).is_file():
            raise ConfigurationError(f"--{flag.replace('_', '-')} {plugin}: no such file")
    if args.lora_modules and not args.enable_lora:
        raise ConfigurationError("--lora-modules: needs --enable-lora too")
    for adapter in args.lora_modules or ():
        prefix = f"--lora-modules {adapter.name}={adapter.path}: "
        with refusals_in_one_line(prefix):
            folder = Path(get_adapter_absolute_path(adapter.path))  # it may be a name on Hugging Face
        problem = _adapter_problem(folder, args.max_lora_rank)
        if problem is not None:
            raise ConfigurationError(prefix + problem)


def _adapter_problem(folder: Path, max_rank: int) -> str | None:
    if not folder.is_dir():
        return "no such folder or adapter"
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "no adapter, for there is no adapter_config.json in it"
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        return "its adapter_config.json is not a JSON object that can be read"
    if not any((folder / name).is_file() for name in _ADAPTER_WEIGHTS):
        return f"no weights, for there is no {_ADAPTER_WEIGHTS[0]} in it"
    rank = config.get("r")
    if isinstance(rank, int) and rank > max_rank:
        return f"its rank is {rank}; allow it with --max-lora-rank"
    return None


def _with_config(parser: FlexibleArgumentParser, flags: Sequence[str]) -> list[str]:
    """Read the flags in the file of `--config`, which take precedence over our defaults only."""
    if "--config" not in flags[:-1]:
        return list(flags)
    position = list(flags).index("--config")
    try:
        read: list[str] = parser.load_config_file(flags[position + 1])
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--config: {error}") from error
    return [*read, *flags[:position], *flags[position + 2 :]]


def _refuse_what_does_nothing(parser: FlexibleArgumentParser, args: Namespace, settings: Settings) -> None:
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    for name in sorted(given & NOT_CARRIED_OUT.keys()):
        flag = args.model_tag if name == "model_tag" else f"--{name.replace('_', '-')}"
        raise ConfigurationError(f"{flag} does nothing here: {NOT_CARRIED_OUT[name]}")
    # Our own parser takes these flags before vLLM's, except in vLLM's other spellings and in its files.
    ours = {
        "model": settings.model,
        "served_model_name": [settings.model_name],
        "host": settings.host,
        "port": settings.port,
    }
    for name in sorted(given & (Settings.model_fields.keys() | {"api_key", "config"})):
        if name not in ours or getattr(args, name) != ours[name]:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigurationError(
                f"{flag}: write it exactly so on the command line, with a space before the value"
            )


def _weights_dtype(folder: Path) -> str | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # the check against the manifest reports what is wrong
    dtype: str | None = config.get("dtype") or config.get("torch_dtype")
    return dtype
