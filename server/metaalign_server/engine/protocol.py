"""vLLM's request models with the field `preferences`, and the fields that are refused by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self, TypeVar

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
from vllm.entrypoints.serve.engine.protocol import ModelList
from vllm.exceptions import VLLMValidationError

from metaalign import Preferences, Receipt, RefusedField
from metaalign_server.platform.errors import Refusal
from metaalign_server.settings import ALLOWABLE_FIELDS

__all__ = [
    "INT64",
    "REFUSED_FIELDS",
    "ChatAnswer",
    "ChatRequest",
    "CompletionsAnswer",
    "CompletionsRequest",
    "CountTokensAnswer",
    "CountTokensRequest",
    "InferenceRequest",
    "MessagesAnswer",
    "MessagesRequest",
    "ModelList",
    "ResponsesApiAnswer",
    "ResponsesApiRequest",
    "describe_refusals",
    "exchange_id",
    "may_be_kept",
    "refuse_fields",
    "refuse_prompt_disclosure",
    "refuse_truncation",
    "rename_request",
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


def _validate(body: Any, handler: Callable[[Any], T]) -> T:
    """vLLM's validators look into values whose type is not known yet; what they stumble over is malformed."""
    try:
        return handler(body)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError("a field holds something of another type than it takes") from error


class ChatRequest(ChatCompletionRequest):
    """`/v1/chat/completions` with `preferences`."""

    store: StoreInput = None
    field_names: ClassVar[set[str] | None] = None  # the base class caches its own names here
    preferences: PreferencesInput = None

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, body: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return _validate(body, handler)


class CompletionsRequest(CompletionRequest):
    """`/v1/completions` with `preferences`."""

    store: StoreInput = None
    field_names: ClassVar[set[str] | None] = None
    preferences: PreferencesInput = None

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, body: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return _validate(body, handler)


def _refuse_iterables(given: Any) -> None:
    """vLLM declares these parts as iterables, which an object is too, and then reads no text at all."""
    parts: list[tuple[str, Any]] = [("input", given)]
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict):
            parts += [(name, item[name]) for name in ("content", "output") if name in item]
    for name, part in parts:
        if not isinstance(part, (str, list)) and (part is not None or name == "input"):
            raise VLLMValidationError(f"input: `{name}` is text or a list", parameter="input")


class ResponsesApiRequest(ResponsesRequest):
    """`/v1/responses` with `preferences`."""

    field_names: ClassVar[set[str] | None] = None
    preferences: PreferencesInput = None

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, body: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(body, dict):
            _refuse_iterables(body.get("input"))
        return _validate(body, handler)

    @model_validator(mode="after")
    def _readable_items(self) -> ResponsesApiRequest:
        """vLLM 0.32 reads these two items without looking what they hold, and fails."""
        for item in self.input if isinstance(self.input, list) else ():
            if isinstance(item, ResponseOutputMessage):
                if not item.content or not isinstance(item.content[0], ResponseOutputText):
                    raise VLLMValidationError(
                        "input: a message of the assistant needs text", parameter="input"
                    )
            elif isinstance(item, ResponseFunctionToolCallOutputItem) and isinstance(item.output, list):
                item.output = [part.model_dump(exclude_none=True) for part in item.output]  # type: ignore[misc]
        return self


class MessagesRequest(AnthropicMessagesRequest):
    """`/v1/messages` with `preferences`."""

    store: StoreInput = None
    preferences: PreferencesInput = None

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, body: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return _validate(body, handler)


class CountTokensRequest(AnthropicCountTokensRequest):
    """`/v1/messages/count_tokens` with `preferences`."""

    preferences: PreferencesInput = None

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, body: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return _validate(body, handler)


InferenceRequest = (
    ChatRequest | CompletionsRequest | ResponsesApiRequest | MessagesRequest | CountTokensRequest
)


# Answers, for the documentation: vLLM's handlers make them, and the receipt is added as text.
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

T = TypeVar("T")

REPETITION_PENALTIES = (0.01, 100.0)
"""Beyond them the logits overflow: what is sampled then no grammar allows, and the engine gives the request up."""

INT64: dict[str, Any] = {"minimum": -(2**63), "maximum": 2**63 - 1}
"""For JSON Schema: pydantic writes these bounds as floats, which are not exact."""

