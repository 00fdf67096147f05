"""vLLM's engine and application state: start, memory, stop. Importing vLLM takes seconds."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing import resource_tracker
from typing import Any

import vllm.envs
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.launcher import validate_api_server_args
from vllm.platforms import current_platform
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.usage.usage_lib import UsageContext
from vllm.utils.system_utils import set_ulimit
from vllm.v1.engine.async_llm import AsyncLLM

from metaalign_server.engine.flags import refusals_in_one_line

__all__ = ["belong_to_parent", "fill_state", "running_engine"]

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_TRIM_SECONDS = 30.0
_END_SECONDS = 1.0
"""Time for a process that was killed to give back its memory, which the next server may need."""


def belong_to_parent() -> None:
    """In a child process: exit with the server and not before, even if the process group is signalled."""
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

    Raises:
        ConfigurationError: vLLM refuses the model or a flag, before it loads the weights.
    """
    for plugin, manager in (
        (args.tool_parser_plugin, ToolParserManager.import_tool_parser),
        (args.reasoning_parser_plugin, ReasoningParserManager.import_reasoning_parser),
    ):
        if plugin:
            manager(plugin)
    set_ulimit()
    with refusals_in_one_line(f"--model {args.model}: "):
        validate_api_server_args(args)
        engine_args = AsyncEngineArgs.from_cli_args(args)
        config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    if current_platform.is_cpu():
        # vLLM sets its default while it creates the config, so override it afterwards.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        # A forked engine holds its own end of vLLM's death pipe, so it would outlive a killed server.
        os.register_at_fork(after_in_child=belong_to_parent)
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
        for process in multiprocessing.active_children():
            process.join(_END_SECONDS)


async def fill_state(engine: AsyncLLM, state: Any, args: Namespace) -> None:
    """Add vLLM's handlers to an application's state.

    Raises:
        ConfigurationError: vLLM cannot make them with these flags, or load a LoRA adapter.
    """
    tasks = await engine.get_supported_tasks()
    with refusals_in_one_line():
        await init_app_state(engine, state, args, tasks)
