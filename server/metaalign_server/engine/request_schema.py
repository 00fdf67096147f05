"""What the JSON Schemas of vLLM's request models omit: bounds, refused fields, items that are not read."""

from __future__ import annotations

from typing import Any

from metaalign_server.engine.refusals import REPETITION_PENALTIES, Allowances
from metaalign_server.engine.requests import CompletionsRequest, ResponsesApiRequest

__all__ = ["INT64", "describe_refusals"]

INT64: dict[str, Any] = {"minimum": -(2**63), "maximum": 2**63 - 1}
"""Exact bounds for JSON Schema; pydantic writes them as floats, which are not exact."""

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
"""Bounds that vLLM's validators enforce but its JSON Schema omits."""

_KEYWORDS_OF = {
    "integer": {"minimum", "maximum", "exclusiveMinimum"},
    "number": {"minimum", "maximum", "exclusiveMinimum"},
    "string": {"minLength"},
    "array": {"minItems", "items"},
    "object": {"propertyNames", "additionalProperties"},
}


_READ_ITEMS = frozenset(
    {
        None,  # a reference; with a role it is read as a message
        "custom_tool_call",
        "custom_tool_call_output",
        "function_call",
        "function_call_output",
        "message",
        "reasoning",
    }
)
"""Types of input items of `/v1/responses` that are used, not only parsed."""


_PUT_IN = {
    "ResponseOutputMessage": {"id", "status"},
    "ResponseOutputText": {"annotations", "logprobs"},
    "ResponseReasoningItem": {"id"},
}
"""Fields that vLLM fills in when an input item lacks them."""

_NOT_READ = frozenset({"annotations", "logprobs"})
"""Fields whose type is not even checked."""


def describe_refusals(schemas: dict[str, Any], name: str, allowances: Allowances, *, reasons: bool) -> None:
    """Add to the JSON Schema of a request model what the server refuses beyond type errors.

    Args:
        schemas: Schemas by name, including our request models; changed in place.
        name: Name of the request model.
        allowances: What the operator allows.
        reasons: Whether the engine knows where the model's reasoning ends.
    """
    properties = schemas[name]["properties"]
    refused = dict(allowances.refused)
    bounds_of = _BOUNDS | {"n": {"minimum": 1, "maximum": allowances.max_choices}}
    if not allowances.xargs:
        refused["vllm_xargs"] = "the operator allows no arguments of the engine's extensions"
    if not reasons:
        refused["thinking_token_budget"] = "the server has no reasoning parser"
    if name == CompletionsRequest.__name__:
        bounds_of["max_tokens"] = {"minimum": 0}  # a request may ask for the prompt alone
        if "prompt_embeds" in refused:
            _describe_prompt(schemas[name])
    elif name == ResponsesApiRequest.__name__:
        del bounds_of["top_logprobs"]  # not checked unless `include` asks for them
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
    if allowances.template_arguments and "chat_template_kwargs" not in allowances.fields:
        bounds_of["chat_template_kwargs"] = {
            "propertyNames": {"enum": sorted(allowances.template_arguments)},
            "additionalProperties": {"type": ["boolean", "number"]},
        }
    if allowances.xargs:
        bounds_of["vllm_xargs"] = {"propertyNames": {"enum": sorted(allowances.xargs)}}
    for field, bounds in bounds_of.items():
        described = properties.get(field, {})
        for kind in described.get("anyOf", [described]):
            keywords = _KEYWORDS_OF.get(kind.get("type"), set())
            kind |= {keyword: bound for keyword, bound in bounds.items() if keyword in keywords}


def _describe_prompt(schema: dict[str, Any]) -> None:
    """Make the prompt of a completion required and non-empty."""
    schema.setdefault("required", []).append("prompt")
    prompt = schema["properties"]["prompt"]
    prompt["anyOf"].remove({"type": "null"})
    for kind in prompt["anyOf"]:
        if (item := kind.get("items", {})).get("type") in ("string", "array"):
            item["minLength" if item["type"] == "string" else "minItems"] = 1


def _kind_of(schemas: dict[str, Any], item: dict[str, Any]) -> str | None:
    kind: str | None = schemas[item["$ref"].rsplit("/", 1)[-1]]["properties"]["type"].get("const")
    return kind
