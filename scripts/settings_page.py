"""Writes `docs/reference/settings.md` from the settings: `python scripts/settings_page.py FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from metaalign_server.callers import Limits
from metaalign_server.settings import DEMO_CHECKPOINT, Settings
from schema_words import table, type_words

__all__ = ["GROUPS", "settings_page"]

_HEAD = """\
# Settings

Written by `make generated` from `metaalign_server.settings`.

A setting comes from its flag, its environment variable, a `.env` file in the working directory, or a file of secrets,
in this order. `METAALIGN_SECRETS_DIR` names a folder with a file for each setting that it holds, such as
`metaalign_database_url`; a file in it that sets nothing is an error. Settings without a flag hold secrets, which
every user of the machine could read on a command line. Lists are separated by commas. A variable `METAALIGN_*` that
sets nothing is named on standard error when a command starts.

`metaalign-server serve` takes vLLM's flags, too, and refuses those that would do nothing here. `--api-key` and
`VLLM_API_KEY` add to `METAALIGN_API_KEYS`, and `OTEL_EXPORTER_OTLP_ENDPOINT` says where traces go. The deployment has
[more variables](../../docker/.env.example), for its containers.

"""

_TAIL = """\
## Of other programs

| variable | read by | |
|---|---|---|
| `METAALIGN_BASE_URL` | the clients and `metaalign` | address of the server |
| `METAALIGN_API_KEY` | the clients and `metaalign` | the key |
| `METAALIGN_TORCH_INDEX` | `make install` | a mirror of PyTorch's index |
| `METAALIGN_DATA` | the tests | a folder with published files |
"""

GROUPS = {
    "Model": "model served_model_name",
    "Listening": (
        "host port uds root_path ssl_certfile ssl_keyfile ssl_ca_certs ssl_cert_reqs ssl_ciphers drain_seconds"
    ),
    "Pages of other origins": "allowed_origins allowed_methods allowed_headers allow_credentials",
    "Keys and the store": (
        "api_keys key_environment secret allow_open_network database_url database_max_bytes refresh_seconds"
    ),
    "Limits": (
        "key_limits tenant_limits user_limits redis_url max_waiting max_body_bytes max_choices max_logprobs"
        " grammar_seconds write_seconds"
    ),
    "What is stored": "feedback store_responses retention_days",
    "What requests may do": "allow_fields allow_xargs allow_template_arguments allow_kv_connectors",
    "Pages and lists": "playground disable_fastapi_docs list_profiles",
    "Operation": "log_format log_level stall_seconds spec_cache_bytes steering prewarm",
}
"""The settings by what they are about; one that is in no group is an error."""


def _default(field: FieldInfo) -> str:
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if value == str(DEMO_CHECKPOINT):
        return "the demo"
    if value in (None, "", (), PydanticUndefined) or isinstance(value, Limits):
        return "–"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _type(name: str, schema: dict[str, Any]) -> str:
    if name.endswith("_limits"):
        return "JSON"
    if "secret" in str(schema.get("format", "")) or schema.get("format") == "password":
        return "text"
    return type_words({key: value for key, value in schema.items() if key != "items"}).replace(
        "string", "text"
    )


def _flag(name: str, field: FieldInfo) -> str:
    flag = f"--{name.replace('_', '-')}"
    if field.annotation is SecretStr:
        return "–"
    return f"`{flag}`, `--no-{flag.removeprefix('--')}`" if field.default is True else f"`{flag}`"


def _rows(names: list[str]) -> Iterator[tuple[str, ...]]:
    properties = Settings.model_json_schema()["properties"]
    for name in names:
        field = Settings.model_fields[name]
        yield (
            f"`METAALIGN_{name.upper()}`",
            _flag(name, field),
            _type(name, properties[name]),
            _default(field),
            field.description or "",
        )


def settings_page() -> str:
    """`docs/reference/settings.md`."""
    grouped = [name for names in GROUPS.values() for name in names.split()]
    if sorted(grouped) != sorted(Settings.model_fields):
        raise ValueError(f"each setting is in one group: {set(grouped) ^ set(Settings.model_fields)}")
    parts = [_HEAD]
    for title, names in GROUPS.items():
        rows = table(("variable", "flag", "type", "default", "meaning"), _rows(names.split()))
        parts.append(f"## {title}\n\n{rows}\n")
    return "".join(parts) + _TAIL


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(settings_page(), encoding="utf-8")
