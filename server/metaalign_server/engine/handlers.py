"""vLLM's own handlers behind five plain calls, and what the server needs from the engine besides answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import jinja2
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ValidationError
from vllm.entrypoints.anthropic.protocol import AnthropicContentBlock
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.entrypoints.serve.tokenize.protocol import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)
from vllm.exceptions import VLLMError, VLLMValidationError
from vllm.inputs.engine import tokens_input
from vllm.sampling_params import SamplingParams
from vllm.v1.metrics.prometheus import get_prometheus_registry
from vllm.version import __version__ as VLLM_VERSION

from metaalign.errors import ERRORS
from metaalign_server.alignment.context import RequestContext, current_request
from metaalign_server.engine.dialects import CUT_OFF, code_of_status
from metaalign_server.engine.generation import salt
from metaalign_server.engine.refusals import Allowances
from metaalign_server.engine.sequences import Sequences

__all__ = [
    "ENGINE_ERRORS",
    "HANDLER_ERRORS",
    "EngineRefusal",
    "VllmEngine",
    "validation_parameter",
]

ENGINE_ERRORS: tuple[type[Exception], ...] = (VLLMError,)
"""vLLM's own errors, wherever they are raised; its validators run while a body is parsed."""

HANDLER_ERRORS: tuple[type[Exception], ...] = (
    VLLMError,
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,  # vLLM's word for what a model or a flag leaves out
    jinja2.TemplateError,
)
"""What vLLM's handlers raise for a request that they refuse. Raised anywhere else, these are defects of ours."""


_LAST = 2**31 - 1
"""The lowest priority."""


