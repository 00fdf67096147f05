"""vLLM's engine and application state: arguments, start, memory, stop. Importing vLLM takes seconds."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import vllm.envs
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.launchers.launcher import validate_api_server_args
from vllm.platforms import current_platform
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.system_utils import set_ulimit
from vllm.v1.engine.async_llm import AsyncLLM

from metaalign.prompt import read_manifest
from metaalign_server.settings import Settings

__all__ = ["fill_state", "parse_engine_args", "running_engine"]

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_TRIM_SECONDS = 30.0


def parse_engine_args(settings: Settings, flags: Sequence[str]) -> Namespace:
    """Build vLLM's arguments: our defaults, then the operator's flags, which take precedence.

    Raises:
        SystemExit: vLLM's parser rejects a flag.
    """
    defaults = ["--model", settings.model, "--served-model-name", settings.model_name]
    defaults += ["--host", settings.host, "--port", str(settings.port), "--enable-prompt-tokens-details"]
    if current_platform.is_cpu():
        # Compiling costs more startup time than it saves; blocks of 32 let short Meta-Prompts hit the prefix cache.
        defaults += ["--enforce-eager", "--block-size", "32", "--max-num-seqs", "64"]
    folder = Path(settings.model)
    if folder.is_dir() and read_manifest(folder) is not None:
        # Our template writes tool calls in this parser's format; a small model would fill JSON with whitespace.
        defaults += ["--tool-call-parser", "hermes", "--enable-auto-tool-choice"]
        defaults += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
        # vLLM would round a float32 checkpoint to 16 bits: near ties would give other answers than the evaluated ones.
        if _weights_dtype(folder) == "float32":
            defaults += ["--dtype", "float32"]
    parser = make_arg_parser(FlexibleArgumentParser(prog="metaalign-server serve"))
    args: Namespace = parser.parse_args([*defaults, *flags])
    validate_parsed_serve_args(args)
    return args


def _weights_dtype(folder: Path) -> str | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # the check against the manifest reports what is wrong
    dtype: str | None = config.get("dtype") or config.get("torch_dtype")
    return dtype


def _belong_to_parent() -> None:
    """In the engine's process: exit with the server and not before, even if the process group is signalled."""
    # Ctrl-C and some supervisors signal the whole group; the engine would drop requests that the server still serves.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _give_memory_back() -> None:
    """In the engine's process: return the heap's free memory to the system every half minute.

    Tensors of varying sizes fragment glibc's heap. Measured on CPU, it grows without bound by 0.9 KB per request, all
    of it free memory. Fixed malloc thresholds prevent that too, but make the engine 1.6 times slower.
    """
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return  # a different C library has a different heap

    def run() -> None:
        while True:
            time.sleep(_TRIM_SECONDS)
            trim(0)

    threading.Thread(target=run, name="give-memory-back", daemon=True).start()


@asynccontextmanager
async def running_engine(args: Namespace) -> AsyncIterator[AsyncLLM]:
    """Start vLLM's engine, and stop it on exit.

    On CPU, the engine's process is forked from this one, which has imported everything; that halves the startup time.
    """
    for plugin, manager in (
        (args.tool_parser_plugin, ToolParserManager.import_tool_parser),
        (args.reasoning_parser_plugin, ReasoningParserManager.import_reasoning_parser),
    ):
        if plugin:
            manager(plugin)
    validate_api_server_args(args)
    set_ulimit()
    engine_args = AsyncEngineArgs.from_cli_args(args)
    config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    if current_platform.is_cpu():
        # vLLM sets its default while it creates the config, so override it afterwards.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        # A forked engine holds its own end of vLLM's death pipe, so it would outlive a killed server.
        os.register_at_fork(after_in_child=_belong_to_parent)
        os.register_at_fork(after_in_child=_give_memory_back)
        resource_tracker.ensure_running()  # the engine would start its own, which unblocks the signals again
    engine = AsyncLLM.from_vllm_config(
        vllm_config=config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        enable_log_requests=engine_args.enable_log_requests,
        aggregate_engine_logging=engine_args.aggregate_engine_logging,
        disable_log_stats=engine_args.disable_log_stats,
    )
    try:
        await engine.reset_mm_cache()
        vllm.envs.enable_envs_cache()  # otherwise vLLM reads its settings hundreds of times per request
        yield engine
    finally:
        engine.shutdown(timeout=config.shutdown_timeout)


async def fill_state(engine: AsyncLLM, state: Any, args: Namespace) -> None:
    """Add vLLM's handlers to an application's state."""
    await init_app_state(engine, state, args, await engine.get_supported_tasks())
