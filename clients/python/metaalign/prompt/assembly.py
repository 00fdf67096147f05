"""Injection-proof assembly: a conversation becomes token ids in which no outside text is a control token.

A chat template mixes its own control strings (`<|user|>`) with text from outside. Tokenising the rendered string
turns every control string in it into a control id, whoever wrote it. This module keeps the two apart:

1. *Outside text* is every string of the conversation, the tools and the documents. A control string in the rendered
   prompt can involve outside text only if it starts in it, ends in it, or contains a whole piece of it. If no piece has
   the first or last character of any control string and none is a fragment of one, the rendered string is safe and is
   tokenised as transformers would.
2. Otherwise, the conversation is rendered again with a noncharacter (U+FDD0…U+FDEF) inserted into the outside text so
   that no control string can touch it. The control strings that remain are the template's own. If the plain rendering
   has exactly as many, the text was harmless (`a < b`), and the plain rendering is tokenised as in step 1.
3. Otherwise, the prompt is cut at the template's own control strings; these become control ids, and the text between
   them is tokenised by a copy of the tokenizer that has no control tokens.

In every case, the number of control ids is compared with the number of the template's control strings, which also
catches a tokenizer that normalises look-alikes into control strings. Without control strings in outside text, the ids
therefore equal those of `transformers.apply_chat_template`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from metaalign.errors import InvalidPrompt, InvalidTemplate
from metaalign.prompt.rendering import MetaPrompt, fold
from metaalign.prompt.template import ChatTemplate

__all__ = ["Prompt", "PromptAssembler", "TextEncoder"]

_NONCHARACTERS = [chr(c) for c in range(0xFDD0, 0xFDF0)]
_KNOWN_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function", "user_info"})
_ROLE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Keys that templates look up by name. Any other key of a message or a tool is outside text.
_STRUCTURAL_KEYS = frozenset(
    "additionalProperties anyOf arguments content default description documents enum function id items"
    " name parameters properties reasoning reasoning_content required role strict text title tool_call_id"
    " tool_calls type".split()
)


class TextEncoder(Protocol):
    """What the assembler needs from a `tokenizers.Tokenizer`."""

    def encode_batch_fast(self, input: list[str], *, add_special_tokens: bool = True) -> Any: ...
    def to_str(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt ready for the engine.

    Attributes:
        text: The rendered prompt, as a person reads it.
        token_ids: Its ids.
        cut: Whether step 3 was needed: some outside text spelled a control string.
    """

    text: str
    token_ids: tuple[int, ...]
    cut: bool = False


def _is_markup(content: str) -> bool:
    """Return whether an added token that is not flagged special is still a delimiter (`<tool_call>`, `[INST]`)."""
    return len(content) > 2 and content[0] in "<[{|" and content[-1] in ">]}|"


def _unknown_token(model: Mapping[str, Any]) -> str | None:
    """Return the token for characters outside the vocabulary: it is special, but any text may contain it."""
    if (token := model.get("unk_token")) is not None:
        return str(token)
    unknown_id = model.get("unk_id")
    return None if unknown_id is None else str(model["vocab"][unknown_id][0])


def _leaves(value: object, key: str | None = None) -> Iterator[str]:
    if isinstance(value, str):
        if not (key == "role" and value in _KNOWN_ROLES):
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _STRUCTURAL_KEYS:
                yield str(name)
            yield from _leaves(item, name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item, key)


class _Marker:
    """Inserts `mark` into outside text: inside both ends, and after each character that can start a control string."""

    def __init__(self, mark: str, first_characters: str) -> None:
        self._mark = mark
        self._firsts = re.compile(f"([{re.escape(first_characters)}])")

    def text(self, text: str) -> str:
        core = text.strip()
        if not core:
            return text
        start = text.index(core)
        marked = self._mark + self._firsts.sub(rf"\1{self._mark}", core) + self._mark
        return text[:start] + marked + text[start + len(core) :]

    def value(self, value: Any, key: str | None = None) -> Any:
        if isinstance(value, str):
            if key == "role":
                return value if value in _KNOWN_ROLES else value[0] + self._mark + value[1:]
            if key == "type" and not self._firsts.search(value):
                return value
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                (name if name in _STRUCTURAL_KEYS else self.text(str(name))): self.value(item, name)
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(item, key) for item in value]
        return value


