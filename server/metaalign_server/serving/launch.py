"""Composes the parts and runs them: store, engine, application, gate; serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
import uvloop

from metaalign_server.alignment.prewarming import prewarm
from metaalign_server.alignment.service import Service
from metaalign_server.engine.flags import parse_engine_args
from metaalign_server.engine.grammars import GrammarTrials, grammar_trials
from metaalign_server.engine.installation import check_vllm, install
from metaalign_server.engine.process import fill_state, running_engine
from metaalign_server.platform.startup import Platform, open_platform
from metaalign_server.serving.app import create_app, with_cors
from metaalign_server.serving.gate import Gate
from metaalign_server.serving.header_deadline import GuardedProtocol
from metaalign_server.serving.listening import listening_url, tls_options
from metaalign_server.serving.telemetry import start_telemetry
from metaalign_server.serving.watchdog import watch_engine
from metaalign_server.settings import ConfigurationError, Settings

__all__ = ["run"]

logger = logging.getLogger(__name__)

ENGINE_FAILED = 70
"""Exit code after a permanent engine failure (EX_SOFTWARE)."""
_BACKLOG = 2048
_LAST_WORDS_SECONDS = 2.0
"""Time at shutdown for requests in flight to report that the engine has failed, and for spans to be exported."""
_CUT_OFF_SECONDS = 1.0
"""Time for requests that the drain did not wait for to say so; part of the time to stop."""
_STOP_SECONDS = 3.5
"""Time after the drain in which everything has to stop. Supervisors are told 5 s, because freeing memory takes time."""


def run(settings: Settings, flags: Sequence[str], bound: socket.socket) -> int:
    """Serve until stopped; return the process's exit code.

    Args:
        settings: The server's settings.
        flags: vLLM's own flags.
        bound: The socket to listen on.

    Raises:
        ConfigurationError: a flag does nothing here, somebody else listens, or preferences do not work in this vLLM.
    """
    check_vllm()
    args = parse_engine_args(settings, flags)
    code: int = uvloop.run(_serve(settings, args, bound))
    return code


async def _serve(settings: Settings, args: Namespace, bound: socket.socket) -> int:
    # The trials' process is forked first, while there are no threads.
    with grammar_trials(args, settings.grammar_seconds) as trials:
        return await _serve_with(trials, settings, args, bound)


async def _serve_with(
    trials: GrammarTrials, settings: Settings, args: Namespace, bound: socket.socket
) -> int:
    async with open_platform(settings) as platform:
        _announce(platform)
        async with running_engine(args) as engine:
            app = create_app(settings)
            await fill_state(engine, app.state, args)
            service = await install(app.state, settings, platform, trials)
            await platform.connect()
            spans = start_telemetry(settings.model_name)
            gate = Gate(app, service, platform, spans)
            try:
                return await _serve_until_stopped(service, gate, bound, settings)
            finally:
                if spans is not None:
                    # The exporter would retry an unavailable collector for longer than a supervisor waits.
                    closing = threading.Thread(target=spans.close, daemon=True)
                    closing.start()
                    await asyncio.to_thread(closing.join, _LAST_WORDS_SECONDS)


def _announce(platform: Platform) -> None:
    """Report how the server is protected. The first key goes only to standard error, because logs are collected."""
    if platform.first_key is not None:
        sys.stderr.write(
            "metaalign-server: the store had no key, so one was made for the administrator; it is shown this once:\n"
            f"    {platform.first_key}\n"
        )
        sys.stderr.flush()
    if platform.open:
        logger.warning(
            "open development mode: no key is configured, so anyone who can reach this address has full access;"
            " `metaalign-server keys create` ends it"
        )


def _listen(bound: socket.socket, settings: Settings) -> None:
    """Listen; uvicorn does it too late to be told that another program has meanwhile."""
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {listening_url(settings, bound)}: {error.strerror}; choose another with --port"
        ) from error


async def _serve_until_stopped(service: Service, gate: Gate, bound: socket.socket, settings: Settings) -> int:
    config = uvicorn.Config(
        with_cors(gate, settings),
        log_config=None,
        access_log=False,
        loop="uvloop",
        http=type("Protocol", (GuardedProtocol,), {"write_seconds": settings.write_seconds}),
        lifespan="on",
        server_header=False,
        backlog=_BACKLOG,
        **tls_options(settings),
    )
    _listen(bound, settings)
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # ours drain instead of closing at once
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    stopping = asyncio.create_task(stop.wait())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    # Not before: the application's start holds the event loop for longer than a store may take to connect.
    watching = asyncio.create_task(watch_engine(service, settings.stall_seconds))
    working = asyncio.create_task(gate.platform.run())
    warming = asyncio.create_task(prewarm(service, settings.prewarm))
    url = listening_url(settings, bound)
    logger.info("ready", extra={"fields": {"url": url, "model": settings.model_name}})
    await asyncio.wait({serving, watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        await _drain(service, gate, settings.drain_seconds, again=stop)
    code = ENGINE_FAILED if watching.done() else 0
    service.draining = True
    if code:
        await _idle(gate, _LAST_WORDS_SECONDS)
    _exit_after(_STOP_SECONDS, code)
    if gate.in_flight and not code:
        logger.warning("time is up; cutting requests off", extra={"fields": {"in_flight": gate.in_flight}})
        service.engine.cut_off()
        await _idle(gate, _CUT_OFF_SECONDS)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # the end of the process closes them all
    server.should_exit = True
    config.timeout_graceful_shutdown = (
        1  # what is answered may still be on its way to a client that does not read
    )
    if gate.in_flight:
        config.timeout_graceful_shutdown = 0  # the wait is over: cancel them
        for each_of_them in ("asyncio", "uvicorn.error"):
            logging.getLogger(each_of_them).setLevel(logging.CRITICAL)
    for task in (watching, working, warming, stopping):
        task.cancel()
    await serving
    await gate.platform.finish()
    logger.info("stopped", extra={"fields": {"exit_code": code}})
    return code


def _exit_after(seconds: float, code: int) -> None:
    """End the process if it has not ended by then: threads, the engine and other servers may hang."""

    def end() -> None:
        logger.error("something does not stop; exiting without it", extra={"fields": {"exit_code": code}})
        for process in multiprocessing.active_children():
            process.kill()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


@contextmanager
def _no_signals() -> Iterator[None]:
    yield


async def _drain(service: Service, gate: Gate, seconds: float, again: asyncio.Event) -> None:
    """Refuse new work, and wait until running requests finish, the time is up, or a second signal arrives."""
    service.draining = True
    again.clear()
    logger.info("draining", extra={"fields": {"in_flight": gate.in_flight}})
    await _idle(gate, seconds, again)


async def _idle(gate: Gate, seconds: float, stop: asyncio.Event | None = None) -> None:
    """Wait until nothing is in flight, the time is up, or `stop` is set."""
    deadline = asyncio.get_running_loop().time() + seconds
    while gate.in_flight and asyncio.get_running_loop().time() < deadline:
        if stop is not None and stop.is_set():
            return
        await asyncio.sleep(0.05)
