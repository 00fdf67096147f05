"""vLLM's request models with the field `preferences`, the models of their answers, and accessors for requests."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from openai.types.responses import (
    ResponseFunctionToolCallOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)
from pydantic import BaseModel, Field, ModelWrapValidatorHandler, WithJsonSchema, model_validator
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicCountTokensResponse,
    AnthropicMessagesRequest,
    AnthropicMessagesResponse,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest, ChatCompletionResponse
from vllm.entrypoints.openai.completion.protocol import CompletionRequest, CompletionResponse
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest, ResponsesResponse
from vllm.entrypoints.serve.engine.protocol import ModelCard, ModelList
from vllm.exceptions import VLLMValidationError

from metaalign import Preferences, Receipt
from metaalign.surrogates import has_surrogates
from metaalign_server.engine.bounded_validation import (
    refuse_large_body,
    refuse_surrogates,
    stop_at_first_error,
)
from metaalign_server.engine.mistaken_fields import refuse_mistaken_fields
from metaalign_server.platform.refusal import Refusal

__all__ = [
    "ChatAnswer",
    "ChatRequest",
    "CompletionsAnswer",
    "CompletionsRequest",
    "CountTokensAnswer",
    "CountTokensRequest",
    "InferenceRequest",
    "MessagesAnswer",
    "MessagesRequest",
    "ModelCard",
    "ModelList",
    "PreferencesInput",
    "ResponsesApiAnswer",
    "ResponsesApiRequest",
    "asks_for_logprobs",
    "length_given",
    "may_be_kept",
    "rename_request",
    "sequences_of",
    "user_of",
]


def _inline_schema() -> dict[str, Any]:
    """Return the schema of the field without references, because it is embedded in foreign models."""
    schema = Preferences.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, dict):
            if (reference := node.get("$ref")) is not None:
                return inline(definitions[reference.rsplit("/", 1)[-1]])
            return {key: inline(value) for key, value in node.items()}
        return [inline(item) for item in node] if isinstance(node, list) else node

    return {"anyOf": [{"type": "string"}, inline(schema), {"type": "null"}]}


# `parse_preferences` validates it in the route, so that every protocol returns the same error.
PreferencesInput = Annotated[
    Any,
    WithJsonSchema(_inline_schema()),
    Field(description="Preferences of provider (`system`) and user (`user`); a bare string is `system`."),
]


StoreInput = Annotated[
    bool | None,
    Field(description="false: do not store this exchange, even if the operator stores exchanges."),
]


class _Lenient(BaseModel):
    """vLLM's validators access values before checking their types; an error there means a malformed request."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        stop_at_first_error(cls)

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, body: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(body, dict):
            refuse_mistaken_fields(body, cls.model_fields)
            refuse_large_body(body)
            refuse_surrogates(body)
        try:
            return handler(body)
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError) as error:
            raise ValueError("a field holds something of another type than it takes") from error


class ChatRequest(_Lenient, ChatCompletionRequest):
    """`/v1/chat/completions` with `preferences`."""

    store: StoreInput = None
    field_names: ClassVar[set[str] | None] = None  # the base class caches its own names here
    preferences: PreferencesInput = None

    @model_validator(mode="before")
    @classmethod
    def _no_tools_are_none(cls, body: Any) -> Any:
        """Clients that keep their tools in a list send an empty one; vLLM refuses it."""
        if isinstance(body, dict) and body.get("tools") == []:
            free = ("tools", "tool_choice") if body.get("tool_choice") in ("auto", "none") else ("tools",)
            return {name: value for name, value in body.items() if name not in free}
        return body


class CompletionsRequest(_Lenient, CompletionRequest):
    """`/v1/completions` with `preferences`."""

    store: StoreInput = None
    field_names: ClassVar[set[str] | None] = None
    preferences: PreferencesInput = None


def _refuse_iterables(given: Any) -> None:
    """Refuse objects where vLLM declares iterables: an object passes the check, and then vLLM reads no text at all."""
    parts: list[tuple[str, Any]] = [("input", given)]
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict):
            parts += [(name, item[name]) for name in ("content", "output") if name in item]
    for name, part in parts:
        if not isinstance(part, (str, list)) and (part is not None or name == "input"):
            raise VLLMValidationError(f"input: `{name}` is text or a list", parameter="input")


