"""vLLM's request models with the field `preferences`, and the fields that are refused by default."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, WithJsonSchema
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from metaalign import Preferences, RefusedField
from metaalign_server.settings import ALLOWABLE_FIELDS

__all__ = [
    "REFUSED_FIELDS",
    "ChatRequest",
    "CompletionsRequest",
    "CountTokensRequest",
    "InferenceRequest",
    "MessagesRequest",
    "ResponsesApiRequest",
    "refuse_fields",
]


def _inline_schema() -> dict[str, Any]:
    """Schema of the field without references, since it is embedded in foreign models."""
    schema = Preferences.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, dict):
            if (reference := node.get("$ref")) is not None:
                return inline(definitions[reference.rsplit("/", 1)[-1]])
            return {key: inline(value) for key, value in node.items()}
        return [inline(item) for item in node] if isinstance(node, list) else node

    return {"anyOf": [{"type": "string"}, inline(schema), {"type": "null"}]}


# Validated by `parse_preferences` in the route, so that every protocol gives the same error.
PreferencesInput = Annotated[
    Any,
    WithJsonSchema(_inline_schema()),
    Field(description="Preferences of provider (`system`) and user (`user`); a bare string is `system`."),
]


class ChatRequest(ChatCompletionRequest):
    """`/v1/chat/completions` with `preferences`."""

    field_names: ClassVar[set[str] | None] = None  # the base class caches its own names here
    preferences: PreferencesInput = None


class CompletionsRequest(CompletionRequest):
    """`/v1/completions` with `preferences`."""

    field_names: ClassVar[set[str] | None] = None
    preferences: PreferencesInput = None


class ResponsesApiRequest(ResponsesRequest):
    """`/v1/responses` with `preferences`."""

    field_names: ClassVar[set[str] | None] = None
    preferences: PreferencesInput = None


class MessagesRequest(AnthropicMessagesRequest):
    """`/v1/messages` with `preferences`."""

    preferences: PreferencesInput = None


class CountTokensRequest(AnthropicCountTokensRequest):
    """`/v1/messages/count_tokens` with `preferences`."""

    preferences: PreferencesInput = None


InferenceRequest = (
    ChatRequest | CompletionsRequest | ResponsesApiRequest | MessagesRequest | CountTokensRequest
)

REFUSED_FIELDS = {
    "chat_template": "a client may not bring a template",
    "chat_template_kwargs": "template variables reach past the tiers",
    "cache_salt": "the server alone decides who shares a prefix cache",
    "prompt_embeds": "embeddings bypass the Meta-Prompt",
    "mm_processor_kwargs": "processor options are the operator's",
    "media_io_kwargs": "media options are the operator's",
    "kv_transfer_params": "cache transfer is between servers",
    "ec_transfer_params": "cache transfer is between servers",
}
"""Fields that reach past the contract, and why."""

_MISTAKEN_FIELDS = ("preference", "metaalign", "profile", "system_info", "user_info")


def refuse_fields(request: BaseModel, *, allowed: frozenset[str], max_choices: int) -> None:
    """Refuse what would otherwise be trusted or silently ignored.

    Raises:
        RefusedField: names the field and how an operator can allow it.
    """
    for name, reason in REFUSED_FIELDS.items():
        if getattr(request, name, None) is not None and name not in allowed:
            way_out = (
                f" (an operator may allow it with METAALIGN_ALLOW_FIELDS={name})"
                if name in ALLOWABLE_FIELDS
                else ""
            )
            raise RefusedField(f"{name}: {reason}; remove it{way_out}", param=name)
    n = getattr(request, "n", None)
    if n is not None and n > max_choices:
        raise RefusedField(f"n: at most {max_choices} choices per request", param="n")
    if extra := request.model_extra:
        for name in _MISTAKEN_FIELDS:
            if name in extra:
                raise RefusedField(
                    f"{name}: unknown field; preferences are given in `preferences`", param=name
                )
