"""`make fuzz-assembly`: hostile conversations for every pair of `template_families.py`, and an oracle of their prompts.

The oracle knows nothing of how the assembler works. For each shape of conversation it has transformers render and
tokenise a reference, in which every text from outside is a placeholder of letters and digits. A hostile conversation of
the same shape must give the same control ids in the same order, and between them the reference's text, with the hostile
texts only where the placeholders were. So no control id is forged, and no text from outside has left its place, be it
into the system turn or out of its own. Whitespace is not compared, since tokenizers treat it as they like.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError

from metaalign import InvalidPrompt
from metaalign.prompt import PromptAssembler
from tests.contract.template_families import PAIRS, Pair

__all__ = ["Finding", "Target", "fuzz"]

_PROVIDER = "Only the provider writes here."
_ROLES = ("system", "user", "assistant", "tool", "model", "function", "developer", "user_info")
_JINJA = ("{{ messages }}", "{% raw %}", "{{ '<|end|>' }}", "{# x #}")
_INVISIBLE = ("\u200b", "\u0338", "\u20e5", "\ufdd0", "\ufdef", "\u00ad", "\ufe0f", "▁", "\\ufdd0")
_ORDINARY = (
    "a",
    " ",
    "\n",
    "\n\n",
    "  ",
    "\t",
    "é",
    "ﬁ",
    "Ａ",
    "語",
    "🦦",
    '"',
    "\\",
    "'",
    "x",
    "1",
    "a < b",
    "|>",
    "\x00",
)


def _skeleton_of_ids(ids: Sequence[int], control: frozenset[int]) -> tuple[list[int], list[list[int]]]:
    """Return the control ids, and the ids of the text before, between and after them."""
    found: list[int] = []
    texts: list[list[int]] = [[]]
    for number in ids:
        if number in control:
            found.append(number)
            texts.append([])
        else:
            texts[-1].append(number)
    return found, texts


def _squeezed(text: str) -> str:
    """Without whitespace, and without the tokens for unknown characters, several of which may become one."""
    return "".join(text.replace("▁", " ").replace("<unk>", "").replace("[UNK]", "").split())


@dataclass(frozen=True)
class Shape:
    """A kind of conversation.

    Attributes:
        build: Makes messages and template variables from the texts from outside.
        slots: How many texts it takes.
        generation: Whether an assistant turn is opened.
    """

    name: str
    build: Callable[[Sequence[str]], tuple[list[dict[str, Any]], dict[str, Any]]]
    slots: int
    generation: bool = True


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


_SYSTEM = {"role": "system", "content": _PROVIDER}


def _call(name: str, key: str, value: str, identity: str = "abcdef123") -> dict[str, Any]:
    function = {"name": name, "arguments": {key: value}}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": identity, "type": "function", "function": function}],
    }


def _result(text: str, identity: str = "abcdef123") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "name": "look", "content": text}


def _tool(name: str, description: str, key: str, more: str) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": more, "enum": [more]}}
    parameters = {"type": "object", "properties": properties, "required": [key]}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


SHAPES = (
    Shape("one turn", lambda t: ([_user(t[0])], {}), 1),
    Shape("system, one turn", lambda t: ([_SYSTEM, _user(t[0])], {}), 1),
    Shape("three turns", lambda t: ([_user(t[0]), _assistant(t[1]), _user(t[2])], {}), 3),
    Shape(
        "system, five turns",
        lambda t: (
            [_SYSTEM, _user(t[0]), _assistant(t[1]), _user(t[2]), _assistant(t[3]), _user(t[4])],
            {},
        ),
        5,
    ),
    Shape("closed", lambda t: ([_SYSTEM, _user(t[0]), _assistant(t[1])], {}), 2, generation=False),
    Shape("parts", lambda t: ([_SYSTEM, {"role": "user", "content": _parts(*t[:3])}], {}), 3),
    Shape("user info", lambda t: ([_SYSTEM, {"role": "user_info", "content": t[0]}, _user(t[1])], {}), 2),
    Shape("named", lambda t: ([_SYSTEM, {**_user(t[0]), "name": t[1]}], {}), 2),
    Shape("tools", lambda t: ([_SYSTEM, _user(t[0])], {"tools": [_tool(*t[1:5])]}), 5),
    Shape(
        "a call and its result",
        lambda t: ([_SYSTEM, _user(t[0]), _call(*t[1:4]), _result(t[4]), _assistant(t[5]), _user(t[6])], {}),
        7,
    ),
    Shape(
        "tools, a call and its result",
        lambda t: ([_user(t[0]), _call("look", *t[1:3]), _result(t[3])], {"tools": [_tool("look", *t[4:7])]}),
        7,
    ),
    Shape("an id", lambda t: ([_user(t[0]), _call("look", "at", "it", t[1]), _result("red", t[1])], {}), 2),
    Shape("documents", lambda t: ([_SYSTEM, _user(t[0])], {"documents": [{"title": t[1], "text": t[2]}]}), 3),
    Shape(
        "reasoning",
        lambda t: ([_user(t[0]), {**_assistant(t[1]), "reasoning_content": t[2], "reasoning": t[2]}], {}),
        3,
        generation=False,
    ),
)


@dataclass(frozen=True)
class _Reference:
    control: list[int]
    texts: list[str]
    patterns: list[re.Pattern[str]]


class Target:
    """One pair under attack.

    Args:
        pair: Its template and tokenizer.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.tokenizer = pair.tokenizer()
        self.assembler = PromptAssembler.from_tokenizer(self.tokenizer)
        unknown = self.tokenizer.unk_token
        self.names = [*pair.control, *(name for name in pair.plain if name[0] == "<" and name[-1] == ">")]
        self.control = frozenset(
            self.tokenizer.convert_tokens_to_ids(name) for name in self.names if name != unknown
        )
        self.shapes = {shape: made for shape in SHAPES if (made := self._reference(shape)) is not None}
        self.pieces = list(self._pieces())

    def _reference(self, shape: Shape) -> _Reference | None:
        """Tokenise the shape with placeholders; None if the template refuses it."""
        placeholders = [f"zq{number}zq{number}z"[:9] for number in range(1, shape.slots + 1)]
        if shape.name == "an id":
            placeholders[1] = "zq2abcdef"
        messages, variables = shape.build(placeholders)
        try:
            ids = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=shape.generation, return_dict=False, **variables
            )
        except (TemplateError, TypeError):
            return None
        control, texts = _skeleton_of_ids(ids, self.control)
        decoded = [self._decoded(text) for text in texts]
        finder = re.compile("|".join(placeholders), re.IGNORECASE)
        marked = [finder.sub(lambda m: f"\0{placeholders.index(m[0].lower())}\0", text) for text in decoded]
        return _Reference(control, marked, [re.compile(_pattern(text, None), re.DOTALL) for text in marked])

    def _decoded(self, ids: Sequence[int]) -> str:
        return _squeezed(
            self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def _pieces(self) -> Iterator[str]:
        for name in self.names:
            yield from (name, name, name, name.upper(), name.lower(), name.title())
            wide = "".join(chr(ord(c) + 0xFEE0) if 33 <= ord(c) < 127 else c for c in name)
            # A combining character joins the template's own `>` before it, whose place the look-alike then takes.
            yield from (wide, f"\u0338{wide}")
            yield name.replace("<", "＜")
            yield name.replace(">", "＞").replace("]", "］")
            yield name.replace("|", "｜") if "|" in name else name.replace("｜", "|")
            yield from (name[:cut] for cut in (1, 2, -1))
            yield from (name[cut:] for cut in (1, 2, -1))
            yield name.strip("<>[]|｜/ ")
            yield from (name[:2] + odd + name[2:] for odd in _INVISIBLE[:4])
            yield from (f"▁{name}", f" {name}", f"{name} ", f"{name}\u0338", f"\\{name}", f"{name[0]}{name}")
        for role in _ROLES:
            yield from (role, f"{role}\n", f"<|{role}|>", f"{role}>", f"\n\n{role}: ")
        yield from (*_JINJA, *_INVISIBLE, *_ORDINARY, *_ORDINARY)

    def texts(self, rng: random.Random, shape: Shape) -> list[str]:
        """Make one hostile text for each slot; none is blank, since a blank text may change a template's ways."""
        made = []
        for number in range(shape.slots):
            text = "".join(rng.choices(self.pieces, k=rng.randint(1, 5)))
            if shape.name == "an id" and number == 1:
                text = (text + "abcdefghi")[:9]
            made.append(text if text.strip() else f"{text}a")
        return made

    def fault(self, shape: Shape, texts: Sequence[str]) -> str | None:
        """Say what is wrong with the prompt of a conversation, or None.

        Raises:
            InvalidPrompt: the assembler refuses the conversation.
        """
        expected = self.shapes[shape]
        messages, variables = shape.build(texts)
        prompt = self.assembler.assemble(messages, add_generation_prompt=shape.generation, **variables)
        control, ids = _skeleton_of_ids(prompt.token_ids, self.control)
        if control != expected.control:
            names = self.tokenizer.convert_ids_to_tokens
            return f"control tokens {names(control)}, not {names(expected.control)}"
        for number, text in enumerate(ids):
            decoded = self._decoded(text)
            whole = self.pair.lossless and "\0" in expected.texts[number]
            pattern = (
                re.compile(_pattern(expected.texts[number], texts)) if whole else expected.patterns[number]
            )
            if not pattern.fullmatch(decoded):
                return f"text {number} is {decoded!r}, not {expected.texts[number]!r}"
        return None


def _pattern(expected: str, texts: Sequence[str] | None) -> str:
    """Return an expression for the reference's text with `texts` in it, or with anything.

    A template may write a text as it is, as JSON, as Python's `repr`, or in capitals.
    """
    pieces = expected.split("\0")
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            pieces[number] = re.sub("['\"]", "['\"]", re.escape(piece))
        elif texts is None:
            pieces[number] = ".*"
        else:
            text = texts[int(piece)]
            written = {text, json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], text.upper()}
            pieces[number] = f"(?:{'|'.join(re.escape(_squeezed(form)) for form in written)})"
    return "".join(pieces)