class PromptAssembler:
    """Renders and tokenises conversations for one checkpoint.

    Args:
        template: The checkpoint's chat template.
        encoder: The checkpoint's `tokenizers.Tokenizer`; it is copied, so the original may be changed later.

    Raises:
        InvalidTemplate: the tokenizer lacks a control token that the packaged template writes.
    """

    def __init__(self, template: ChatTemplate, encoder: TextEncoder) -> None:
        self.template = template
        state = json.loads(encoder.to_str())
        state["truncation"] = state["padding"] = None
        load: Any = type(encoder).from_str  # type: ignore[attr-defined]
        self._encoder: TextEncoder = load(json.dumps(state))
        added = {t["content"]: t for t in state["added_tokens"]}
        unknown = _unknown_token(state["model"])
        self.control: dict[str, int] = {
            content: token["id"]
            for content, token in added.items()
            if (token["special"] or _is_markup(content)) and content != unknown
        }
        state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in self.control]
        state["post_processor"] = None
        self._text_encoder: TextEncoder = load(json.dumps(state))
        self._control_ids = frozenset(self.control.values())
        names = sorted(self.control, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._firsts = "".join(sorted({name[0] for name in names})) or "\0"
        edges = "".join(sorted({name[0] for name in names} | {name[-1] for name in names})) or "\0"
        self._edges = re.compile(f"[{re.escape(edges)}]")
        self._names = "\0".join(names)
        self._accepts_system = self._probe_system_role()
        self.cuttable = self._probe_cut()

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, template: ChatTemplate | None = None) -> Self:
        """Build from a transformers fast tokenizer, with its own chat template unless another is given.

        Raises:
            InvalidTemplate: it has no chat template, or it is a slow tokenizer.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InvalidTemplate("tokenizer: only fast tokenizers (tokenizer.json) can be assembled safely")
        if template is None:
            if not isinstance(tokenizer.chat_template, str):
                raise InvalidTemplate("tokenizer: the checkpoint has no chat template (chat_template.jinja)")
            special = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
            template = ChatTemplate(tokenizer.chat_template, special)
        return cls(template, backend)

    def _probe_system_role(self) -> bool:
        try:
            text = self.template.render(
                [{"role": "system", "content": "probe"}, {"role": "user", "content": "hi"}]
            )
        except InvalidPrompt:
            return False
        return "probe" in text

    def _probe_cut(self) -> bool:
        """Return whether tiers and dialogue can be rendered and tokenised apart, which allows caching the tiers."""
        if not self.template.knows_user_info:
            return False
        tiers = [{"role": "system", "content": " a"}, {"role": "user_info", "content": "b "}]
        dialogue = [
            {"role": "user", "content": " c"},
            {"role": "assistant", "content": "d"},
            {"role": "user", "content": "e"},
        ]
        for head in (tiers, tiers[:1], tiers[1:]):
            before, after = self._render(head, {}), self._render(dialogue, {}, add_generation_prompt=True)
            whole = self._render(head + dialogue, {}, add_generation_prompt=True)
            if before + after != whole or not any(before.endswith(name) for name in self.control):
                return False
            if self._stock(before, False) + self._stock(after, False) != self._stock(whole, False):
                return False
        return True

    # --- tiers -----------------------------------------------------------------------------------------------

    def tier_messages(self, meta_prompt: MetaPrompt) -> list[dict[str, str]]:
        """Return the Meta-Prompt as leading messages for this checkpoint's template.

        Raises:
            InvalidPrompt: the template has neither a User Info tier nor a system role.
        """
        if meta_prompt.empty:
            return []
        if self.template.knows_user_info:
            return meta_prompt.messages()
        if not self._accepts_system:
            raise InvalidPrompt(
                "preferences: this checkpoint's chat template takes no system message, so they cannot be applied",
                param="preferences",
            )
        return [{"role": "system", "content": fold(meta_prompt)}]

    def count(self, text: str) -> int:
        """Return the number of tokens of `text` as outside text."""
        return len(self._text_ids(text))

    # --- prompts ---------------------------------------------------------------------------------------------

    def assemble(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        add_special_tokens: bool = False,
        **variables: Any,
    ) -> Prompt:
        """Render `messages` and tokenise the result.

        Args:
            messages: Chat messages; `content` is text or a list of text parts.
            add_generation_prompt: Open an assistant turn at the end.
            continue_final_message: Leave the last message open instead.
            add_special_tokens: Let the tokenizer add its BOS and EOS to what the template writes.
            **variables: Further template variables, such as `tools`; their strings are outside text.

        Raises:
            InvalidPrompt: the template refuses the conversation, or a text is not Unicode.
        """
        flags = {
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
        }
        for message in messages:
            role = message.get("role")
            if role not in _KNOWN_ROLES and not (isinstance(role, str) and _ROLE.fullmatch(role)):
                raise InvalidPrompt("messages: a role must match [A-Za-z0-9_.-]{1,64}", param="messages")
        leaves = [*_leaves(messages), *_leaves(list(variables.values()))]
        plain = self._render(messages, variables, **flags)
        ours = self._control_count(plain)
        if any(self._is_risky(leaf) for leaf in leaves):
            mark = self._unused_mark(leaves)
            marker = _Marker(mark, self._firsts)
            marked_variables = {name: marker.value(value, name) for name, value in variables.items()}
            marked = self._render(marker.value(list(messages)), marked_variables, **flags)
            kept = self._control_count(marked)
            if kept != ours:
                return self._cut(marked, mark)
            ours = kept
        token_ids = self._stock(plain, add_special_tokens)
        extra = self._control_in(self._stock("", True)) if add_special_tokens else 0
        if self._control_in(token_ids) != ours + extra:
            # The tokenizer created control ids itself, for example by normalising full-width look-alikes.
            return self._cut(plain, mark="")
        return Prompt(plain, tuple(token_ids))

    def encode_text(self, text: str, *, control: bool) -> list[int]:
        """Return the ids of raw text; control strings become control tokens only if `control` is true."""
        return self._stock(text, True) if control else self._text_ids(text)

    def has_control(self, token_ids: Sequence[int]) -> bool:
        """Return whether any id is a control token."""
        return not self._control_ids.isdisjoint(token_ids)

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
    ) -> str:
        text = self.template.render(messages, add_generation_prompt=add_generation_prompt, **variables)
        return _open_end(text, messages) if continue_final_message else text

    def _is_risky(self, leaf: str) -> bool:
        return self._edges.search(leaf) is not None or (bool(core := leaf.strip()) and core in self._names)

    def _control_count(self, text: str) -> int:
        return sum(1 for _ in self._controls.finditer(text))

    def _control_in(self, token_ids: Sequence[int]) -> int:
        return sum(map(self._control_ids.__contains__, token_ids))

    @staticmethod
    def _unused_mark(leaves: Sequence[str]) -> str:
        for mark in _NONCHARACTERS:
            if not any(mark in leaf for leaf in leaves):
                return mark
        raise InvalidPrompt(
            "messages: text uses every Unicode noncharacter of U+FDD0…U+FDEF", param="messages"
        )

    def _cut(self, marked: str, mark: str) -> Prompt:
        token_ids: list[int] = []
        position = 0
        for match in self._controls.finditer(marked):
            token_ids.extend(self._text_ids(marked[position : match.start()].replace(mark, "")))
            token_ids.append(self.control[match.group()])
            position = match.end()
        token_ids.extend(self._text_ids(marked[position:].replace(mark, "")))
        return Prompt(marked.replace(mark, ""), tuple(token_ids), cut=True)

    def _stock(self, text: str, add_special_tokens: bool) -> list[int]:
        return self._encode(self._encoder, text, add_special_tokens)

    def _text_ids(self, text: str) -> list[int]:
        token_ids = self._encode(self._text_encoder, text, False)
        if not self.has_control(token_ids):
            return token_ids
        # The model's own vocabulary contains a control token (a SentencePiece piece "<s>"): encode letter by letter.
        letters = [i for c in text for i in self._encode(self._text_encoder, c, False)]
        if self.has_control(letters):
            raise InvalidPrompt(
                "messages: a text cannot be tokenised without control tokens", param="messages"
            )
        return letters

    @staticmethod
    def _encode(encoder: TextEncoder, text: str, add_special_tokens: bool) -> list[int]:
        try:
            # Unlike `encode`, it skips offsets, which are half of the work, and lets other threads run meanwhile.
            ids: list[int] = encoder.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        except (TypeError, UnicodeEncodeError) as error:
            raise InvalidPrompt(
                "messages: text must be valid Unicode without lone surrogates", param="messages"
            ) from error
        return ids


def _open_end(text: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """Cut `text` right after the last message's content, as transformers' `continue_final_message` does."""
    content = messages[-1].get("content") if messages else None
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = parts[-1] if parts else None
    if not isinstance(content, str) or not (core := content.strip()) or core not in text:
        raise InvalidPrompt(
            "messages: the final message has no text that could be continued", param="messages"
        )
    start = text.rindex(core)
    whole = content.lstrip()
    return (
        text[: start + len(whole)] if text[start : start + len(whole)] == whole else text[: start + len(core)]
    )
