"""Chunks of a streamed chat answer, written as text where pydantic would be asked to build and dump the same bytes.

A chunk of one delta is by far the most frequent thing that the API process makes, and vLLM validates and dumps two
models for it. These stand in for the two classes where vLLM's handler makes chunks; whatever is not a plain delta of
text goes through the models as before. `write_chunks_as_text` compares the bytes of both before it replaces anything.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.entrypoints.openai.chat_completion import serving
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

__all__ = ["Choice", "Chunk", "Text", "write_chunks_as_text"]

_UNSET: Any = object()
_PLAIN = ({"content"}, {"role", "content"})


def _json(value: Any) -> str:
    return to_json(value).decode()


def _is_plain(delta: Any) -> bool:
    return type(delta) is DeltaMessage and delta.model_fields_set in _PLAIN and delta.content is not None


@lru_cache(maxsize=4096)
def _head(name: str, kind: str, created: int, model: str) -> str:
    """What all chunks of an answer begin with."""
    return f'{{"id":{_json(name)},"object":"{kind}","created":{created},"model":{_json(model)},"choices":['


class Text:
    """A delta of text and nothing else, where vLLM's `DeltaMessage` would be validated for each token."""

    __slots__ = ("content",)
    role = reasoning = None
    tool_calls = ()

    def __init__(self, content: str) -> None:
        self.content = content

    def model(self) -> DeltaMessage:
        """The same as vLLM's model."""
        return DeltaMessage(content=self.content)


class Choice:
    """What a chunk says of one choice; takes the fields of vLLM's model by name."""

    __slots__ = ("given",)

    def __init__(self, **given: Any) -> None:
        self.given = given

    @property
    def finish_reason(self) -> str | None:
        """Why the choice ended, in its last chunk."""
        reason: str | None = self.given["finish_reason"]
        return reason

    # vLLM drops calls beyond the first one here if the client wants no calls in parallel.
    @property
    def tool_calls(self) -> Any:
        """The calls in the delta."""
        return self.given["delta"].tool_calls

    @tool_calls.setter
    def tool_calls(self, calls: Any) -> None:
        self.given["delta"].tool_calls = calls

    def model(self) -> ChatCompletionResponseStreamChoice:
        """The same as vLLM's model."""
        delta = self.given["delta"]
        plain = delta.model() if type(delta) is Text else delta
        return ChatCompletionResponseStreamChoice(**self.given | {"delta": plain})

    def text(self) -> str | None:
        """The choice as JSON, as vLLM's model without its unset fields; None if it takes that model."""
        given = self.given
        delta = given["delta"]
        if type(delta) is not Text and not _is_plain(delta):
            return None
        if given["logprobs"] is not None or given.get("token_ids") is not None:
            return None
        role = "" if delta.role is None else f'"role":{_json(delta.role)},'
        end = "null" if given["finish_reason"] is None else _json(given["finish_reason"])
        stop = f',"stop_reason":{_json(given["stop_reason"])}' if "stop_reason" in given else ""
        ids = ',"token_ids":null' if "token_ids" in given else ""
        return (
            f'{{"index":{given["index"]},"delta":{{{role}"content":{_json(delta.content)}}}'
            f',"logprobs":null,"finish_reason":{end}{stop}{ids}}}'
        )


class Chunk:
    """One event of a stream; takes the fields of vLLM's model by name, and `usage` and `system_fingerprint` later."""

    def __init__(self, **given: Any) -> None:
        self.usage = given.pop("usage", _UNSET)
        self.system_fingerprint = given.pop("system_fingerprint", _UNSET)
        self.given = given  # what vLLM sets later besides these two is the model's affair

    def model_dump_json(self, **options: Any) -> str:
        """The chunk as JSON; takes what pydantic's method takes."""
        text = self._text() if options == {"exclude_unset": True} else None
        return text if text is not None else self._model().model_dump_json(**options)

    def _text(self) -> str | None:
        given = self.given
        choices = given["choices"]
        if len(vars(self)) != 3:
            return None
        if self.usage is not _UNSET or len(choices) != 1 or (len(given) != 5 and len(given) != 7):
            return None
        rest = ""
        if len(given) == 7:
            if (
                given.get("prompt_token_ids", _UNSET) is not None
                or given.get("prompt_text", _UNSET) is not None
            ):
                return None
            rest = ',"prompt_token_ids":null,"prompt_text":null'
        choice = choices[0].text()
        if choice is None:
            return None
        name = ""
        if self.system_fingerprint is not _UNSET:
            name = f',"system_fingerprint":{_json(self.system_fingerprint)}'
        head = _head(given["id"], given["object"], given["created"], given["model"])
        return f"{head}{choice}]{name}{rest}}}"

    def _model(self) -> ChatCompletionStreamResponse:
        given = dict(self.given)
        given["choices"] = [
            choice.model() if isinstance(choice, Choice) else choice for choice in given["choices"]
        ]
        given |= {
            name: value for name, value in vars(self).items() if name != "given" and value is not _UNSET
        }
        return ChatCompletionStreamResponse(**given)


def _dumped(chunk: Any, choice: Any) -> list[str]:
    """Chunks of all kinds that vLLM's handler makes, by these two classes."""
    text = 'Ä "quoted" \\ \n\t\x01\x7f\u2028 🦦'
    own = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "a/b"}
    deltas = [DeltaMessage(content=text), DeltaMessage(role="assistant", content=""), DeltaMessage()]
    deltas += [
        DeltaMessage(content=None),
        DeltaMessage(reasoning=text),
        DeltaMessage(content=text, tool_calls=[]),
    ]
    made = []
    for delta in deltas:
        for more in ({}, {"token_ids": None}, {"token_ids": [1]}, {"stop_reason": None, "token_ids": None}):
            one = choice(index=1, delta=delta, logprobs=None, finish_reason=None, **more)
            made.append(chunk(choices=[one], **own))
        done = choice(
            index=0, delta=delta, logprobs=None, finish_reason="stop", stop_reason=text, token_ids=None
        )
        made.append(chunk(choices=[done], **own))
        made[-1].system_fingerprint = "vllm-1"
        made.append(chunk(choices=[done], **own))
        made[-1].usage = UsageInfo(prompt_tokens=1, total_tokens=2, completion_tokens=1)
        first = {"prompt_token_ids": None, "prompt_text": None}
        made.append(
            chunk(choices=[choice(index=0, delta=delta, logprobs=None, finish_reason=None)], **own, **first)
        )
    lines: list[str] = [one.model_dump_json(exclude_unset=True) for one in made]
    last = chunk(choices=[], usage=UsageInfo(), system_fingerprint=None, metrics=None, **own)
    return [*lines, last.model_dump_json(exclude_unset=True, exclude_none=True)]


def write_chunks_as_text() -> bool:
    """Let vLLM's chat handler make chunks with these classes; return False if its own would write other bytes."""
    names = {"ChatCompletionStreamResponse": Chunk, "ChatCompletionResponseStreamChoice": Choice}
    if all(getattr(serving, name, None) is ours for name, ours in names.items()):
        return True
    try:
        same = _dumped(Chunk, Choice) == _dumped(
            serving.ChatCompletionStreamResponse, serving.ChatCompletionResponseStreamChoice
        )
    except Exception:  # noqa: BLE001 - any error: its models are not those that these stand for
        return False
    if same:
        for name, ours in names.items():
            setattr(serving, name, ours)
    return same
