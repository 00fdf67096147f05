"""Styles of Python code that ManyIH asks for (JHU-CLSP), as its instructions describe them.

The checkers that the authors publish were not at hand, so unusual code may be judged otherwise there. Variables are all
names that are assigned to and all parameters; `_`, `self` and `cls` are free.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

__all__ = ["STYLES", "Code"]

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_ARITHMETIC = frozenset(("+", "-", "*", "/", "//", "%", "**", "@", "|", "&", "^", "<<", ">>"))
_COMPARISON = frozenset(("==", "!=", "<", ">", "<=", ">="))
_ASSIGNMENT = frozenset(
    ("=", ":=", "+=", "-=", "*=", "/=", "//=", "%=", "**=", "@=", "|=", "&=", "^=", "<<=", ">>=")
)
_CONSONANTS = frozenset("bcdfghjklmnpqrstvwxyz")


@dataclass(frozen=True)
class Code:
    """Source text, parsed once.

    Raises:
        SyntaxError: it is no Python.
    """

    text: str

    def __post_init__(self) -> None:
        _ = self.tree  # parse now, so that what is no Python never becomes code

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        """All tokens."""
        try:
            return list(tokenize.generate_tokens(io.StringIO(self.text).readline))
        except tokenize.TokenError as error:
            raise SyntaxError(str(error)) from error

    @cached_property
    def functions(self) -> list[_Function]:
        """All functions, inner ones included."""
        return [n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]

    @cached_property
    def names(self) -> list[str]:
        """Variables and parameters."""
        stored = [
            n.id for n in ast.walk(self.tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        ]
        given = [n.arg for n in ast.walk(self.tree) if isinstance(n, ast.arg)]
        return [name for name in (*stored, *given) if name not in ("_", "self", "cls")]

    @cached_property
    def documented(self) -> list[ast.Constant]:
        """Docstrings of modules, classes and functions."""
        holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        first = [n.body[0] for n in ast.walk(self.tree) if isinstance(n, holders) and n.body]
        return [
            s.value
            for s in first
            if isinstance(s, ast.Expr)
            and isinstance(s.value, ast.Constant)
            and isinstance(s.value.value, str)
        ]

    def strings(self, *, docstrings: bool) -> Iterator[str]:
        """The opening quotes of all docstrings, or of all other strings."""
        starts = {(d.lineno, d.col_offset) for d in self.documented}
        fstring = getattr(tokenize, "FSTRING_START", tokenize.STRING)  # a token of its own since Python 3.12
        for token in self.tokens:
            if token.type in (tokenize.STRING, fstring) and (token.start in starts) == docstrings:
                bare = token.string.lstrip("rRbBuUfF")
                yield bare[:3] if bare[:3] in ('"""', "'''") else bare[:1]

    @cached_property
    def indents(self) -> list[str]:
        """What each block adds to the indentation around it."""
        stack, steps = [""], []
        for token in self.tokens:
            if token.type == tokenize.INDENT:
                steps.append(token.string[len(stack[-1]) :])
                stack.append(token.string)
            elif token.type == tokenize.DEDENT:
                stack.pop()
        return steps

    @cached_property
    def blank_lines(self) -> list[int]:
        """Number of blank lines inside each outermost function's body."""
        lines = self.text.split("\n")
        outer = [n for n in self.tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        return [sum(not line.strip() for line in lines[f.lineno : f.end_lineno]) for f in outer]

    def spacing(self, operators: frozenset[str]) -> Iterator[tuple[bool, bool]]:
        """Whether there is a space before and after each of the binary operators; `=` of keyword arguments is none."""
        depth = 0
        skipped = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
        tokens = [t for t in self.tokens if t.type not in skipped]
        for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
            depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
            if token.type != tokenize.OP or token.string not in operators or (token.string == "=" and depth):
                continue
            ended = before.type in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING) or before.string in (
                ")",
                "]",
                "}",
            )
            if not ended or (before.type == tokenize.NAME and before.string in _BEFORE_UNARY):
                continue  # unary, or the star of `*rest`
            yield before.end != token.start, token.end != after.start

    @cached_property
    def singletons(self) -> list[tuple[bool, bool]]:
        """Whether each comparison with True, False or None uses `is`, and whether the singleton comes first."""
        found = []
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
                known = isinstance(operator, ast.Is | ast.IsNot | ast.Eq | ast.NotEq)
                if known and (_singleton(left) or _singleton(right)):
                    found.append((isinstance(operator, ast.Is | ast.IsNot), _singleton(left)))
        return found

    @cached_property
    def arguments_typed(self) -> list[bool]:
        """For each parameter, whether it has a type."""
        found = []
        for function in self.functions:
            own = function.args
            every = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, (own.vararg, own.kwarg))]
            found += [a.annotation is not None for a in every if a.arg not in ("self", "cls")]
        return found

    @cached_property
    def returns(self) -> list[tuple[ast.Return, ast.stmt | None]]:
        """Each return statement with the statement before it in its block."""
        found = []
        for node in ast.walk(self.tree):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list):
                    for before, statement in zip([None, *block], block, strict=False):
                        if isinstance(statement, ast.Return):
                            found.append((statement, before))
        return found


_BEFORE_UNARY = frozenset(
    "return in and or not if else elif while yield lambda is print assert del raise for import".split()
)


def _singleton(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))