_BOUNDS: dict[str, dict[str, Any]] = {
    "allowed_token_ids": {"minItems": 1},
    "bad_words": {"items": {"type": "string", "minLength": 1}},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "logprobs": {"minimum": -1},
    "logit_bias": {"propertyNames": {"pattern": "^[0-9]+$"}},
    "max_completion_tokens": {"minimum": 1},
    "max_output_tokens": {"minimum": 1},
    "max_tokens": {"minimum": 1},
    "min_p": {"minimum": 0, "maximum": 1},
    "min_tokens": {"minimum": 0},
    "messages": {"minItems": 1},
    "priority": INT64,
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "prompt": {"minLength": 1, "minItems": 1},
    "prompt_logprobs": {"minimum": -1},
    "repetition_penalty": dict(zip(("minimum", "maximum"), REPETITION_PENALTIES, strict=True)),
    "seed": INT64,
    "stop": {"items": {"type": "string", "minLength": 1}},
    "temperature": {"minimum": 0, "maximum": 2},
    "thinking_token_budget": {"minimum": -1},
    "top_k": {"minimum": -1},
    "top_logprobs": {"minimum": -1},
    "top_p": {"exclusiveMinimum": 0, "maximum": 1},
    "truncate_prompt_tokens": {"minimum": -1, "maximum": 2**63 - 1},
}
"""What vLLM's validators say of fields and its JSON Schema does not."""

_KEYWORDS_OF = {
    "integer": {"minimum", "maximum", "exclusiveMinimum"},
    "number": {"minimum", "maximum", "exclusiveMinimum"},
    "string": {"minLength"},
    "array": {"minItems", "items"},
    "object": {"propertyNames"},
}


_READ_ITEMS = frozenset(
    {
        None,  # a reference: what has a role beside it is read as a message
        "custom_tool_call",
        "custom_tool_call_output",
        "function_call",
        "function_call_output",
        "message",
        "reasoning",
    }
)
"""Kinds of input items of `/v1/responses` that are more than parsed."""


_PUT_IN = {
    "ResponseOutputMessage": {"id", "status"},
    "ResponseOutputText": {"annotations", "logprobs"},
    "ResponseReasoningItem": {"id"},
}
"""What vLLM puts into input items where it is missing."""

_NOT_READ = frozenset({"annotations", "logprobs"})
"""Of these fields not even the type is looked at."""


def describe_refusals(
    schemas: dict[str, Any], name: str, *, allowed: frozenset[str], max_choices: int, reasons: bool
) -> None:
    """Add to the JSON Schema of a request model what is refused beside its types.

    Args:
        schemas: Schemas by name, those of our request models among them; changed in place.
        name: Of the request model.
        allowed: Fields that the operator allows though they are refused by default.
        max_choices: The most choices of a request.
        reasons: Whether the engine knows where the model's reasoning ends.
    """
    properties = schemas[name]["properties"]
    refused = {field: reason for field, reason in REFUSED_FIELDS.items() if field not in allowed}
    bounds_of = _BOUNDS | {"n": {"minimum": 1, "maximum": max_choices}}
    if not reasons:
        refused["thinking_token_budget"] = "the server has no reasoning parser"
    if name == ChatRequest.__name__:
        bounds_of["tools"] = {"minItems": 1}
    elif name == CompletionsRequest.__name__:
        bounds_of["max_tokens"] = {"minimum": 0}  # the prompt alone can be asked for
        if "prompt_embeds" in refused:
            _describe_prompt(schemas[name])
    elif name == ResponsesApiRequest.__name__:
        del bounds_of["top_logprobs"]  # not looked at unless `include` asks for them
        refused["prompt"] = "there are no stored prompts; see `preferences.profile`"
        items = next(kind["items"] for kind in properties["input"]["anyOf"] if "items" in kind)
        items["anyOf"] = [item for item in items["anyOf"] if _kind_of(schemas, item) in _READ_ITEMS]
        for model, fields in _PUT_IN.items():
            for schema in (schemas.get(model + suffix) for suffix in ("", "-Input", "Param")):
                if schema is not None:
                    schema["required"] = [field for field in schema["required"] if field not in fields]
                    for field in fields & _NOT_READ:
                        schema["properties"][field] = {"description": "Not read."}
    else:
        bounds_of["model"] = {"minLength": 1}
    for field, reason in refused.items():
        if field in properties:
            properties[field] = {"type": "null", "description": f"Refused: {reason}."}
    for field, bounds in bounds_of.items():
        described = properties.get(field, {})
        for kind in described.get("anyOf", [described]):
            keywords = _KEYWORDS_OF.get(kind.get("type"), set())
            kind |= {keyword: bound for keyword, bound in bounds.items() if keyword in keywords}


