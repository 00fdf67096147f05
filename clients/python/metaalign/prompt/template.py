"""Chat templates, compiled in the same sandboxed dialect as `transformers.apply_chat_template`.

A template comes from a checkpoint, never from a request. It runs in Jinja's immutable sandbox with bounds on its size
and on string repetition, because a checkpoint may have been downloaded from anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from importlib import resources
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from metaalign.errors import InvalidPrompt, InvalidTemplate
from metaalign.receipt import TemplateReference

__all__ = [
    "CONTROL_TOKENS",
    "END_TOKEN",
    "PAD_TOKEN",
    "TOOL_CALL_TOKENS",
    "ChatTemplate",
    "packaged_template",
]

END_TOKEN = "<|end|>"
PAD_TOKEN = "<|endoftext|>"
TOOL_CALL_TOKENS = ("<tool_call>", "</tool_call>")
CONTROL_TOKENS = (
    PAD_TOKEN,
    END_TOKEN,
    "<|system_info|>",
    "<|user_info|>",
    "<|tools|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    *TOOL_CALL_TOKENS,
)
"""Control tokens of the packaged template, in the order of their ids in our checkpoints' tokenizers."""

MAX_SOURCE = 256 * 1024
MAX_REPEAT = 1_000_000


class _Generation(jinja2.ext.Extension):
    """Accepts transformers' `{% generation %}` blocks, which mark text without changing it."""

    tags = {"generation"}  # noqa: RUF012  (as the base class declares it)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        for sequence, factor in ((left, right), (right, left)):
            if (
                isinstance(sequence, (str, list, tuple))
                and isinstance(factor, int)
                and len(sequence) * factor > MAX_REPEAT
            ):
                raise jinja2.exceptions.SecurityError(f"repetition beyond {MAX_REPEAT} elements")
        if operator == "**" and (abs(left) > 1024 or abs(right) > 64):
            raise jinja2.exceptions.SecurityError("power out of bounds")
        return super().call_binop(context, operator, left, right)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _environment() -> jinja2.Environment:
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja source as the checkpoint ships it.
        special_tokens: `bos_token`, `eos_token`, … as named by the tokenizer; templates may print them.

    Raises:
        InvalidTemplate: the source is too large or does not compile.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        if len(source) > MAX_SOURCE:
            raise InvalidTemplate(
                f"chat template: {len(source)} characters; at most {MAX_SOURCE} are accepted"
            )
        self.source = source
        self.special_tokens = dict(special_tokens or {})
        self.sha256 = hashlib.sha256(source.encode("utf-8")).hexdigest()
        try:
            self._compiled = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise InvalidTemplate(f"chat template: does not compile: {error}") from error

    @cached_property
    def reference(self) -> TemplateReference:
        """Name and version from the first line (`metaalign-template: name/version`), and the hash."""
        first_line = self.source.split("\n", 1)[0]
        marker = "metaalign-template: "
        if marker in first_line:
            name, _, version = first_line.split(marker, 1)[1].split(".")[0].partition("/")
            return TemplateReference(name=name, version=version, sha256=self.sha256)
        return TemplateReference(name="checkpoint", version="0", sha256=self.sha256)

    @property
    def knows_user_info(self) -> bool:
        """Whether the template has a User Info tier of its own."""
        return "user_info" in self.source

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """Render `messages`.

        Raises:
            InvalidPrompt: the template refuses the conversation (for example two user turns in a row).
        """
        try:
            return self._compiled.render(messages=messages, **self.special_tokens, **variables)
        except jinja2.exceptions.SecurityError as error:
            raise InvalidPrompt(
                "messages: the checkpoint's chat template did something unsafe", param="messages"
            ) from error
        except jinja2.TemplateError as error:
            raise InvalidPrompt(
                f"messages: the checkpoint's chat template refuses this conversation: {error}",
                param="messages",
            ) from error
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise InvalidPrompt(
                "messages: the checkpoint's chat template cannot render this conversation", param="messages"
            ) from error


def packaged_template() -> ChatTemplate:
    """Return the three-tier template that our checkpoints ship as `chat_template.jinja`."""
    source = resources.files("metaalign.prompt").joinpath("chat_template.jinja").read_text(encoding="utf-8")
    return ChatTemplate(source, {"eos_token": END_TOKEN, "pad_token": PAD_TOKEN})
