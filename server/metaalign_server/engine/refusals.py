"""What a request may not contain: fields that bypass the preferences, and values that the engine must not get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel

from metaalign import RefusedField
from metaalign_server.engine.requests import ChatRequest, CountTokensRequest, MessagesRequest, sequences_of
from metaalign_server.platform.refusal import Refusal
from metaalign_server.settings import ALLOWABLE_FIELDS, Settings

__all__ = [
    "MAX_SEQUENCES",
    "REPETITION_PENALTIES",
    "Allowances",
    "refuse_fields",
    "refuse_prompt_disclosure",
    "refuse_truncation",
]


@dataclass(frozen=True)
class Allowances:
    """What the operator allows.

    Attributes:
        fields: Allowed fields among those that are refused by default.
        xargs: Allowed names in `vllm_xargs`, which reach the engine's extensions.
        template_arguments: Allowed names in `chat_template_kwargs`, for booleans and numbers.
        max_choices: Maximum number of choices per request.
    """

    fields: frozenset[str] = frozenset()
    xargs: frozenset[str] = frozenset()
    template_arguments: frozenset[str] = frozenset()
    max_choices: int = 64

    @classmethod
    def of(cls, settings: Settings) -> Allowances:
        """Return the allowances from the settings."""
        return cls(
            frozenset(settings.allow_fields),
            frozenset(settings.allow_xargs),
            frozenset(settings.allow_template_arguments),
            settings.max_choices,
        )

    @cached_property
    def refused(self) -> dict[str, str]:
        """Fields that are refused whatever they hold, and why."""
        accepted = self.fields | ({"chat_template_kwargs"} if self.template_arguments else frozenset())
        return {name: reason for name, reason in _REFUSED_FIELDS.items() if name not in accepted}


_REFUSED_FIELDS = {
    "chat_template": "a client may not bring a template",
    "chat_template_kwargs": "template variables reach past the tiers",
    "cache_salt": "the server alone decides who shares a prefix cache",
    "prompt_embeds": "embeddings bypass the Meta-Prompt",
    "mm_processor_kwargs": "processor options are the operator's",
    "media_io_kwargs": "media options are the operator's",
    "kv_transfer_params": "cache transfer is between servers",
    "ec_transfer_params": "cache transfer is between servers",
}
"""Fields that bypass the contract, and why."""

REPETITION_PENALTIES = (0.01, 100.0)
"""Beyond these the logits overflow: the sampled token violates any grammar, and the engine aborts the request."""

MAX_SEQUENCES = 1024
"""Maximum number of sequences per request: vLLM's limit on prompts, whatever `n` is."""


def refuse_fields(request: BaseModel, allowances: Allowances) -> None:
    """Refuse what would otherwise be trusted or silently ignored.

    Raises:
        RefusedField: the message names the field and how an operator can allow it.
    """
    for name, reason in allowances.refused.items():
        if getattr(request, name, None) is not None:
            way_out = ""
            if name == "chat_template_kwargs":
                way_out = " (an operator may allow names in it with METAALIGN_ALLOW_TEMPLATE_ARGUMENTS)"
            elif name in ALLOWABLE_FIELDS:
                way_out = f" (an operator may allow it with METAALIGN_ALLOW_FIELDS={name})"
            raise RefusedField(f"{name}: {reason}; remove it{way_out}", param=name)
    _refuse_template_arguments(getattr(request, "chat_template_kwargs", None) or {}, allowances)
    if isinstance(request, (ChatRequest, MessagesRequest, CountTokensRequest)) and not request.messages:
        raise RefusedField("messages: at least one is needed", param="messages")
    n = getattr(request, "n", None)
    if n is not None and n > allowances.max_choices:
        raise RefusedField(f"n: at most {allowances.max_choices} choices per request", param="n")
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
    xargs = getattr(request, "vllm_xargs", None)
    if xargs is not None and (unknown := sorted(set(xargs) - allowances.xargs) or not allowances.xargs):
        name = f"vllm_xargs.{unknown[0]}" if isinstance(unknown, list) else "vllm_xargs"
        raise RefusedField(
            f"{name}: reaches extensions of the engine; remove it (an operator may allow names with"
            " METAALIGN_ALLOW_XARGS)",
            param="vllm_xargs",
        )
    if getattr(request, "background", None):
        raise RefusedField(
            "background: answers come while the client waits; remove it, or ask for a stream",
            param="background",
        )


def _refuse_template_arguments(arguments: Mapping[str, object], allowances: Allowances) -> None:
    """Refuse names that the operator has not allowed, and values that could write text into the prompt."""
    if "chat_template_kwargs" in allowances.fields:
        return
    for name, value in arguments.items():
        if name not in allowances.template_arguments:
            raise RefusedField(
                f"chat_template_kwargs.{name}: not among the arguments that the operator allows"
                f" ({', '.join(sorted(allowances.template_arguments))}); remove it",
                param="chat_template_kwargs",
            )
        if not isinstance(value, bool | int | float):
            raise RefusedField(
                f"chat_template_kwargs.{name}: true, false or a number; other values could write text into the prompt",
                param="chat_template_kwargs",
            )


# In a chat request, `echo` asks for the prompt's log probabilities. A count of 0 still returns those of the prompt's
# own tokens.
_DISCLOSING_FIELDS = (
    "return_token_ids",
    "return_prompt_text",
    "prompt_logprobs",
    "echo",
    "enable_response_messages",
)


def refuse_prompt_disclosure(request: BaseModel) -> None:
    """Refuse what would reveal a stored System tier to a key that may not read profiles.

    Raises:
        Refusal: 403; the message names the field.
    """
    for name in _DISCLOSING_FIELDS:
        value = getattr(request, name, None)
        if value is not None and value is not False:
            raise Refusal(
                "missing_scope",
                f"{name}: would show the provider's stored preferences; that takes the scope `profiles:read`",
                param=name,
            )


def refuse_truncation(request: BaseModel) -> None:
    """Refuse truncation of a prompt that starts with tiers: it would cut off the System tier first.

    Raises:
        RefusedField: the message names the field.
    """
    for name in ("truncate_prompt_tokens", "truncation"):
        if getattr(request, name, None) not in (None, "disabled"):
            raise RefusedField(f"{name}: would cut off preferences; send less instead", param=name)
