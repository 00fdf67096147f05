"""Trial compilation of output constraints, in a process that can be killed, before the engine gets them.

The engine compiles the grammar of each new constraint and computes a mask over the vocabulary for each of its tokens.
It can stop neither, and vLLM reads a constraint on the event loop first. Some small constraints take minutes: with a
vocabulary of 128 000 tokens, 70 short expressions take more than 20 s, and an ambiguous grammar 0.6 s for each token.
So each new constraint, whatever field it came from, is read, compiled and stepped through in a child process with a
limit on its CPU time. One that is too slow gets a 400; nobody else waits for it.

A helper process, forked before the engine starts, holds the tokenizer and forks one child per trial.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
import os
import re
import resource
import signal
import socket
import struct
import sys
import time
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.generate.base import protocol
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams, check_json_nesting
from vllm.usage.usage_lib import UsageContext
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.request import StructuredOutputRequest

from metaalign_server.alignment.context import RequestContext
from metaalign_server.engine.process import belong_to_parent
from metaalign_server.platform.fair_queue import FairQueue

__all__ = ["GrammarTrials", "grammar_trials", "read_tags_later"]

logger = logging.getLogger(__name__)

_AT_ONE_TIME = 2
_REMEMBERED = 4_096
_READ_SECONDS = 0.1
"""Maximum CPU time to read a constraint, which vLLM does on the event loop."""
_MASK_SECONDS = 0.025
"""Maximum CPU time of one token's mask, for which all requests in the engine wait."""
_MASKS = 16
_MEMORY_BYTES = 1 << 30
_WALL = 5
"""How many times the CPU limit a trial may last on a busy machine."""
_LENGTH = struct.Struct("!Q")
_PLACE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of a trial; `problem` is None for a constraint that the engine may get."""

    problem: str | None = None
    measured_slow: bool = False


class GrammarTrials:
    """Tries constraints and remembers the outcomes.

    Args:
        helper: Socket to the helper process.
        seconds: Limit on the CPU time of a trial.
    """

    def __init__(self, helper: socket.socket, seconds: float) -> None:
        self._helper = helper
        self._seconds = seconds
        self._outcomes: OrderedDict[bytes, _Outcome] = OrderedDict()
        self._queue = FairQueue(_AT_ONE_TIME, reserved=0, max_waiting=0)

    async def check(self, sampling_params: Any, context: RequestContext) -> None:
        """Try the constraint of a request, unless its outcome is known.

        The request gives its place in the engine to others meanwhile.

        Raises:
            VLLMValidationError: it is too slow, or cannot be read or compiled.
        """
        digest = hashlib.sha256(repr(sampling_params.structured_outputs).encode("utf-8", "replace")).digest()
        outcome = self._outcomes.get(digest)
        if outcome is None:
            if context.places is not None:
                context.places.leave()
            give_back = await self._queue.enter_again(context.caller.tenant.id)
            try:
                outcome = await self._try(sampling_params)
                if outcome.measured_slow:  # a busy machine can make a measurement slow, hardly ever two
                    outcome = await self._try(sampling_params)
            finally:
                give_back()
            self._outcomes[digest] = outcome
            if len(self._outcomes) > _REMEMBERED:
                self._outcomes.popitem(last=False)
        if outcome.problem is not None:
            raise VLLMValidationError(outcome.problem, parameter=context.constraint)

    async def _try(self, sampling_params: Any) -> _Outcome:
        loop = asyncio.get_running_loop()
        told = msgspec.msgpack.encode(sampling_params)
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            try:
                with theirs:
                    socket.send_fds(self._helper, [b"t"], [theirs.fileno()])
                await loop.sock_sendall(ours, _LENGTH.pack(len(told)) + told)
                answer = b""
                while piece := await loop.sock_recv(ours, 65_536):
                    answer += piece
            except OSError as error:
                logger.error("output constraints are not tried any more", exc_info=error)
                return _Outcome()
        if not answer:
            return _Outcome(
                f"the output constraint takes more than {self._seconds:g} s to compile; ask for less"
            )
        measured = json.loads(answer)
        if measured["read"] > _READ_SECONDS:
            return _Outcome("the output constraint takes too long to read; ask for less", measured_slow=True)
        if measured["mask"] > _MASK_SECONDS:
            return _Outcome(
                "the output constraint takes too long for each token; ask for less ambiguity",
                measured_slow=True,
            )
        if measured["error"] is not None:
            return _Outcome(measured["error"])
        return _Outcome()


@contextmanager
def grammar_trials(args: Namespace, seconds: float) -> Iterator[GrammarTrials]:
    """Fork the helper process and end it on exit. Call it before threads are started.

    Args:
        args: vLLM's arguments.
        seconds: Limit on the CPU time of a trial.
    """
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    helper = os.fork()
    if helper == 0:
        try:
            _help(theirs, args, seconds)
        finally:
            os._exit(0)
    theirs.close()
    try:
        with ours:
            yield GrammarTrials(ours, seconds)
    finally:
        with suppress(ProcessLookupError):
            os.kill(helper, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(helper, 0)


def read_tags_later() -> None:
    """Keep vLLM from reading structural tags while it parses a request, which it does on the event loop.

    One of 700 kB held it for 17 s. They are read as other constraints are, when parameters for sampling are checked:
    after the bounds on size, and after a trial where there are trials.
    """

    def check_depth(payload: Any, *, parameter: str) -> None:
        if not isinstance(payload, str) or not payload:
            raise VLLMValidationError(
                f"{parameter}: a structural tag is a JSON object, written as a text", parameter=parameter
            )
        check_json_nesting(payload, structural_tag=True)

    protocol.validate_structural_tag_payload = check_depth


# In the helper process


def _help(control: socket.socket, args: Namespace, seconds: float) -> None:
    signal.set_wakeup_fd(-1)
    belong_to_parent()
    os.nice(10)
    kept = os.dup2(control.detach(), 3)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    control = socket.socket(fileno=kept)
    silence = os.open(os.devnull, os.O_RDWR)  # compilers write expressions to standard error
    for descriptor in range(3):
        os.dup2(silence, descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave no zombies
    compilers = _Compilers(args)
    gc.collect()
    gc.freeze()  # a collection in a child would copy the whole heap
    while True:
        received, descriptors, *_ = socket.recv_fds(control, 1, 1)
        if not received:
            return
        if os.fork() == 0:
            control.close()
            with socket.socket(fileno=descriptors[0]) as answer:
                _limit(seconds)
                answer.sendall(json.dumps(_measure(compilers, answer)).encode())
            os._exit(0)
        os.close(descriptors[0])


def _limit(seconds: float) -> None:
    whole = max(1, round(seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    with open("/proc/self/statm", encoding="ascii") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY_BYTES, size + _MEMORY_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, _WALL * seconds)


class _Compilers:
    """vLLM's own compilers, as the engine has them."""

    def __init__(self, args: Namespace) -> None:
        engine_args = AsyncEngineArgs.from_cli_args(args)
        self.config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
        self._manager = StructuredOutputManager(self.config)
        self._manager._use_async_grammar_compilation = False
        self.tokenizer = self._manager.tokenizer
        # What a child needs of the vocabulary and of libraries is made here once.
        anything = SamplingParams(structured_outputs=StructuredOutputsParams(json_object=True))
        with suppress(Exception):  # vLLM says at a request what this backend cannot do
            self.read(anything)
            self.compile(anything)

    def read(self, sampling_params: SamplingParams) -> None:
        """Validate the constraint as vLLM does on the event loop, and choose its backend."""
        sampling_params._validate_structured_outputs(
            self.config.model_config, self.config.structured_outputs_config, self.tokenizer
        )

    def compile(self, sampling_params: Any) -> Any:
        """Return the grammar, or the exception with which it failed."""
        request: Any = SimpleNamespace(
            request_id="trial",
            sampling_params=sampling_params,
            structured_output_request=StructuredOutputRequest(sampling_params.structured_outputs),
        )
        if self._manager.backend is not None:
            backend = sampling_params.structured_outputs._backend
            if not type(self._manager.backend).__name__.lower().startswith(backend.replace("-", "")):
                self._manager.backend = None
        self._manager.grammar_init(request)
        return request.structured_output_request.grammar

    def mask(self) -> Any:
        """Return memory for one mask, of shape (1, words)."""
        backend: Any = self._manager.backend
        return backend.allocate_token_bitmask(1)