def _describe_prompt(schema: dict[str, Any]) -> None:
    """Nothing can stand for the prompt of a completion, and none may be empty."""
    schema.setdefault("required", []).append("prompt")
    prompt = schema["properties"]["prompt"]
    prompt["anyOf"].remove({"type": "null"})
    for kind in prompt["anyOf"]:
        if (item := kind.get("items", {})).get("type") in ("string", "array"):
            item["minLength" if item["type"] == "string" else "minItems"] = 1


def _kind_of(schemas: dict[str, Any], item: dict[str, Any]) -> str | None:
    kind: str | None = schemas[item["$ref"].rsplit("/", 1)[-1]]["properties"]["type"].get("const")
    return kind


MAX_SEQUENCES = 1024
"""Sequences of one request: what vLLM allows as prompts, whatever `n` is."""

_MISTAKEN_FIELDS = ("preference", "metaalign", "profile", "system_info", "user_info")


def rename_request(request: BaseModel) -> None:
    """Take the engine's name for the request, which is in the answer's id, out of the client's hands."""
    field = type(request).model_fields.get("request_id")
    if field is not None:
        request.request_id = field.get_default(call_default_factory=True)  # type: ignore[attr-defined]


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
    if isinstance(request, (ChatRequest, MessagesRequest, CountTokensRequest)) and not request.messages:
        raise RefusedField("messages: at least one is needed", param="messages")
    n = getattr(request, "n", None)
    if n is not None and n > max_choices:
        raise RefusedField(f"n: at most {max_choices} choices per request", param="n")
    penalty = getattr(request, "repetition_penalty", None)
    if penalty is not None and not REPETITION_PENALTIES[0] <= penalty <= REPETITION_PENALTIES[1]:
        raise RefusedField(
            f"repetition_penalty: from {REPETITION_PENALTIES[0]:g} to {REPETITION_PENALTIES[1]:g}",
            param="repetition_penalty",
        )
    if getattr(request, "priority", 0):
        raise RefusedField("priority: who comes first is the operator's matter; remove it", param="priority")
    if sequences_of(request) > MAX_SEQUENCES:
        raise RefusedField(f"prompt: at most {MAX_SEQUENCES} prompts, each counted `n` times", param="prompt")
    for name in getattr(request, "vllm_xargs", None) or ():
        if name in REFUSED_FIELDS:
            raise RefusedField(f"vllm_xargs.{name}: {REFUSED_FIELDS[name]}; remove it", param="vllm_xargs")
    if extra := request.model_extra:
        for name in _MISTAKEN_FIELDS:
            if name in extra:
                raise RefusedField(
                    f"{name}: unknown field; preferences are given in `preferences`", param=name
                )


# `echo` of a chat request asks for the prompt's log probabilities, and 0 of them are still those of the prompt itself.
_DISCLOSING_FIELDS = (
    "return_token_ids",
    "return_prompt_text",
    "prompt_logprobs",
    "echo",
    "enable_response_messages",
)


def refuse_prompt_disclosure(request: BaseModel) -> None:
    """Refuse what would show a stored System tier to a key that may not read profiles.

    Raises:
        Refusal: 403; names the field.
    """
    for name in _DISCLOSING_FIELDS:
        value = getattr(request, name, None)
        if value is not None and value is not False:
            raise Refusal(
                403,
                "missing_scope",
                f"{name}: would show the provider's stored preferences; that takes the scope `profiles:read`",
                param=name,
            )


def refuse_truncation(request: BaseModel) -> None:
    """Refuse what would cut tokens off a prompt that starts with tiers: the System tier would be the first to go.

    Raises:
        RefusedField: names the field.
    """
    for name in ("truncate_prompt_tokens", "truncation"):
        if getattr(request, name, None) not in (None, "disabled"):
            raise RefusedField(f"{name}: would cut off preferences; send less instead", param=name)


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