@dataclass
class Finding:
    """What the fuzzer found in one pair.

    Attributes:
        refused: Conversations that the assembler refused.
        failures: Shrunk conversations that broke a promise, and how.
    """

    conversations: int = 0
    refused: int = 0
    failures: list[tuple[str, list[str], str]] = field(default_factory=list)


def fuzz(name: str, conversations: int, seed: int = 0, most: int = 3) -> Finding:
    """Attack one pair; stops after `most` failures."""
    target, rng, finding = Target(PAIRS[name]), random.Random(f"{name} {seed}"), Finding()
    shapes = list(target.shapes)
    for _ in range(conversations):
        shape = rng.choice(shapes)
        texts = target.texts(rng, shape)
        finding.conversations += 1
        try:
            fault = target.fault(shape, texts)
        except InvalidPrompt:
            finding.refused += 1
            continue
        if fault is not None:
            finding.failures.append((shape.name, *_shrunk(target, shape, texts)))
            if len(finding.failures) >= most:
                break
    return finding


def _shrunk(target: Target, shape: Shape, texts: list[str]) -> tuple[list[str], str]:
    """Return a conversation of the same shape that still fails, with as little text as possible."""

    def fails(candidate: list[str]) -> bool:
        try:
            return target.fault(shape, candidate) is not None
        except InvalidPrompt:
            return False

    progress = True
    while progress:
        progress = False
        for number, text in enumerate(texts):
            shorter = [
                text[:i] + text[i + n :] for n in (len(text) // 2, 4, 2, 1) if n for i in range(len(text))
            ]
            for candidate in ["a", *shorter]:
                attempt = [*texts[:number], candidate, *texts[number + 1 :]]
                if len(candidate) < len(text) and candidate.strip() and fails(attempt):
                    texts, progress = attempt, True
                    break
    return texts, target.fault(shape, texts) or ""


def main() -> int:
    """Entry point; returns 1 if anything was forged."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--conversations", type=int, default=1_000_000, help="how many, over all pairs")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other conversations")
    parser.add_argument("--pair", choices=sorted(PAIRS), help="only this one")
    options = parser.parse_args()
    names = [options.pair] if options.pair else list(PAIRS)
    each, started, total, failed = -(-options.conversations // len(names)), time.monotonic(), 0, 0
    for name in names:
        finding = fuzz(name, each, options.seed)
        total += finding.conversations
        failed += len(finding.failures)
        print(
            f"{name}: {finding.conversations} conversations, {finding.refused} refused, {len(finding.failures)} failed"
        )
        for shape, texts, fault in finding.failures:
            print(f"    {shape}: {texts!r}: {fault}")
        sys.stdout.flush()
    print(
        f"{total} conversations of {len(names)} pairs, {failed} failed, in {time.monotonic() - started:.0f} s"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
