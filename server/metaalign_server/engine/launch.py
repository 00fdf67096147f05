"""Start vLLM's engine, build the application on it, serve, drain, stop."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

import uvicorn
import uvloop
import vllm.envs
from fastapi import FastAPI
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.launchers.launcher import create_server_socket, validate_api_server_args
from vllm.platforms import current_platform
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.system_utils import set_ulimit
from vllm.v1.engine.async_llm import AsyncLLM

from metaalign.prompt import read_manifest
from metaalign_server.app import create_app
from metaalign_server.connections import GuardedProtocol
from metaalign_server.engine.service import Service, attach_service
from metaalign_server.engine.watchdog import watch_engine
from metaalign_server.middleware import Gate
from metaalign_server.platform.startup import Platform, open_platform
from metaalign_server.settings import ConfigurationError, Settings
from metaalign_server.telemetry import start_telemetry

__all__ = ["engine_client", "parse_engine_args", "run"]

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

ENGINE_FAILED = 70
"""Exit code after the engine has failed for good (EX_SOFTWARE)."""
_TRIM_SECONDS = 30.0
_LAST_WORDS_SECONDS = 2.0
"""So long, at the end, requests in flight may still say that the engine has failed, and spans may be sent."""


def parse_engine_args(settings: Settings, flags: Sequence[str]) -> Namespace:
    """vLLM's arguments: our defaults, then the operator's flags, which win.

    Raises:
        SystemExit: vLLM's parser refuses a flag.
    """
    defaults = ["--model", settings.model, "--served-model-name", settings.model_name]
    defaults += ["--host", settings.host, "--port", str(settings.port), "--enable-prompt-tokens-details"]
    if current_platform.is_cpu():
        # Compiling costs more start-up than it gains; blocks of 32 let short Meta-Prompts hit the prefix cache.
        defaults += ["--enforce-eager", "--block-size", "32", "--max-num-seqs", "64"]
    folder = Path(settings.model)
    if folder.is_dir() and read_manifest(folder) is not None:
        # Our template writes tool calls as this parser reads them; a small model would fill JSON with blanks.
        defaults += ["--tool-call-parser", "hermes", "--enable-auto-tool-choice"]
        defaults += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
        # vLLM would round a float32 checkpoint to 16 bits: other answers than the evaluated ones where two are close.
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
        return None  # the check against the manifest says what is wrong
    dtype: str | None = config.get("dtype") or config.get("torch_dtype")
    return dtype


def _belong_to_parent() -> None:
    """In the engine's process: end with the server, and not before, whoever else gets its signals."""
    # Ctrl-C and some supervisors signal the whole group; the engine would drop what the server waits for.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _give_memory_back() -> None:
    """In the engine's process: return what the heap holds in pieces, again and again.

    Tensors of ever other sizes leave holes in glibc's heap. Measured on CPU: 0.9 KB a request for as long as one
    looks, all of it free. Fixed thresholds of malloc keep the heap whole too, but make the engine 1.6 times slower.
    """
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return  # another C library, another heap

    def run() -> None:
        while True:
            time.sleep(_TRIM_SECONDS)
            trim(0)

    threading.Thread(target=run, name="give-memory-back", daemon=True).start()


@asynccontextmanager
async def engine_client(args: Namespace) -> AsyncIterator[AsyncLLM]:
    """vLLM's engine, started and, on leaving, stopped.

    On CPU the engine's process is forked from this one, which has imported everything: that halves the start.
    """
    engine_args = AsyncEngineArgs.from_cli_args(args)
    config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    if current_platform.is_cpu():
        # vLLM sets its default while it makes the config, so this comes after it.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        # A forked engine holds its own end of vLLM's death pipe, so it would outlive a server that is killed.
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
        yield engine
    finally:
        engine.shutdown(timeout=config.shutdown_timeout)


async def build_app(engine: AsyncLLM, args: Namespace, settings: Settings, platform: Platform) -> FastAPI:
    """Our application on a running engine."""
    app = create_app()
    await init_app_state(engine, app.state, args, await engine.get_supported_tasks())
    attach_service(app.state, settings, platform)
    return app