class ResponsesApiRequest(_Lenient, ResponsesRequest):
    """`/v1/responses` with `preferences`."""

    field_names: ClassVar[set[str] | None] = None
    preferences: PreferencesInput = None

    @model_validator(mode="before")
    @classmethod
    def _texts_and_lists(cls, body: Any) -> Any:
        if isinstance(body, dict):
            _refuse_iterables(body.get("input"))
        return body

    @model_validator(mode="after")
    def _readable_items(self) -> ResponsesApiRequest:
        """Check two item types that vLLM 0.32 reads without validation, and fails on."""
        for item in self.input if isinstance(self.input, list) else ():
            if isinstance(item, ResponseOutputMessage):
                if not item.content or not isinstance(item.content[0], ResponseOutputText):
                    raise VLLMValidationError(
                        "input: a message of the assistant needs text", parameter="input"
                    )
            elif isinstance(item, ResponseFunctionToolCallOutputItem) and isinstance(item.output, list):
                item.output = [part.model_dump(exclude_none=True) for part in item.output]  # type: ignore[misc]
        return self


class MessagesRequest(_Lenient, AnthropicMessagesRequest):
    """`/v1/messages` with `preferences`."""

    store: StoreInput = None
    preferences: PreferencesInput = None


class CountTokensRequest(_Lenient, AnthropicCountTokensRequest):
    """`/v1/messages/count_tokens` with `preferences`."""

    preferences: PreferencesInput = None


InferenceRequest = (
    ChatRequest | CompletionsRequest | ResponsesApiRequest | MessagesRequest | CountTokensRequest
)


# Models of answers, for documentation only: vLLM's handlers build the answers, and the receipt is added as text.
ReceiptOutput = Annotated[Receipt | None, Field(description="What was applied; absent without preferences.")]


class ChatAnswer(ChatCompletionResponse):
    """The answer of `/v1/chat/completions`."""

    field_names: ClassVar[set[str] | None] = None
    metaalign: ReceiptOutput = None


class CompletionsAnswer(CompletionResponse):
    """The answer of `/v1/completions`."""

    field_names: ClassVar[set[str] | None] = None
    metaalign: ReceiptOutput = None


class ResponsesApiAnswer(ResponsesResponse):
    """The answer of `/v1/responses`."""

    field_names: ClassVar[set[str] | None] = None
    metaalign: ReceiptOutput = None


class MessagesAnswer(AnthropicMessagesResponse):
    """The answer of `/v1/messages`."""

    metaalign: ReceiptOutput = None


class CountTokensAnswer(AnthropicCountTokensResponse):
    """The answer of `/v1/messages/count_tokens`."""

    metaalign: ReceiptOutput = None


# Accessors for requests


def rename_request(request: BaseModel) -> None:
    """Replace the engine's request id, which is part of the answer's id, so that the client cannot choose it."""
    field = type(request).model_fields.get("request_id")
    if field is not None:
        # Not by `field.get_default`, which looks at the factory's signature each time.
        make: Any = field.default_factory
        request.request_id = field.default if make is None else make()  # type: ignore[attr-defined]


def user_of(request: BaseModel, signed: str | None = None) -> str | None:
    """Return the user's id: `user` (OpenAI) or `metadata.user_id` (Anthropic).

    Args:
        request: The request.
        signed: The user whom the caller's token names; the request may name no other.

    Raises:
        Refusal: it is not valid Unicode, or another user.
    """
    metadata = getattr(request, "metadata", None)
    fields = {
        "user": getattr(request, "user", None),
        "metadata.user_id": metadata.get("user_id") if isinstance(metadata, dict) else None,
    }
    named = {name: user for name, user in fields.items() if isinstance(user, str) and user}
    for name, user in named.items():
        if has_surrogates(user):
            raise Refusal(
                "value_not_storable", f"{name}: must be valid Unicode without lone surrogates", param=name
            )
        if signed is not None and user != signed:
            raise Refusal(
                "user_mismatch", f"{name}: the token is for another user; leave the field out", param=name
            )
    return signed if signed is not None else next(iter(named.values()), None)


def sequences_of(request: BaseModel) -> int:
    """Return how many sequences a request generates concurrently."""
    prompt = getattr(request, "prompt", None)
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return prompts * (getattr(request, "n", None) or 1)


def asks_for_logprobs(request: BaseModel) -> bool:
    """Return whether the answer is to have log probabilities, of its own tokens or of the prompt's."""
    fields = ("logprobs", "top_logprobs", "prompt_logprobs", "logprob_token_ids")
    given = [value for field in fields if (value := getattr(request, field, None)) is not None]
    return any(value is not False for value in given) and not getattr(request, "use_beam_search", False)


def length_given(request: BaseModel) -> bool:
    """Return whether the client said how many tokens an answer may have."""
    fields = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    return any(getattr(request, field, None) is not None for field in fields)


def may_be_kept(request: BaseModel) -> bool:
    """Return whether the exchange can be training data: one text answer to one prompt, and the client does not opt out.

    The Responses API defaults to `store: true`, so only an explicit false counts everywhere.
    """
    return (
        getattr(request, "store", None) is not False
        and not getattr(request, "tools", None)
        and not getattr(request, "use_beam_search", False)
        and not isinstance(getattr(request, "prompt", None), list)
    )
