"""Installs our hooks in a running vLLM, and proves that they work before the first request is served.

The hooks replace methods of vLLM's objects. A vLLM that calls other methods would never call them: preferences would be
silently dropped, and user text could forge control tokens. `install` therefore checks vLLM's version and the signatures
of the replaced methods, and finally has vLLM's own handlers render canary prompts, whose token ids must equal ours.
Otherwise the server refuses to start.
"""

from __future__ import annotations

import inspect
import logging
from types import ModuleType
from typing import Any

from vllm.entrypoints.generate.base import protocol
from vllm.renderers.hf import HfRenderer
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.version import __version__ as VLLM_VERSION

from metaalign import InvalidPrompt, InvalidTemplate, Preferences
from metaalign.prompt import PromptAssembler
from metaalign_server.alignment.aligner import Aligner
from metaalign_server.alignment.context import RequestContext, current_request
from metaalign_server.alignment.service import Service
from metaalign_server.engine.branches import capacity_of
from metaalign_server.engine.chunks import write_chunks_as_text
from metaalign_server.engine.forced_calls import hold_forced_calls
from metaalign_server.engine.generation import wrap_generate
from metaalign_server.engine.grammars import GrammarTrials, read_tags_later
from metaalign_server.engine.handlers import VllmEngine
from metaalign_server.engine.idle_parsers import skip_idle_parsers
from metaalign_server.engine.refusals import Allowances
from metaalign_server.engine.rendering import (
    build_assembler,
    install_renderer,
    ordinary_text,
    render_conversation,
)
from metaalign_server.engine.requests import ChatRequest, CompletionsRequest
from metaalign_server.platform.fair_queue import WAITED, FairQueue
from metaalign_server.platform.startup import Platform
from metaalign_server.settings import ConfigurationError, Settings

__all__ = ["OTHER_CHUNKS", "OTHER_PARSERS", "SUPPORTED_VLLM", "IncompatibleEngine", "check_vllm", "install"]

logger = logging.getLogger(__name__)

OTHER_CHUNKS = "this vLLM writes other chunks: streams are written by its own models, which takes more CPU"
OTHER_PARSERS = (
    "this vLLM parses answers in another way: streams without tools are parsed, too, which takes more CPU"
)
SUPPORTED_VLLM = "0.32."
"""The release whose methods the hooks replace. Change it together with the pin in pyproject.toml."""

_REPLACED: tuple[tuple[str, type | ModuleType, tuple[str, ...]], ...] = (
    ("render_messages_async", HfRenderer, ("self", "messages", "params")),
    (
        "preprocess_completion",
        OnlineRenderer,
        ("self", "request", "prompt_input", "prompt_embeds", "skip_mm_cache"),
    ),
    ("generate", AsyncLLM, ("self", "prompt", "sampling_params", "request_id")),
    ("add_request_async", AsyncMPClient, ("self", "request")),
    ("_finish_request", OutputProcessor, ("self", "req_state")),
    ("abort_requests", OutputProcessor, ("self", "request_ids", "internal")),
    ("validate_structural_tag_payload", protocol, ("payload", "parameter")),
)


class IncompatibleEngine(ConfigurationError):
    """Our hooks do not work in this vLLM; the message is one line with the remedy."""


def check_vllm() -> None:
    """Check vLLM's version and the signatures of the methods that the hooks replace.

    Raises:
        IncompatibleEngine: the hooks were not written for this vLLM.
    """
    if not VLLM_VERSION.startswith(SUPPORTED_VLLM):
        raise _incompatible(f"vLLM {VLLM_VERSION} is installed")
    for name, owner, parameters in _REPLACED:
        method = vars(owner).get(name)
        found = tuple(inspect.signature(method).parameters) if method is not None else None
        if found is None or found[: len(parameters)] != parameters:
            raise _incompatible(f"vLLM's {owner.__name__}.{name} has changed")


def _incompatible(what: str) -> IncompatibleEngine:
    return IncompatibleEngine(
        f"{what}, and preferences could be lost in it: install vLLM {SUPPORTED_VLLM}x (pip install 'metaalign[cpu]' or"
        " 'metaalign[cuda]')"
    )


