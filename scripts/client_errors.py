"""Write the client's error classes: one for each code that the server returns, below one for each status.

python scripts/client_errors.py clients/python/metaalign/client/errors.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import metaalign.errors
from blocking_client import formatted
from metaalign.errors import ERRORS, ErrorKind, MetaAlignError

GROUPS = {
    400: ("BadRequestError", "The request is wrong as it stands."),
    401: ("AuthenticationError", "No key was sent, or one that the server does not take."),
    403: ("PermissionDeniedError", "The key may not do this."),
    404: ("NotFoundError", "There is no such thing, or not for this key."),
    405: ("MethodNotAllowedError", "The path does not take this method."),
    409: ("ConflictError", "It does not fit what is there already."),
    412: ("PreconditionFailedError", "What was to be changed has changed since it was read."),
    413: ("RequestTooLargeError", "The body is too large."),
    422: ("UnprocessableEntityError", "The request contradicts an earlier one."),
    429: ("RateLimitError", "Too much was asked for in too short a time."),
    500: ("ServerError", "The server failed, or cannot answer now."),
}
"""Status -> its class; other statuses from 500 on are the server's."""

HEADER = '''"""What a server answers instead of an answer: a class for each code, below a class for each status.

Written by `scripts/client_errors.py` from the table in `metaalign.errors`; do not edit.
"""

from __future__ import annotations

from metaalign import errors
from metaalign.client.failures import APIError
'''


def class_name(code: str) -> str:
    """The class of a code: `invalid_api_key` is `InvalidApiKey`."""
    return "".join(part.capitalize() for part in code.split("_"))


def _group(status: int) -> str:
    return GROUPS[500 if status >= 500 else status][0]


def _class(kind: ErrorKind) -> str:
    name = class_name(kind.code)
    bases = [_group(kind.status or 500)]
    # Those that can also be raised without a server: whoever catches them there catches them here.
    offline = getattr(metaalign.errors, name, None)
    if isinstance(offline, type) and issubclass(offline, MetaAlignError):
        bases.append(f"errors.{name}")
    text = f"{kind.when} {kind.remedy}"
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) > 110:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    lines.append(line)
    said = "\n    ".join(lines) + ("\n    " if len(lines) > 1 else "")
    return f'class {name}({", ".join(bases)}):\n    """{said}"""\n\n    code = "{kind.code}"\n'


def text() -> str:
    """The whole module."""
    kinds = [kind for kind in ERRORS.values() if kind.status is not None]
    names = sorted([*(class_name(kind.code) for kind in kinds), *(name for name, _ in GROUPS.values())])
    listed = "\n".join(f'    "{name}",' for name in ["BY_CODE", "BY_STATUS", *names])
    groups = [f'class {name}(APIError):\n    """{when}"""\n' for name, when in GROUPS.values()]
    codes = "\n".join(f'    "{kind.code}": {class_name(kind.code)},' for kind in kinds)
    statuses = "\n".join(f"    {status}: {name}," for status, (name, _) in GROUPS.items())
    return (
        f"{HEADER}\n__all__ = [\n{listed}\n]\n\n\n"
        + "\n\n".join([*groups, *(_class(kind) for kind in kinds)])
        + f"\n\nBY_CODE: dict[str, type[APIError]] = {{\n{codes}\n}}\n"
        + f"BY_STATUS: dict[int, type[APIError]] = {{\n{statuses}\n}}\n"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(formatted(text()), encoding="utf-8")