def _measure(compilers: _Compilers, told: socket.socket) -> dict[str, Any]:
    """Return CPU seconds to read the constraint and for its slowest mask, and why it cannot be read or compiled."""
    length = _LENGTH.unpack(_exactly(told, _LENGTH.size))[0]
    sampling_params = msgspec.msgpack.decode(_exactly(told, length), type=SamplingParams)
    result: dict[str, Any] = {"read": 0.0, "mask": 0.0, "error": None}
    started = time.process_time()
    try:
        compilers.read(sampling_params)
    except Exception as error:  # noqa: BLE001 - in a child process, which answers only whether it can be read
        result["error"] = f"the output constraint cannot be read: {_reason(error)}"
        return result
    result["read"] = time.process_time() - started
    grammar = compilers.compile(sampling_params)
    if isinstance(grammar, Exception):
        result["error"] = f"the output constraint cannot be compiled: {_reason(grammar)}"
        return result
    mask = compilers.mask()
    for step in range(_MASKS):
        started = time.thread_time()
        grammar.fill_bitmask(mask, 0)
        result["mask"] = max(result["mask"], time.thread_time() - started)
        tokens = _allowed(mask[0])
        # Any walk will do that does not always take the first token.
        if not tokens or not grammar.accept_tokens("trial", [tokens[7919 * step % len(tokens)]]):
            break
        if grammar.is_terminated():
            break
    return result


def _reason(error: BaseException) -> str:
    """Say in a line why a constraint was refused, without the place in the compiler's source that xgrammar adds.

    vLLM's own message is often about the kind of constraint alone, and its cause says what is wrong.
    """
    lines = [_PLACE.sub("", str(one)).strip().partition("\n")[0] for one in (error, error.__cause__) if one]
    if len(lines) == 2 and lines[1] in lines[0]:
        lines.pop()
    return ": ".join(line.rstrip(".") for line in lines)[:300]


def _allowed(mask: Any) -> list[int]:
    """Return the tokens of a mask, 32 to a number."""
    return [
        32 * place + bit
        for place, number in enumerate(mask.tolist())
        if number
        for bit in range(32)
        if number >> bit & 1
    ]


def _exactly(told: socket.socket, length: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < length:
        piece = told.recv(length - len(pieces))
        if not piece:
            os._exit(1)  # the server has gone
        pieces += piece
    return bytes(pieces)
