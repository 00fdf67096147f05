"""Writes the TypeScript client's errors from the table of errors.

`python scripts/typescript_errors.py clients/typescript/src/error_kinds.ts` (`make generated`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from client_errors import GROUPS, class_name
from metaalign.errors import ERRORS, ErrorKind

_HEAD = """\
// Written by `make generated` from clients/python/metaalign/errors.py.

import { APIError } from "./errors.js";

/** One kind of error: its HTTP status, what `param` names (empty if it is null), when it occurs and what to do. */
export interface ErrorKind {
  readonly status: number;
  readonly param: string;
  readonly when: string;
  readonly remedy: string;
}

/** Code -> meaning, for every code that the server answers with. Codes are stable; a newer server may have more. */
export const ERRORS = {
"""


def _entry(kind: ErrorKind) -> str:
    fields = [f"    status: {kind.status},"]
    for name in ("param", "when", "remedy"):
        fields.append(f"    {name}: {json.dumps(getattr(kind, name), ensure_ascii=False)},")
    return "\n".join([f"  {kind.code}: {{", *fields, "  },\n"])


def error_kinds() -> str:
    """`clients/typescript/src/error_kinds.ts`."""
    kinds = sorted(
        (kind for kind in ERRORS.values() if kind.status is not None), key=lambda kind: kind.status or 0
    )
    parts = [_HEAD, *map(_entry, kinds)]
    parts.append("} as const satisfies Record<string, ErrorKind>;\n\n")
    parts.append(
        "/** A code that this version of the package knows. */\nexport type ErrorCode = keyof typeof ERRORS;\n"
    )
    for status, (base, when) in GROUPS.items():
        # To the compiler, classes of the same form are one: each needs a member that the others have not.
        own = (
            "protected declare readonly server: true"
            if status == 500
            else f"declare readonly status: {status}"
        )
        parts.append(f"\n/** {when} */\nexport class {base} extends APIError {{\n  {own};\n}}\n")
        for kind in (kind for kind in kinds if min(kind.status or 500, 500) == status):
            parts.append(f"\n/** {kind.when} */\nexport class {class_name(kind.code)} extends {base} {{\n")
            parts.append(f'  declare readonly code: "{kind.code}";\n}}\n')
    parts.append("\n/** The class of each code. */\nexport const CLASS_OF_CODE = {\n")
    parts += [f"  {kind.code}: {class_name(kind.code)},\n" for kind in kinds]
    parts.append("} as const satisfies Record<ErrorCode, typeof APIError>;\n")
    parts.append("\n/** The class of each status; that of 500 is for all above it, too. */\n")
    parts.append("export const CLASS_OF_STATUS: Readonly<Record<number, typeof APIError>> = {\n")
    parts += [f"  {status}: {base},\n" for status, (base, _) in GROUPS.items()]
    parts.append("};\n")
    return "".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(error_kinds(), encoding="utf-8")
