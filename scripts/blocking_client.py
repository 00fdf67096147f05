"""Write the client that blocks, from the one that awaits: the same calls without `await`.

python scripts/blocking_client.py clients/python/metaalign/client/blocking.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "clients/python/metaalign/client/awaiting.py"

HEADER = '''"""`MetaAlign`: a client that blocks. Made of `awaiting.py` by `scripts/blocking_client.py`; do not edit.

    with MetaAlign() as client:
        answer = client.align("What does a fox eat?", preferences={"user": "I like bullet points."})
        print(answer.text, answer.metaalign.overridden)
        with client.chat.stream([{"role": "user", "content": "And a wolf?"}]) as stream:
            for text in stream:
                print(text, end="")
"""
'''

RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bimport asyncio\b", "import time"),
    (r"\baclosing\b", "closing"),
    (r"\b(aiter_lines|aread|aclose)\b", lambda found: found[1].removeprefix("a")),
    (r"__a(iter|enter|exit)__", r"__\1__"),
    (r"\bAsyncGenerator\[(.+), None\]:", r"Generator[\1, None, None]:"),
    (r"\b(_?)Async(?=[A-Z])", r"\1"),
]


def formatted(text: str) -> str:
    """`text` as ruff writes it."""
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "--fix", "--unsafe-fixes", "--select", "I,UP028", "-q"], ["format", "-q"]):
        done = subprocess.run(
            [ruff, *command, "--stdin-filename", str(SOURCE.with_name("blocking.py")), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = done.stdout
    return text


def text() -> str:
    """The whole module."""
    body = SOURCE.read_text(encoding="utf-8").split('"""', 2)[2].lstrip("\n")
    for pattern, replacement in RULES:
        body = re.sub(pattern, replacement, body)
    return formatted(f"{HEADER}\n{body}")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
