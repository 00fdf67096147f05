"""docs/recipes.md as programs: what each prints is in comments beside it, and what it raises in a table of the page."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from tests.processes import ROOT

__all__ = [
    "CONDITIONS",
    "HURRIED",
    "LANGUAGES",
    "PAGE",
    "PARTS",
    "STRENGTH",
    "Recipe",
    "agrees",
    "expected",
    "hurried",
    "marked",
    "raised",
    "recipes",
    "steered",
    "timeouts",
]

PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
PARTS = ("Ask", "Stream", "Tool", "Profile")
CONDITIONS = ("refused", "key", "limit", "stopped", "failed", "broken", "slow", "stalled")
"""The columns of the page's table of exceptions, in its order."""
HURRIED = ("slow", "stalled")
"""Those in which the client is not as patient as it is by itself."""
STRENGTH = {"system": 0.2}
"""With it the demo answers as if nobody had asked for a pirate, and draws each token from two prompts."""
LANGUAGES = {"python": 'print("\\n\\f{}")', "js": 'console.log("\\n\\f{}");', "bash": "printf '\\n\\f{}\\n'"}
"""Those that a program may be in, and what prints a mark that no answer has."""
_SHOWN = re.compile(
    r"(?:print\(|console\.log\(|process\.stdout\.write\(|^llm ).*?(?:  # | // )(.+)$", re.MULTILINE
)


@dataclass(frozen=True)
class Recipe:
    """One client's section of the page.

    Attributes:
        program: Its parts begin with a comment that is their name; the first has none.
        files: Further blocks, by language.
    """

    client: str
    language: str
    program: str
    files: dict[str, str]

    def until(self, part: str) -> str:
        """The program before a part, or all of it if it has no such part."""
        return re.split(rf"^(?:#|//) {part}$", self.program, maxsplit=1, flags=re.MULTILINE)[0]

    def parts(self) -> dict[str, str]:
        """Each part's own lines, by its name."""
        pieces = re.split(rf"^(?:#|//) ({'|'.join(PARTS)})$", self.program, flags=re.MULTILINE)
        return {"Ask": pieces[0]} | dict(zip(pieces[1::2], pieces[2::2], strict=True))


def recipes() -> list[Recipe]:
    """All of the page, in its order."""
    found = []
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        client = section.partition("\n")[0]
        blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
        (language,) = blocks.keys() & LANGUAGES.keys()
        found.append(Recipe(client, language, blocks.pop(language), blocks))
    return found


def raised() -> dict[str, dict[str, str]]:
    """What the page says that each client raises, by client and condition."""
    return {client: dict(zip(CONDITIONS, cells, strict=True)) for client, cells in _table("Exceptions")}


def timeouts() -> dict[str, tuple[str, str]]:
    """What the page says that sets each client's timeout, and what it stands behind, by client."""
    return {client: (setting, behind) for client, (setting, behind, _) in _table("Timeouts")}


def hurried(text: str, client: str, seconds: int) -> str:
    """A recipe's program or file with the client's timeout set, in the way that the page says."""
    setting, behind = timeouts()[client]
    value = {
        "key": r'Secret\.from_token\("unused"\)|"unused"|\bunused\b',
        "temperature": r'(?<=temperature)"?: 0',
    }
    return re.sub(value[behind], rf"\g<0>, {setting.replace('60', str(seconds))}", text)


def steered(text: str) -> str:
    """A recipe's program or file that asks with `STRENGTH`, or for the profile `faint` that has it.

    Where it prints whether its receipt was applied, it prints the receipt's hash, and the number of branches or "None".
    """
    strength = rf'\g<0>, "strength": {json.dumps(STRENGTH)}'
    text = re.sub(r'\bsystem"?: "Answer like a pirate\."', strength, text)
    text = re.sub(
        r"print\((.+)\.applied\)", r"print(\1.spec_hash, getattr(\1.steering, 'branches', None))", text
    )
    text = re.sub(r"console\.log\((.+)\.applied\)", r"console.log(\1.spec_hash, \1.steering.branches)", text)
    return text.replace("@pirate", "@faint")


def _table(section: str) -> list[tuple[str, list[str]]]:
    """Client and cells of each row of a section's table."""
    _, _, text = PAGE.partition(f"\n## {section}\n")
    rows = re.findall(r"^\| (?!client \|)([^|]+) \| (.*) \|$", text.partition("\n## ")[0], re.MULTILINE)
    return [(client, [cell.strip("` ") for cell in cells.split("|")]) for client, cells in rows]


def marked(program: str, language: str) -> str:
    """The program with each part's name printed before the part."""

    def mark(comment: re.Match[str]) -> str:
        return LANGUAGES[language].format(comment[1])

    return re.sub(rf"^(?:#|//) ({'|'.join(PARTS)})$", mark, program, flags=re.MULTILINE)


def expected(part: str) -> list[str]:
    """The lines that a part shows beside what prints them; `…` stands for any text."""
    return _SHOWN.findall(part)


def agrees(shown: str, line: str) -> bool:
    """Whether a printed line is the one shown."""
    return re.fullmatch(".*".join(re.escape(piece) for piece in shown.split("…")), line) is not None
