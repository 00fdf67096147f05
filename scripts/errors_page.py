"""Writes `docs/errors.md` from the table of errors: `python scripts/errors_page.py docs/errors.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from metaalign.errors import ERRORS
from metaalign_server.engine.dialects import ANTHROPIC, OPENAI_CHAT

_PAGE = """\
# Errors

Written by `make generated` from `clients/python/metaalign/errors.py`.

Every error has a stable `code`, a message of one sentence, and in `param` the field that is wrong. The document has
Anthropic's shape on `/v1/messages` and OpenAI's everywhere else:

```json
{"error": {"message": "preferences.user.atributes: unknown key; remove it or correct its name",
           "type": "invalid_request_error", "param": "preferences.user.atributes", "code": "invalid_preferences"}}
```

`code` and `type` are of one style whoever refuses: the server, the protocol, or the engine. `type` follows from the
status; `code` says more. A stream that breaks off ends with an error event of the same fields; on `/v1/responses` its
`type` is `error`, as OpenAI's clients expect.

| status | OpenAI's `type` | Anthropic's `type` |
|---|---|---|
%s
## Answers of the server

| status | code | `param` names | when | what to do |
|---|---|---|---|---|
"""
_COMMANDS = """
## Commands

These end a command with one line on standard error; [exit codes](architecture.md#process-and-exit-codes).

| code | when | what to do |
|---|---|---|
"""


def errors_page() -> str:
    """`docs/errors.md`."""
    answers = sorted(
        (kind for kind in ERRORS.values() if kind.status is not None), key=lambda kind: kind.status or 0
    )
    rows = [f"| {k.status} | `{k.code}` | {k.param or '–'} | {k.when} | {k.remedy} |\n" for k in answers]
    commands = [f"| `{k.code}` | {k.when} | {k.remedy} |\n" for k in ERRORS.values() if k.status is None]
    statuses = sorted({kind.status for kind in answers if kind.status is not None})
    types = "".join(
        f"| {status} | `{OPENAI_CHAT.errors.type_of(status)}` | `{ANTHROPIC.errors.type_of(status)}` |\n"
        for status in statuses
    )
    return _PAGE % types + "".join(rows) + _COMMANDS + "".join(commands)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(errors_page(), encoding="utf-8")
