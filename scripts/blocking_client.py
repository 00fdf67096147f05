"""Write the client that blocks, from the one that awaits: the same calls without `await`.

python scripts/blocking_client.py clients/python/metaalign/client/blocking.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "clients/python/metaalign/client"

NOTICE = "\n\nMade of `awaiting/` by `scripts/blocking_client.py`; do not edit.\n"

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
    (r"\bclient\.awaiting\b", "client.blocking"),
    (r"a client for asyncio", "a client that blocks"),
    (r"The client that awaits\. .*", "The client that blocks."),
]


def formatted(text: str) -> str:
    """`text` as ruff writes it."""
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "--fix", "--unsafe-fixes", "--select", "I,UP028", "-q"], ["format", "-q"]):
        done = subprocess.run(
            [ruff, *command, "--stdin-filename", str(CLIENT / "generated.py"), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = done.stdout
    return text


def modules() -> dict[str, str]:
    """Each module's name and text."""
    made = {}
    for source in sorted((CLIENT / "awaiting").glob("*.py")):
        text = source.read_text(encoding="utf-8")
        for pattern, replacement in RULES:
            text = re.sub(pattern, replacement, text)
        head, rest = text.split('"""', 2)[1:]
        first, _, more = head.partition("\n")
        made[source.name] = formatted(f'"""{first}{NOTICE}{more}"""{rest}')
    return made


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for name, text in modules().items():
        (folder / name).write_text(text, encoding="utf-8")
