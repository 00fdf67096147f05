"""vLLM's request models with the field `preferences`, and the fields that are refused by default."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, WithJsonSchema
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from metaalign import Preferences, RefusedField
from metaalign_server.platform.errors import Refusal
from metaalign_server.settings import ALLOWABLE_FIELDS

__all__ = [
    "REFUSED_FIELDS",
    "ChatRequest",
    "CompletionsRequest",
    "CountTokensRequest",
    "InferenceRequest",
    "MessagesRequest",
    "ResponsesApiRequest",
    "exchange_id",
    "may_be_kept",
    "refuse_fields",
    "refuse_prompt_disclosure",
    "sequences_of",
    "user_of",
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


StoreInput = Annotated[
    bool | None,
    Field(description="false: nothing of this exchange is kept, also where the operator keeps exchanges."),
]


class ChatRequest(ChatCompletionRequest):
    """`/v1/chat/completions` with `preferences`."""

    store: StoreInput = None
    field_names: ClassVar[set[str] | None] = None  # the base class caches its own names here
    preferences: PreferencesInput = None


class CompletionsRequest(CompletionRequest):
    """`/v1/completions` with `preferences`."""

    store: StoreInput = None
    field_names: ClassVar[set[str] | None] = None
    preferences: PreferencesInput = None


class ResponsesApiRequest(ResponsesRequest):
    """`/v1/responses` with `preferences`."""

    field_names: ClassVar[set[str] | None] = None
    preferences: PreferencesInput = None


class MessagesRequest(AnthropicMessagesRequest):
    """`/v1/messages` with `preferences`."""

    store: StoreInput = None
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


_DISCLOSING_FIELDS = ("return_token_ids", "return_prompt_text", "prompt_logprobs", "enable_response_messages")


def refuse_prompt_disclosure(request: BaseModel) -> None:
    """Refuse what would show a stored System tier to a key that may not read profiles.

    Raises:
        Refusal: 403; names the field.
    """
    for name in _DISCLOSING_FIELDS:
        if getattr(request, name, None) not in (None, False):
            raise Refusal(
                403,
                "missing_scope",
                f"{name}: would show the provider's stored preferences; that takes the scope `profiles:read`",
                param=name,
            )


def user_of(request: BaseModel) -> str | None:
    """The user's id: `user` (OpenAI), `metadata.user_id` (Anthropic)."""
    user = getattr(request, "user", None)
    if user is None and isinstance(metadata := getattr(request, "metadata", None), dict):
        user = metadata.get("user_id")
    return user if isinstance(user, str) and user else None


def sequences_of(request: BaseModel) -> int:
    """How many sequences a request generates at one time."""
    prompt = getattr(request, "prompt", None)
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return prompts * (getattr(request, "n", None) or 1)


def may_be_kept(request: BaseModel) -> bool:
    """Whether the exchange can become training data: one text answer to one prompt, and the client does not object.

    The Responses API defaults to `store: true`, so only an explicit false counts everywhere.
    """
    return (
        getattr(request, "store", None) is not False
        and not getattr(request, "tools", None)
        and not getattr(request, "use_beam_search", False)
        and not isinstance(getattr(request, "prompt", None), list)
    )


def exchange_id(engine_id: str) -> str:
    """The id that a client sees of an answer, from the engine's name for its request."""
    if engine_id.startswith("cmpl-"):
        return engine_id.removesuffix("-0")
    return engine_id.removesuffix("_0") if engine_id.startswith("resp_") else engine_id
