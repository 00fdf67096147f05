"""Writes the TypeScript client's errors from the table of errors.

`python scripts/typescript_errors.py clients/typescript/src/error_kinds.ts` (`make generated`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from metaalign.errors import ERRORS, ErrorKind

_STATUSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    409: "ConflictError",
    412: "PreconditionFailedError",
    413: "BodyTooLargeError",
    422: "UnprocessableError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "UnavailableError",
    507: "StorageFullError",
}
"""Status -> the class that holds its codes. They end in `Error`, so that none has the name of a code."""

_HEAD = """\
// Written by `make generated` from clients/python/metaalign/errors.py.

import { ApiError } from "./errors.js";

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


def _class_name(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("_"))


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
    for status, base in _STATUSES.items():
        parts.append(f"\n/** Every answer with the status {status}. */\n")
        parts.append(f"export class {base} extends ApiError {{\n  declare readonly status: {status};\n}}\n")
        for kind in (kind for kind in kinds if kind.status == status):
            parts.append(f"\n/** {kind.when} */\n")
            parts.append(f"export class {_class_name(kind.code)} extends {base} {{\n")
            parts.append(f'  declare readonly code: "{kind.code}";\n}}\n')
    parts.append("\n/** The class of each code. */\nexport const CLASS_OF_CODE = {\n")
    parts += [f"  {kind.code}: {_class_name(kind.code)},\n" for kind in kinds]
    parts.append("} as const satisfies Record<ErrorCode, typeof ApiError>;\n")
    parts.append("\n/** The class of each status that the table knows. */\n")
    parts.append("export const CLASS_OF_STATUS: Readonly<Record<number, typeof ApiError>> = {\n")
    parts += [f"  {status}: {base},\n" for status, base in _STATUSES.items()]
    parts.append("};\n")
    missing = {kind.status for kind in kinds} - set(_STATUSES)
    if missing:
        raise SystemExit(f"name a class in scripts/typescript_errors.py for: {missing}")
    return "".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(error_kinds(), encoding="utf-8")
