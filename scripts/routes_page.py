"""Writes `docs/reference/routes.md` from the OpenAPI document: `python scripts/routes_page.py FILE`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metaalign.errors import ERRORS
from schema_words import REFERENCE, cell, default_words, table, type_words

__all__ = ["ANY_KEY", "PUBLIC", "routes_page", "scope_of"]

PUBLIC, ANY_KEY = "public", "any key"

_DOCUMENT = Path(__file__).resolve().parent.parent / "clients" / "openapi.json"

_HEAD = """\
# Routes

Written by `make generated` from [clients/openapi.json](../../clients/openapi.json), which a running server also has
under `/openapi.json` and, to be read and tried, under `/docs`.

A key goes into `Authorization: Bearer KEY` or `x-api-key: KEY`. **Scope** is what the key needs for the route;
writing the System tier takes `system`, too ([tenants and keys](../platform.md#tenants-and-keys)). What `preferences`
means on each route is in [architecture](../architecture.md#what-preferences-means-on-each-route), and every key of it
in [preferences](preferences.md). The routes of the OpenAI and Anthropic protocols have the fields that vLLM gives
them. Of these only the names are listed: types and bounds are in the OpenAPI document.

## Errors

Every error has a stable code. A route can answer with the codes of each status that it lists; causes and remedies are
in [errors](../errors.md).

"""

_TITLES = {
    "inference": "Inference",
    "profiles": "Profiles",
    "feedback": "Feedback",
    "admin": "Administration",
    "operations": "Operations",
}

_NOTE = """
Besides these, `/playground` serves [a page](../playground.md), and `/docs` and `/openapi.json` this reference.
"""

_MEANINGS = {
    "AlignAnswer.id": "for feedback on the answer",
    "DetokenizeRequest.model": "the served model",
    "LearnModel.examples": "how many of the last liked exchanges; 0: none",
    "LearnModel.scope": "whose: the asking user's, or those of all users of the profile",
    "Receipt.profiles": "the versions that were used, such as `support:2`",
    "Receipt.template": "what rendered the tiers",
    "Receipt.tokens": "prompt tokens of each tier",
    "RenderAnswer.prompt": "as a person reads it",
    "RenderAnswer.tokens": "of the whole prompt",
    "applied": "at least one tier is not empty",
    "archived": "requests do not find an archived profile",
    "by": "the layer that set the value that was kept, such as `system:request`",
    "expires_at": "seconds since 1970, or as a date; none: the key does not end by itself",
    "grace_seconds": "seconds until the old key ends",
    "has_more": "whether there is another page",
    "kept": "the value that won",
    "latest": "number of the newest version",
    "learn": "how many liked exchanges become examples, and whose",
    "learned_examples": "liked exchanges that became examples",
    "max_tokens": "length of the answer at most",
    "messages": "the dialogue",
    "metaalign": "the receipt; null without preferences",
    "model": "the served model, or `model@profile`",
    "overridden": "what lost and was not told to the model",
    "policy": "System preferences that no request of the tenant can override",
    "preferences": "what the answer should follow; the header `X-MetaAlign-Profile` names profiles without it",
    "protected": "only the scope `admin` may move it",
    "query": "the question",
    "scopes": "what the key may do",
    "seed": "for sampling",
    "share_cache": "share prefix-cache blocks of whole prompts with other tenants that do",
    "share_policy": "share prefix-cache blocks of the policy with tenants that have the same one",
    "shared": "its System texts' prefix-cache blocks are shared between tenants",
    "spec_hash": "SHA-256 of the texts of both tiers",
    "count": "how many there are",
    "deleted": "always true",
    "max_model_len": "tokens of a prompt and its answer at most",
    "token_strs": "each token as the tokenizer writes it",
    "tokens": "token ids",
    "tools": "as `/v1/chat/completions` takes them",
    "stop": "texts that end the answer",
    "store": "false: do not store this exchange, even if the operator stores exchanges",
    "temperature": "0: greedy",
    "top_p": "nucleus sampling",
    "user": "the end user's id: chooses versions by weight and learned examples",
    "verified": "what `preferences.verify` found, for each choice",
    "weight": "share of the users",
}
"""Fields that carry no description in the document: of one object, or of every object that has them."""


def scope_of(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """The scope that a route asks for, or that it is public, or takes any key."""
    if operation.get("security") == []:
        return PUBLIC
    if path.startswith("/v1/admin/"):
        return "admin"
    if path == "/v1/feedback/erase":
        return "profiles:write"
    if path.startswith("/v1/profiles"):
        return "profiles:read" if method == "get" else "profiles:write"
    if path == "/metrics":
        return "metrics"
    return ANY_KEY if path == "/version" or path.startswith("/v1/models") else "inference"


class _Page:
    """The page as it is written, and the objects that it has named so far and has yet to explain."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.schemas: Mapping[str, Any] = document["components"]["schemas"]
        self.named: list[str] = []

    def refer(self, name: str) -> str:
        if name.startswith("Lenient"):
            return ""
        if name in ("Preferences", "SystemPreferences"):
            return f"[{name}](preferences.md{'' if name == 'Preferences' else '#system'})"
        if name not in self.named:
            self.named.append(name)
        return f"[{name}](#{name.lower()})"

    def fields(self, name: str, only: Iterable[str] | None = None) -> str:
        """A table of an object's fields."""
        schema = self.schemas[name]
        required = schema.get("required", ())
        rows = []
        for key, value in schema.get("properties", {}).items():
            if only is not None and key not in only:
                continue
            words = type_words(value, self.refer)
            own = _MEANINGS.get(f"{name}.{key}") or _MEANINGS.get(key, "")
            meaning = value.get("description") or own
            if key == "preferences" and REFERENCE not in json.dumps(value):
                words = "[preferences](preferences.md)"
            if key in required and {"type": "null"} in value.get("anyOf", ()):
                words += ", or null"
            rows.append((f"`{key}`", words, default_words(value, required=key in required), meaning))
        return table(("field", "type", "default", "meaning"), rows)

    def body(self, operation: Mapping[str, Any]) -> Iterator[str]:
        content = operation.get("requestBody", {}).get("content", {})
        for schema in {json.dumps(media["schema"], sort_keys=True) for media in content.values()}:
            name = json.loads(schema)["$ref"].removeprefix(REFERENCE)
            kinds = " or ".join(f"`{kind}`" for kind in content if kind != "application/json")
            yield f"**Body**{f', JSON or {kinds}' if kinds else ''}\n\n"
            if not self.of_protocol(name):
                yield self.fields(name) + "\n"
                continue
            properties = self.schemas[name]["properties"]
            refused = {key: words for key, words in properties.items() if _is_refused(words)}
            ours = {key for key in properties if key == "preferences" or _is_ours(properties[key])}
            yield self.fields(name, ours) + "\n"
            rest = [key for key in properties if key not in refused and key not in ours]
            required = set(self.schemas[name].get("required", ()))
            names = ", ".join(f"`{key}`{' (required)' if key in required else ''}" for key in rest)
            yield f"The protocol's fields: {names}.\n\n"
            if refused:
                yield f"Refused by default: {', '.join(f'`{key}`' for key in refused)}.\n\n"

    def of_protocol(self, name: str) -> bool:
        """Whether a body or an answer is vLLM's, with what we add to it."""
        ours = ("Align", "Render", "Tokenize", "Detokenize")
        return name.endswith(("Request", "Answer")) and not name.startswith(ours)

    def answers(self, operation: Mapping[str, Any]) -> Iterator[str]:
        errors = []
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            named = [media["schema"].get("$ref", "").removeprefix(REFERENCE) for media in content.values()]
            if int(status) >= 400 and "StateModel" not in named:
                errors.append(status)
                continue
            name = named[0] if named else ""
            if not content:
                yield f"**{status}** without a body.\n\n"
            elif not name:
                yield f"**{status}** {', '.join(f'`{kind}`' for kind in content)}.\n\n"
            elif self.of_protocol(name):
                receipt = self.refer("Receipt")
                yield f"**{status}** the protocol's answer, and in `metaalign` the receipt: {receipt}.\n\n"
            else:
                yield f"**{status}** {self.refer(name)}.\n\n"
        if errors:
            yield f"**Errors** {', '.join(errors)}.\n\n"

    def route(self, method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
        yield f"### `{method.upper()} {path}`\n\n{cell(operation.get('description', ''))}\n\n"
        yield f"**Scope** {_scope_words(scope_of(method, path, operation))}\n\n"
        rows = [
            (
                f"`{parameter['name']}`",
                parameter["in"],
                type_words(parameter["schema"], self.refer),
                default_words(parameter["schema"], required=parameter.get("required", False)),
                parameter.get("description", ""),
            )
            for parameter in operation.get("parameters", ())
        ]
        if rows:
            yield "**Parameters**\n\n" + table(("name", "in", "type", "default", "meaning"), rows) + "\n"
        yield from self.body(operation)
        yield from self.answers(operation)

    def write(self) -> Iterator[str]:
        yield _HEAD
        yield table(("status", "codes"), _codes()) + "\n"
        for tag, title in _TITLES.items():
            yield f"## {title}\n\n"
            for path, operations in self.document["paths"].items():
                for method, operation in operations.items():
                    if operation["tags"] == [tag]:
                        yield from self.route(method, path, operation)
        yield _NOTE.lstrip() + "\n## Objects\n\n"
        described: set[str] = set()
        while waiting := [name for name in self.named if name not in described]:
            for name in waiting:
                described.add(name)
                yield f"### {name}\n\n"
                if text := self.schemas[name].get("description"):
                    yield f"{_first_paragraph(text)}\n\n"
                yield (self.fields(name) or "No fields of its own.\n") + "\n"


def _is_refused(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "null"


def _is_ours(schema: Mapping[str, Any]) -> bool:
    return str(schema.get("description", "")).startswith("false: do not store")


def _scope_words(scope: str) -> str:
    words = {PUBLIC: "none: no key is needed", ANY_KEY: "none: any key will do"}
    return words.get(scope, f"`{scope}`")


def _first_paragraph(text: str) -> str:
    return re.sub(r"\s+", " ", text.partition("\n\n")[0]).strip()


def _codes() -> Iterator[tuple[str, str]]:
    statuses = sorted({kind.status for kind in ERRORS.values() if kind.status is not None})
    for status in statuses:
        yield str(status), ", ".join(f"`{kind.code}`" for kind in ERRORS.values() if kind.status == status)


def routes_page() -> str:
    """`docs/reference/routes.md`."""
    document = json.loads(_DOCUMENT.read_text(encoding="utf-8"))
    return "".join(_Page(document).write()).rstrip() + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(routes_page(), encoding="utf-8")
