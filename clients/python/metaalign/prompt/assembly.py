"""Injection-proof assembly: a conversation becomes token ids in which no outside text is a control token.

A chat template mixes its own control strings (`<|user|>`) with text from outside. Tokenising the rendered string
turns every control string in it into a control id, whoever wrote it. This module keeps the two apart:

1. *Outside text* is every string of the conversation, the tools and the documents. A control string in the rendered
   prompt can involve outside text only if it starts in it, ends in it, or contains a whole piece of it. If no piece has
   the first or last character of any control string and none is a fragment of one, all control strings of the rendered
   string are the template's own.
2. Otherwise, the conversation is rendered again with a noncharacter (U+FDD0…U+FDEF) inserted into the pieces that are
   at risk, so that no control string can touch them: the control strings that remain are the template's own. If both
   renderings, cut at their control strings, are the same text but for the marks, the text was harmless (`a < b`).
   Otherwise a text spelled a control string, or the template looked for one in it, and the marked rendering is cut.
3. A rendered string that is not cut is tokenised as transformers would. The control ids must then be those of the
   template's own control strings, in their order and where they stand; a tokenizer that normalises look-alikes into
   control strings gives others, and the rendering is cut.
4. *To cut* a rendering is to turn the template's own control strings into their ids, and to tokenise the text between
   them with a copy of the tokenizer that has no control tokens.

Without control strings in outside text, the ids therefore equal those of `transformers.apply_chat_template`. This holds
only where the template's control strings are control tokens: the assembler refuses a tokenizer that does not recognise
them where they stand, and `turns.py` finds roles that are marked by ordinary text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, Self

from metaalign.errors import InvalidPrompt, InvalidTemplate
from metaalign.prompt.marking import Risk, leaves_of, unused_characters, without
from metaalign.prompt.rendering import MetaPrompt, fold
from metaalign.prompt.template import ChatTemplate
from metaalign.prompt.turns import ROLES, find_turns, probe_conversations

__all__ = ["Prompt", "PromptAssembler", "TextEncoder"]


class TextEncoder(Protocol):
    """What the assembler needs from a `tokenizers.Tokenizer`."""

    def encode(self, sequence: str, *, add_special_tokens: bool = True) -> Any: ...
    def encode_batch_fast(self, input: list[str], *, add_special_tokens: bool = True) -> Any: ...
    def to_str(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt ready for the engine.

    Attributes:
        text: The rendered prompt, as a person reads it.
        token_ids: Its ids.
        cut: Whether step 4 was needed: some outside text spelled a control string, or looked like one.
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


def _is_literal(control: Sequence[Mapping[str, Any]], state: Mapping[str, Any]) -> bool:
    """Return whether the tokenizer finds every control string where it is spelled, and nowhere else.

    It looks for tokens that are not `normalized` in the text as it is, and takes the leftmost, then the longest. Its
    control ids are then in place if they are the right ones: none can be missing.
    """
    names = {token["content"] for token in control}
    others = [token["content"] for token in state["added_tokens"] if token["content"] not in names]
    return (
        not any(token["single_word"] for token in control)
        and not (state["normalizer"] and any(token["normalized"] for token in control))
        and len({token["normalized"] for token in control}) <= 1
        and not any(_overlap(name, other) for name in names for other in others)
    )


def _overlap(one: str, other: str) -> bool:
    """Return whether the two can share characters of a text."""
    return (
        one in other
        or other in one
        or any(
            one.endswith(other[:n]) or other.endswith(one[:n]) for n in range(1, min(len(one), len(other)))
        )
    )


class PromptAssembler:
    """Renders and tokenises conversations for one checkpoint.

    Args:
        template: The checkpoint's chat template.
        encoder: The checkpoint's `tokenizers.Tokenizer`; it is copied, so the original may be changed later.

    Attributes:
        control: The control strings and their ids.
        cuttable: Whether tiers and dialogue can be rendered and tokenised apart, which allows caching the tiers.
        text_marker: Ordinary text that alone separates two roles, so that every text can write it; None if control
            tokens separate all roles.
        system_sources: Roles and template variables whose text the template writes into its system turn.

    Raises:
        InvalidTemplate: the tokenizer does not recognise a control string where the template writes it.
    """

    def __init__(self, template: ChatTemplate, encoder: TextEncoder) -> None:
        self.template = template
        state = json.loads(encoder.to_str())
        state["truncation"] = state["padding"] = None
        load: Any = type(encoder).from_str  # type: ignore[attr-defined]
        self._encoder: TextEncoder = load(json.dumps(state))
        unknown = _unknown_token(state["model"])
        if unknown is not None and self._writes(unknown):
            unknown = None
        control = [
            token
            for token in state["added_tokens"]
            if (token["special"] or _is_markup(token["content"])) and token["content"] != unknown
        ]
        self.control: dict[str, int] = {token["content"]: token["id"] for token in control}
        self._literal = _is_literal(control, state)
        state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in self.control]
        state["post_processor"] = None
        self._text_encoder: TextEncoder = load(json.dumps(state))
        self._control_ids = frozenset(self.control.values())
        names = sorted(self.control, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._split = re.compile(f"({self._controls.pattern})").split
        self._risk = Risk(names)
        self._around = self._probe_special_tokens()
        self._probe_recognition()
        turns = find_turns(self.template.render, self._controls)
        self._accepts_system = turns.accepts_system
        self.text_marker = turns.text_marker
        self.system_sources = turns.system_sources
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

    def _writes(self, token: str) -> bool:
        source = self.template.source
        return token in source or any(
            text == token and name in source for name, text in self.template.special_tokens.items()
        )

    def _probe_special_tokens(self) -> tuple[list[int], list[int]]:
        """Return what the tokenizer adds before and after every text, if it is asked to."""
        bare = self._encode(self._encoder, "a")
        whole = self._encode(self._encoder, "a", add_special_tokens=True)
        start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        return whole[:start], whole[start + len(bare) :]

    def _probe_recognition(self) -> None:
        """Check that the tokenizer makes the template's control strings, where they stand, into control tokens.

        Raises:
            InvalidTemplate: it does not: what the template writes there is ordinary text to the model.
        """
        for messages, variables in probe_conversations():
            try:
                text = self.template.render(messages, **variables)
            except InvalidPrompt:
                continue
            found = self._located(self._encode_in_place(text))
            for own in self._controls.finditer(text):
                if not any(start <= own.start() and own.end() <= end for _, start, end in found):
                    raise InvalidTemplate(
                        f"tokenizer: does not recognise {own.group()!r} where the chat template writes it; in"
                        " tokenizer.json, set `normalized` and `single_word` of this token to false, and remove added"
                        " tokens that overlap it"
                    )

    def _probe_cut(self) -> bool:
        if not self.template.knows_user_info:
            return False
        tiers = [{"role": "system", "content": " a"}, {"role": "user_info", "content": "b "}]
        dialogue = [
            {"role": "user", "content": " c"},
            {"role": "assistant", "content": "d"},
            {"role": "user", "content": "e"},
        ]
        for head in (tiers, tiers[:1], tiers[1:]):
            opened = {"add_generation_prompt": True}
            before, after = self._render(head, {}), self._render(dialogue, opened)
            whole = self._render(head + dialogue, opened)
            if before + after != whole or not any(before.endswith(name) for name in self.control):
                return False
            ids = [self._encode(self._encoder, text) for text in (before, after, whole)]
            if ids[0] + ids[1] != ids[2]:
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
        for message in messages:
            role = message.get("role")
            if not isinstance(role, str) or role not in ROLES:
                raise InvalidPrompt(
                    f"messages: a role must be exactly one of {', '.join(sorted(ROLES))}", param="messages"
                )
        leaves = [*leaves_of(messages), *leaves_of(list(variables.values()))]
        at_risk = any(map(self._risk.of, leaves))
        mark, tag = unused_characters(leaves) if at_risk or continue_final_message else ("", "")
        open_end = tag if continue_final_message else ""
        variables["add_generation_prompt"] = add_generation_prompt
        text = self._render(messages, variables, open_end)
        pieces = own = self._split(text)
        if at_risk:
            marked = {name: self._risk.mark(value, mark, name) for name, value in variables.items()}
            own = self._split(self._render(self._risk.mark(list(messages), mark), marked, open_end))
            own = [without(mark, piece) for piece in own]
        token_ids = self._tokenise(text, pieces) if own == pieces else None
        cut = token_ids is None
        if token_ids is None:
            text, token_ids = "".join(own), self._cut_ids(own)
        if add_special_tokens:
            token_ids = [*self._around[0], *token_ids, *self._around[1]]
        return Prompt(text, tuple(token_ids), cut)

    def encode_text(self, text: str, *, control: bool) -> list[int]:
        """Return the ids of raw text; control strings become control tokens only if `control` is true."""
        return self._encode(self._encoder, text, add_special_tokens=True) if control else self._text_ids(text)

    def has_control(self, token_ids: Sequence[int]) -> bool:
        """Return whether any id is a control token."""
        return not self._control_ids.isdisjoint(token_ids)

    def _render(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], tag: str = ""
    ) -> str:
        """Render; a `tag` leaves the last message open, and is a character that occurs nowhere else."""
        if not tag:
            return self.template.render(messages, **variables)
        return _open_end(self.template.render(_tagged(messages, tag), **variables), tag)

    def _tokenise(self, text: str, pieces: Sequence[str]) -> list[int] | None:
        """Return the ids that the tokenizer gives, or None if their control ids are not those of `pieces`, in place.

        Args:
            text: A rendered prompt.
            pieces: The same, as text, control string, text, …
        """
        own = [self.control[piece] for piece in pieces[1::2]]
        if self._literal:
            token_ids = self._encode(self._encoder, text)
            return token_ids if [i for i in token_ids if i in self._control_ids] == own else None
        encoding = self._encode_in_place(text)
        ends = list(accumulate(map(len, pieces)))
        spans = zip(own, ends[0::2], ends[1::2], strict=False)
        located = self._located(encoding)
        if len(located) != len(own) or any(
            number != expected or begin > start or end < stop
            for (number, begin, end), (expected, start, stop) in zip(located, spans, strict=True)
        ):
            return None
        ids: list[int] = encoding.ids
        return ids

    def _located(self, encoding: Any) -> list[tuple[int, int, int]]:
        """Return the control ids of an encoding, each with the first and last character (exclusive) it stands for."""
        return [
            (number, *offsets)
            for number, offsets in zip(encoding.ids, encoding.offsets, strict=True)
            if number in self._control_ids
        ]

    def _cut_ids(self, pieces: Sequence[str]) -> list[int]:
        """Return the ids of text, control string, text, …"""
        token_ids: list[int] = []
        for number, piece in enumerate(pieces):
            if number % 2:
                token_ids.append(self.control[piece])
            elif piece:
                token_ids.extend(self._text_ids(piece))
        return token_ids

    def _text_ids(self, text: str) -> list[int]:
        token_ids = self._encode(self._text_encoder, text)
        if not self.has_control(token_ids):
            return token_ids
        # The model's own vocabulary contains a control token (a SentencePiece piece "<s>"): encode letter by letter.
        letters = [i for c in text for i in self._encode(self._text_encoder, c)]
        if self.has_control(letters):
            raise InvalidPrompt(
                "messages: a text cannot be tokenised without control tokens", param="messages"
            )
        return letters

    @staticmethod
    def _encode(encoder: TextEncoder, text: str, *, add_special_tokens: bool = False) -> list[int]:
        try:
            # Unlike `encode`, it skips offsets, which are half of the work, and lets other threads run meanwhile.
            ids: list[int] = encoder.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        except (TypeError, UnicodeEncodeError) as error:
            raise _not_unicode() from error
        return ids

    def _encode_in_place(self, text: str) -> Any:
        try:
            return self._encoder.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError) as error:
            raise _not_unicode() from error


def _not_unicode() -> InvalidPrompt:
    return InvalidPrompt("messages: text must be valid Unicode without lone surrogates", param="messages")


def _tagged(messages: Sequence[Mapping[str, Any]], tag: str) -> list[Mapping[str, Any]]:
    """Return `messages` with `tag` and a blank behind the last message's text.

    Raises:
        InvalidPrompt: it has none.
    """
    last = messages[-1] if messages else {}
    content = last.get("content")
    if isinstance(content, str) and content.strip():
        return [*messages[:-1], {**last, "content": f"{content}{tag} "}]
    part = content[-1] if isinstance(content, list) and content else None
    text = part.get("text") if isinstance(part, Mapping) else part
    if not isinstance(content, list) or not isinstance(text, str) or not text.strip():
        raise InvalidPrompt(
            "messages: the final message has no text that could be continued", param="messages"
        )
    tagged = {**part, "text": f"{text}{tag} "} if isinstance(part, Mapping) else f"{text}{tag} "
    return [*messages[:-1], {**last, "content": [*content[:-1], tagged]}]


def _open_end(text: str, tag: str) -> str:
    """Cut `text` at the tag; if the template has trimmed the text before it, so that it ends there, trim it too.

    Raises:
        InvalidPrompt: the template does not show the last message's text.
    """
    before, found, after = text.rpartition(tag)
    if not found:
        raise InvalidPrompt(
            "messages: the chat template does not show the final message's text, so it cannot be continued",
            param="messages",
        )
    return before if after.startswith(" ") else before.rstrip()