async def install(
    state: Any, settings: Settings, platform: Platform | None = None, trials: GrammarTrials | None = None
) -> Service:
    """Install the hooks in vLLM's initialised application state and add the service to it.

    Args:
        state: The state that `init_app_state` filled; receives the service as `metaalign`.
        settings: The server's settings.
        platform: The store and what is built on it; None under `vllm serve`.
        trials: Tries output constraints; None under `vllm serve`.

    Raises:
        IncompatibleEngine: the hooks do not work in this vLLM.
        metaalign.InvalidTemplate: the checkpoint cannot be served with preferences.
    """
    check_vllm()
    aligner = Aligner(build_assembler(state.online_renderer), settings.spec_cache_bytes)
    await _check_roles(aligner.assembler, platform)
    install_renderer(state.online_renderer, aligner)
    engine = state.engine_client
    read_tags_later()
    sequences = wrap_generate(engine, settings.max_logprobs, trials, capacity_of(engine.vllm_config))
    if not hold_forced_calls():
        logger.warning("this vLLM holds forced tool calls to their schema only if the tool says `strict`")
    if not write_chunks_as_text():
        logger.warning(OTHER_CHUNKS)
    elif not all(map(skip_idle_parsers, (state.openai_serving_chat, state.anthropic_serving_messages))):
        logger.warning(OTHER_PARSERS)
    await _check_canary(state, aligner)
    service = Service(
        settings=settings,
        aligner=aligner,
        engine=VllmEngine(state, Allowances.of(settings), sequences),
        queue=fair_queue(engine.vllm_config.scheduler_config.max_num_seqs, settings.max_waiting),
        platform=platform,
    )
    state.metaalign = service
    return service


async def _check_roles(assembler: PromptAssembler, platform: Platform | None) -> None:
    """Check that the checkpoint keeps text of keys without the scope `system` out of the System tier.

    Such keys that are created later are refused request by request (`rendering.py`).

    Raises:
        InvalidTemplate: it marks roles by ordinary text, which any text can contain, and there is such a key.
    """
    if (marker := assembler.text_marker) is None:
        return
    if platform is not None and (key := await platform.lookups.key_without_system()) is not None:
        raise InvalidTemplate(
            f"model: its chat template marks a role by {ordinary_text(marker)}, so any text can write System text; but"
            f" key {key} lacks the scope `system`: revoke it or give it that scope, or serve a checkpoint whose roles"
            " are marked by control tokens"
        )
    logger.warning(
        "the checkpoint marks roles by ordinary text: users' texts can contain it, and keys without the scope `system`"
        " are refused",
        extra={"fields": {"marker": marker}},
    )


def fair_queue(sequences: int, max_waiting: int) -> FairQueue:
    """Return the queue for an engine that runs so many sequences at one time.

    For one tenant there are 25% more places, so that the engine never waits for us to send the next sequence. Several
    tenants share nine tenths of the engine, so that it runs a sequence of a tenant that had none at once.
    """
    ahead = max(1, sequences // 4)
    reserved = ahead + sequences // 10
    return FairQueue(sequences + ahead, reserved=reserved, max_waiting=max_waiting, waits=WAITED)


async def _check_canary(state: Any, aligner: Aligner) -> None:
    """Render canary prompts through vLLM's own handlers and compare the ids with ours.

    Raises:
        IncompatibleEngine: an id differs, or a handler bypasses the hooks.
    """
    preferences = Preferences.model_validate(
        {"system": "A canary.", "user": {"attributes": {"tone": "formal"}}}
    )
    # The user writes the checkpoint's own control strings; only our ids keep them as text.
    canary = " ".join(["a question", *list(aligner.assembler.control)[:8]])
    dialogue = [{"role": "user", "content": canary}]
    try:
        ours = render_conversation(
            aligner, RequestContext(preferences=preferences), dialogue, add_generation_prompt=True
        )
    except InvalidPrompt:
        return  # the template takes no system message: each request with preferences is refused
    name = state.openai_serving_models.base_model_paths[0].name
    chat = ChatRequest(model=name, messages=dialogue, max_completion_tokens=1)
    completion = CompletionsRequest(model=name, prompt=canary, max_tokens=1)
    renders: tuple[tuple[str, Any, Any], ...] = (
        ("chat", state.openai_serving_chat.render_chat_request, chat),
        ("completions", state.openai_serving_completion.render_completion_request, completion),
    )
    for what, render, request in renders:
        token = current_request.set(RequestContext(preferences=preferences))
        try:
            found = _prompt_ids(await render(request))
        except Exception as error:  # any error: a handler that cannot render this cannot be trusted
            raise _incompatible(f"vLLM's {what} handler fails on preferences") from error
        finally:
            current_request.reset(token)
        if found != list(ours.token_ids):
            raise _incompatible(f"vLLM's {what} handler does not render preferences")
    for handler in (
        state.openai_serving_chat,
        state.openai_serving_completion,
        state.openai_serving_responses,
        state.anthropic_serving_messages,
    ):
        if (
            handler.engine_client is not state.engine_client
            or handler.online_renderer is not state.online_renderer
        ):
            raise _incompatible(f"vLLM's {type(handler).__name__} goes around the hooks")


def _prompt_ids(rendered: Any) -> list[int] | None:
    """Return the ids of the one prompt in a handler's result: `(conversation, [input])` or `[input]`."""
    inputs = rendered[1] if isinstance(rendered, tuple) else rendered
    try:
        return list(inputs[0]["prompt_token_ids"])
    except (TypeError, KeyError, IndexError):
        return None