class EngineRefusal(Exception):
    """vLLM refuses a request, or fails on it; can be formatted in any dialect.

    Attributes:
        code: Which of our codes (`metaalign.errors.ERRORS`) stands for it.
        param: The field that the error names, if any.
    """

    def __init__(self, code: str, message: str, param: str | None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param

    @classmethod
    def of(cls, error: Exception) -> EngineRefusal:
        """Map an exception from vLLM as vLLM maps it."""
        return cls.told(create_error_response(error).error)

    @classmethod
    def told(cls, error: ErrorInfo) -> EngineRefusal:
        """Wrap the error that a handler returned instead of an answer."""
        return cls(code_of_status(int(error.code)), error.message, error.param)

    def for_request(self, context: RequestContext | None) -> EngineRefusal:
        """Return what the client of a request is told: why the server has ended it, if it has."""
        return (
            EngineRefusal("unavailable", CUT_OFF, None) if context is not None and context.cut_off else self
        )

    @property
    def status(self) -> int:
        """The HTTP status."""
        return ERRORS[self.code].status or 500


def validation_parameter(error: object) -> str | None:
    """Return the parameter that `error` names, if it is a vLLM validation error."""
    return error.parameter if isinstance(error, VLLMValidationError) else None


async def _ask(handler: Callable[[Any, Request], Awaitable[Any]], request: Any, raw_request: Request) -> Any:
    try:
        result = await handler(request, raw_request)
    except HANDLER_ERRORS as error:
        raise EngineRefusal.of(error).for_request(current_request.get()) from error
    if isinstance(result, ErrorResponse):
        raise EngineRefusal.told(result.error).for_request(current_request.get())
    return result


def _parsed(kind: type[BaseModel], fields: dict[str, Any]) -> BaseModel:
    """Read a request of vLLM's from fields that are partly the client's; what is wrong with them is its mistake."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


class VllmEngine:
    """The part of vLLM's application state that routes use.

    The five calls return what vLLM's handlers return: an answer or a stream of events. They raise EngineRefusal for
    what vLLM refuses; no other error is the client's fault.

    Args:
        state: The state that `init_app_state` filled.
        allowances: What the operator allows.
        sequences: What our requests have in the engine.
    """

    def __init__(self, state: Any, allowances: Allowances, sequences: Sequences) -> None:
        self._state = state
        self._sequences = sequences
        self.allowances = allowances

    # Answers

    async def chat(self, request: Any, raw_request: Request) -> Any:
        """OpenAI Chat Completions."""
        return await _ask(self._state.openai_serving_chat.create_chat_completion, request, raw_request)

    async def completions(self, request: Any, raw_request: Request) -> Any:
        """OpenAI Completions."""
        return await _ask(self._state.openai_serving_completion.create_completion, request, raw_request)

    async def responses(self, request: Any, raw_request: Request) -> Any:
        """OpenAI Responses.

        The engine stores none itself: it would keep them in memory for ever, and show them to every tenant.
        """
        request.store, request.previous_response_id = False, None
        return await _ask(self._state.openai_serving_responses.create_responses, request, raw_request)

    async def messages(self, request: Any, raw_request: Request) -> Any:
        """Anthropic Messages."""
        try:
            return await _ask(self._state.anthropic_serving_messages.create_messages, request, raw_request)
        except EngineRefusal as refusal:
            # vLLM reads the arguments of a finished call; if the model wrote no object, the client is not to blame.
            cause = refusal.__cause__
            unreadable = isinstance(cause, ValidationError) and cause.title == AnthropicContentBlock.__name__
            if unreadable or isinstance(cause, json.JSONDecodeError):
                raise EngineRefusal(
                    "engine_failed",
                    "the model's call of a tool is no JSON object: raise `max_tokens`, or do not force the call",
                    None,
                ) from refusal
            raise

    async def count_tokens(self, request: Any, raw_request: Request) -> Any:
        """Anthropic's token count."""
        return await _ask(self._state.anthropic_serving_messages.count_tokens, request, raw_request)

    async def tokenize(self, fields: dict[str, Any], raw_request: Request) -> Any:
        """The token ids of a dialogue or a prompt, given as the fields of vLLM's request."""
        kind = TokenizeChatRequest if "messages" in fields else TokenizeCompletionRequest
        return await _ask(
            self._state.serving_tokenization.create_tokenize, _parsed(kind, fields), raw_request
        )

    async def detokenize(self, fields: dict[str, Any], raw_request: Request) -> Any:
        """The text of token ids."""
        request = _parsed(DetokenizeRequest, fields)
        return await _ask(self._state.serving_tokenization.create_detokenize, request, raw_request)

    async def list_models(self) -> Any:
        """Return the served models, including LoRA adapters."""
        return await self._state.openai_serving_models.show_available_models()

    @property
    def max_model_len(self) -> int:
        """How many tokens a prompt and its answer may have."""
        return int(self._state.engine_client.model_config.max_model_len)

    @property
    def fingerprint(self) -> str | None:
        """The engine's own `system_fingerprint`."""
        name: str | None = self._state.openai_serving_chat.system_fingerprint
        return name

    @property
    def keep_alive_seconds(self) -> float:
        """Seconds between comments in a silent stream, 0 for none (`--sse-keep-alive-interval`)."""
        return float(getattr(self._state.args, "sse_keep_alive_interval", 0) or 0)

    # The protocol `alignment.service.Engine`

    @property
    def version(self) -> str:
        """The version of vLLM."""
        return VLLM_VERSION

    @property
    def model_names(self) -> list[str]:
        """The names of the served model."""
        return [path.name for path in self._state.openai_serving_models.base_model_paths]

    @property
    def reasons(self) -> bool:
        """Whether the engine knows where the model's reasoning ends."""
        return self._state.engine_client.vllm_config.reasoning_config is not None

    @property
    def dead(self) -> bool:
        """Whether the engine has failed permanently."""
        return bool(self._state.engine_client.errored)

    @property
    def registry(self) -> CollectorRegistry:
        """vLLM's registry, which also holds our metrics; aggregated if vLLM runs several processes."""
        registry: CollectorRegistry = get_prometheus_registry()
        return registry

    def cut_off(self) -> None:
        """End all answers with an error, because the server stops."""
        self._sequences.cut_off()

    async def ping(self) -> None:
        """Return once the engine has answered a call between two of its steps."""
        await self._state.engine_client.is_sleeping()

    async def prefill(self, context: RequestContext, token_ids: Sequence[int]) -> None:
        """Compute a prompt's blocks for the prefix cache, with the salt of `context`, after everything else."""
        prompt = salt(tokens_input(list(token_ids)), context)
        sampling = SamplingParams(max_tokens=1, temperature=0, detokenize=False)
        name = f"prefill-{uuid.uuid4().hex}"
        async for _ in self._state.engine_client.generate(prompt, sampling, name, priority=_LAST):
            pass