async def _serve(settings: Settings, args: Namespace) -> int:
    for plugin, manager in (
        (args.tool_parser_plugin, ToolParserManager.import_tool_parser),
        (args.reasoning_parser_plugin, ReasoningParserManager.import_reasoning_parser),
    ):
        if plugin:
            manager(plugin)
    validate_api_server_args(args)
    # The port is taken before the engine starts: a second server fails at once, not after loading weights.
    sock = _bind(args)
    set_ulimit()
    try:
        async with open_platform(settings) as platform:
            _announce(platform)
            async with engine_client(args) as engine:
                vllm.envs.enable_envs_cache()  # vLLM reads its settings hundreds of times per request otherwise
                app = await build_app(engine, args, settings, platform)
                service: Service = app.state.metaalign
                spans = start_telemetry(settings.model_name)
                gate = Gate(app, service, platform, spans)
                try:
                    return await _serve_until_stopped(service, gate, sock, settings)
                finally:
                    if spans is not None:
                        # A collector that is away would be tried for longer than a supervisor waits.
                        closing = threading.Thread(target=spans.close, daemon=True)
                        closing.start()
                        await asyncio.to_thread(closing.join, _LAST_WORDS_SECONDS)
    finally:
        sock.close()


def _announce(platform: Platform) -> None:
    """Say how the server is protected. The first key goes to standard error alone: logs are collected."""
    if platform.first_key is not None:
        sys.stderr.write(
            "metaalign-server: the store had no key, so one was made for the administrator; it is shown this once:\n"
            f"    {platform.first_key}\n"
        )
        sys.stderr.flush()
    if platform.open:
        logger.warning(
            "open development mode: no key is configured, so everybody who reaches this address may do everything;"
            " `metaalign-server keys create` ends it"
        )


def _bind(args: Namespace) -> socket.socket:
    try:
        listening: socket.socket = create_server_socket((args.host, args.port), reuse_port=False)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {args.host}:{args.port}: {error.strerror}; choose another with --port"
        ) from error
    return listening


async def _serve_until_stopped(service: Service, gate: Gate, sock: socket.socket, settings: Settings) -> int:
    config = uvicorn.Config(
        gate,
        log_config=None,
        access_log=False,
        loop="uvloop",
        http=GuardedProtocol,
        lifespan="on",
        server_header=False,
    )
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # ours drain instead of closing at once
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    watching = asyncio.create_task(watch_engine(service, settings.stall_seconds))
    working = asyncio.create_task(gate.platform.run())
    stopping = asyncio.create_task(stop.wait())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    host, port = sock.getsockname()[:2]
    logger.info("ready", extra={"fields": {"url": f"http://{host}:{port}", "model": settings.model_name}})
    await asyncio.wait({serving, watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        await _drain(service, gate, settings.drain_seconds, again=stop)
    code = ENGINE_FAILED if watching.done() else 0
    service.draining = True
    if code:
        await _idle(gate, _LAST_WORDS_SECONDS)
    server.should_exit = True
    if gate.in_flight:
        config.timeout_graceful_shutdown = 0  # the wait is over: they are cancelled
    for task in (watching, working, stopping):
        task.cancel()
    await serving
    await gate.platform.finish()
    logger.info("stopped", extra={"fields": {"exit_code": code}})
    return code


@contextmanager
def _no_signals() -> Iterator[None]:
    yield


async def _drain(service: Service, gate: Gate, seconds: float, again: asyncio.Event) -> None:
    """Refuse new work, and wait until what runs is finished, the time is over, or a second signal comes."""
    service.draining = True
    again.clear()
    logger.info("draining", extra={"fields": {"in_flight": gate.in_flight}})
    await _idle(gate, seconds, again)


async def _idle(gate: Gate, seconds: float, stop: asyncio.Event | None = None) -> None:
    """Wait until nothing is in flight, the time is over, or `stop` is set."""
    deadline = asyncio.get_running_loop().time() + seconds
    while gate.in_flight and asyncio.get_running_loop().time() < deadline:
        if stop is not None and stop.is_set():
            return
        await asyncio.sleep(0.05)


def run(settings: Settings, flags: Sequence[str]) -> int:
    """Serve until stopped; returns the process's exit code."""
    args = parse_engine_args(settings, flags)
    code: int = uvloop.run(_serve(settings, args))
    return code
