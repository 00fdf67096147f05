"""Blocks of code in Markdown pages, run in order as a reader types them: one shell and one Python for each page.

A block of `bash` runs in the page's shell, a block of `python` in the page's interpreter, which starts with what the
shell has exported by then. A block without a language, or of `json`, right behind one of these is what it prints.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.processes import ROOT, environment

__all__ = ["RUN", "Block", "Session", "agrees", "blocks", "open_session", "shown_json"]

RUN = ("bash", "python")
"""Languages that are run."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "--- end of block ---"
_INTERPRETER = f"""
import sys
names = {{"__name__": "__main__"}}
for line in sys.stdin:
    file = line.strip()
    with open(file) as program:
        code = compile(program.read(), file, "exec")
    exec(code, names)
    print({f"{chr(10)}{_MARK}"!r}, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page's path in the repository.
        line: Where its code begins.
        output: What the page shows as printed by it; None if it shows nothing.
        output_language: `json` or nothing.
        is_output: Whether it is the output of the block before it.
    """

    page: str
    line: int
    language: str
    text: str
    output: str | None = None
    output_language: str = ""
    is_output: bool = False


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = list(_FENCE.finditer(text))
    made: list[Block] = []
    for before, match, after in zip([None, *found], found, [*found[1:], None], strict=False):
        language, code = match.groups()
        shown = _shown_by(match, after, text)
        made.append(
            Block(
                page,
                text.count("\n", 0, match.start(2)) + 1,
                language,
                code,
                None if shown is None else shown[2],
                "" if shown is None else shown[1],
                _shown_by(before, match, text) is not None,
            )
        )
    return made


def _shown_by(block: re.Match[str] | None, behind: re.Match[str] | None, text: str) -> re.Match[str] | None:
    """The block behind another one, if it is what that prints."""
    if block is None or behind is None or block[1] not in (*RUN, "ts") or behind[1] not in ("", "json"):
        return None
    return behind if not text[block.end() : behind.start()].strip() else None


def agrees(shown: Any, real: Any) -> bool:
    """Whether everything that is shown is real; a text that ends in an ellipsis is a beginning."""
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(
            name in real and agrees(value, real[name]) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return len(shown) == len(real) and all(map(agrees, shown, real))
    if isinstance(shown, str) and shown.endswith("…"):
        return isinstance(real, str) and real.startswith(shown[:-1])
    return bool(shown == real)


def shown_json(text: str) -> Any:
    """JSON as a page shows it: `, …` stands for what is left out."""
    return json.loads(text.replace(", …", ""))


@dataclass
class Session:
    """The shell and the interpreter of one page."""

    folder: Path
    variables: dict[str, str]
    replaced: dict[str, str]
    number: int = 0
    programs: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def run(self, language: str, text: str) -> str:
        """Run code, which must succeed; return what it prints."""
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        self.number += 1
        file = self.folder / f".block-{self.number}"
        file.write_text(text, encoding="utf-8")
        program = self._program(language)
        assert program.stdin is not None
        assert program.stdout is not None
        line = f". {file} < /dev/null; printf '\\n%s\\n' '{_MARK}'" if language == "bash" else str(file)
        program.stdin.write(f"{line}\n")
        program.stdin.flush()
        printed, ended = _until_mark(program.stdout)
        if not ended:
            program.wait(20)
            raise AssertionError(f"failed: {text}\nit printed: {printed}\n{self._errors(language)}")
        return printed

    def check(self, block: Block) -> None:
        """Run a block, and compare what it prints with what the page shows."""
        printed = self.run(block.language, block.text)
        where = f"{block.page}:{block.line}"
        if block.output_language == "json":
            assert agrees(shown_json(block.output or ""), json.loads(printed)), f"{where}\n{printed}"
        elif block.output is not None:
            shown = [line.rstrip() for line in block.output.rstrip().splitlines()]
            assert [line.rstrip() for line in printed.rstrip().splitlines()] == shown, where

    def _program(self, language: str) -> subprocess.Popen[str]:
        if language not in self.programs:
            bash = language == "bash"
            words = ["bash", "--norc", "-eu"] if bash else [sys.executable, "-c", _INTERPRETER]
            with (self.folder / f".errors-{language}").open("w") as errors:
                self.programs[language] = subprocess.Popen(
                    words,
                    cwd=self.folder,
                    env=self.variables if bash else self._exported(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
        return self.programs[language]

    def _exported(self) -> dict[str, str]:
        pairs = self.run("bash", "env -0").split("\0")
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def _errors(self, language: str) -> str:
        return (self.folder / f".errors-{language}").read_text(encoding="utf-8")[-4000:]


def _until_mark(lines: IO[str]) -> tuple[str, bool]:
    printed: list[str] = []
    for line in lines:
        if line.rstrip("\n") == _MARK:
            return "".join(printed).removesuffix("\n"), True
        printed.append(line)
    return "".join(printed), False


@contextmanager
def open_session(folder: Path, url: str, store: str, key: str | None) -> Iterator[Session]:
    """A folder of its own, our programs on the path, and a server; with a key, curl and the clients send it."""
    # What a server refuses is a failure, which curl alone does not say.
    curl = ["silent", "show-error", "fail-with-body"]
    variables = {
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "METAALIGN_BASE_URL": url,
        "METAALIGN_DATABASE_URL": store,
        "METAALIGN_LOG_LEVEL": "error",
    }
    replaced = {"http://127.0.0.1:8000": url}
    if key is not None:
        variables["METAALIGN_API_KEY"] = key
        replaced |= {'"unused"': json.dumps(key)}
        curl.append(f'header = "authorization: Bearer {key}"')
    (folder / ".curlrc").write_text("\n".join(curl) + "\n")
    session = Session(folder, environment(variables), replaced)
    try:
        yield session
    finally:
        for program in session.programs.values():
            program.kill()
            program.communicate()