def _ends(block: list[ast.stmt]) -> bool:
    """Whether control never leaves the block at its end."""
    last = block[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and _ends(last.body) and _ends(last.orelse)
    if isinstance(last, ast.With | ast.AsyncWith):
        return _ends(last.body)
    if isinstance(last, ast.Try):
        return _ends(last.body) and all(_ends(h.body) for h in last.handlers)
    endless = isinstance(last, ast.While) and isinstance(last.test, ast.Constant) and bool(last.test.value)
    return endless or isinstance(last, ast.Return | ast.Raise)


def _names(pattern: str, code: Code) -> bool:
    return all(re.fullmatch(pattern, name) for name in code.names)


def _lengths(least: int, most: int | None, code: Code) -> bool:
    return all(least <= len(name) and (most is None or len(name) <= most) for name in code.names)


def _indented(unit: str, code: Code) -> bool:
    return all(step == unit for step in code.indents)


def _short(limit: int, code: Code) -> bool:
    return all(len(line) <= limit for line in code.text.split("\n"))


def _spaced(wanted: Mapping[bool, frozenset[str]], code: Code) -> bool:
    """`wanted` has the operators with a space on both sides, and those with none."""
    return all(
        sides == (spaces, spaces) for spaces, operators in wanted.items() for sides in code.spacing(operators)
    )


def _licensed(name: str, code: Code) -> bool:
    return name.lower() in code.text.lower()


def _quoted(quote: str, code: Code) -> bool:
    return all(found in (quote, '"""', "'''") for found in code.strings(docstrings=False))


def _documented(code: Code) -> bool:
    return all(ast.get_docstring(f) is not None for f in code.functions)


def _returns_directly(code: Code) -> bool:
    def stored(name: str, before: ast.stmt | None) -> bool:
        targets = before.targets if isinstance(before, ast.Assign) else []
        if isinstance(before, ast.AnnAssign):
            targets = [before.target]
        return any(isinstance(t, ast.Name) and t.id == name for t in targets)

    return not any(isinstance(r.value, ast.Name) and stored(r.value.id, before) for r, before in code.returns)


def _returns_variable(code: Code) -> bool:
    return all(
        r.value is None
        or isinstance(r.value, ast.Name)
        or (isinstance(r.value, ast.Constant) and r.value.value is None)
        for r, _ in code.returns
    )


def _returns_explicitly(code: Code) -> bool:
    return all(r.value is not None for r, _ in code.returns) and all(_ends(f.body) for f in code.functions)


def _typed(arguments: bool | None, result: bool | None, code: Code) -> bool:
    """Whether all parameters and results have types (True), none has (False), or either will do (None)."""
    results = [f.returns is not None for f in code.functions]
    return all(
        wanted is None or all(found == wanted for found in typed)
        for wanted, typed in ((arguments, code.arguments_typed), (result, results))
    )


_ALL = _ARITHMETIC | _COMPARISON | _ASSIGNMENT
STYLES: Mapping[str, Callable[[Code], bool]] = {
    "blank_internal_none": lambda code: not any(code.blank_lines),
    "blank_internal_one": lambda code: all(n == 1 for n in code.blank_lines),
    "blank_internal_required": lambda code: all(n >= 1 for n in code.blank_lines),
    "doc_none": lambda code: all(ast.get_docstring(f) is None for f in code.functions),
    "doc_oneline": lambda code: all(
        "\n" not in str(d.value).strip() and d.lineno == d.end_lineno for d in code.documented
    ),
    "doc_required": _documented,
    "indent_2": partial(_indented, "  "),
    "indent_4": partial(_indented, "    "),
    "indent_spaces": lambda code: all("\t" not in step for step in code.indents),
    "indent_tab": partial(_indented, "\t"),
    "license_apache": partial(_licensed, "Apache License"),
    "license_mit": partial(_licensed, "MIT License"),
    "license_none": lambda code: not re.search(r"licen[sc]e|copyright", code.text, re.IGNORECASE),
    "line_79": partial(_short, 79),
    "line_120": partial(_short, 120),
    "line_unlimited": lambda code: True,
    "naming_camel": partial(_names, r"[a-z][a-zA-Z0-9]*"),
    "naming_snake": partial(_names, r"_*[a-z][a-z0-9_]*"),
    "naming_consonant_start": lambda code: all(n.lstrip("_")[:1].lower() in _CONSONANTS for n in code.names),
    "op_space_around": partial(_spaced, {True: _ALL}),
    "op_space_none": partial(_spaced, {False: _ALL}),
    "op_space_arithmetic": partial(_spaced, {True: _ARITHMETIC | _COMPARISON}),
    "op_space_minimal": partial(_spaced, {True: _ASSIGNMENT, False: _ARITHMETIC}),
    "quotes_double": partial(_quoted, '"'),
    "quotes_single": partial(_quoted, "'"),
    "quotes_docstring_triple_double": lambda code: all(q == '"""' for q in code.strings(docstrings=True)),
    "return_direct": _returns_directly,
    "return_variable": _returns_variable,
    "return_explicit_none": _returns_explicitly,
    "singleton_eq": lambda code: not any(identity for identity, _ in code.singletons),
    "singleton_is": lambda code: all(identity for identity, _ in code.singletons),
    "singleton_variable_first": lambda code: not any(first for _, first in code.singletons),
    "singleton_yoda": lambda code: all(first for _, first in code.singletons),
    "types_none": partial(_typed, False, False),
    "types_full": partial(_typed, True, True),
    "types_args_only": partial(_typed, True, False),
    "types_args_required": partial(_typed, True, None),
    "var_single": partial(_lengths, 1, 1),
    "var_max2": partial(_lengths, 1, 2),
    "var_min3": partial(_lengths, 3, None),
    "var_min5": partial(_lengths, 5, None),
}
"""Style -> whether code keeps to it."""
