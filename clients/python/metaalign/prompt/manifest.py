"""The manifest `metaalign.json` next to a checkpoint's weights: what it was trained with, checked before serving."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metaalign.errors import InvalidCheckpoint
from metaalign.preferences import describe_validation_error
from metaalign.prompt.template import ChatTemplate
from metaalign.receipt import TemplateReference

__all__ = [
    "MANIFEST_NAME",
    "FileRecord",
    "Manifest",
    "read_manifest",
    "sha256_of",
    "verify_checkpoint",
    "write_manifest",
]

MANIFEST_NAME = "metaalign.json"
TEMPLATE_NAME = "chat_template.jinja"
_HASHED = ("*.safetensors", "tokenizer.json", "config.json", TEMPLATE_NAME)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Model):
    """Size in bytes and SHA-256 (hexadecimal) of one file of the checkpoint."""

    bytes: int
    sha256: str


class Manifest(_Model):
    """Contents of `metaalign.json`."""

    schema_version: Literal[1] = 1
    base_model: str
    template: TemplateReference
    control_strings: tuple[str, ...]
    files: dict[str, FileRecord]
    datasets: dict[str, str] = Field(default_factory=dict, description="data set name -> SHA-256 of its rows")
    recipe: dict[str, Any] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """The name that its recipe gives the model."""
        name = self.recipe.get("name")
        return name if isinstance(name, str) and name else None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _control_strings(folder: Path) -> tuple[str, ...]:
    try:
        added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidCheckpoint(f"{folder}: tokenizer.json is missing or unreadable") from error
    return tuple(token["content"] for token in added)


def _read_template(folder: Path) -> ChatTemplate:
    try:
        return ChatTemplate((folder / TEMPLATE_NAME).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidCheckpoint(f"{folder}: {TEMPLATE_NAME} is missing") from error


def write_manifest(
    folder: Path,
    *,
    base_model: str,
    datasets: dict[str, str],
    recipe: dict[str, Any],
    evaluation: dict[str, Any],
) -> Manifest:
    """Describe the current state of the checkpoint in `folder` and write its manifest."""
    files = sorted({path for pattern in _HASHED for path in folder.glob(pattern)})
    manifest = Manifest(
        base_model=base_model,
        template=_read_template(folder).reference,
        control_strings=_control_strings(folder),
        files={path.name: FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path)) for path in files},
        datasets=datasets,
        recipe=recipe,
        evaluation=evaluation,
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in `folder`, or None if there is none (a checkpoint that is not ours).

    Raises:
        InvalidCheckpoint: the file exists but is not a manifest of a known schema version.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        message, _ = describe_validation_error(error, MANIFEST_NAME)
        raise InvalidCheckpoint(f"{path}: {message}") from None


def verify_checkpoint(folder: Path) -> Manifest | None:
    """Compare the checkpoint in `folder` with its manifest: template, control strings, size and hash of each file.

    Returns:
        The manifest, or None if the folder has none.

    Raises:
        InvalidCheckpoint: something differs; the message names the first difference and the remedy in one line.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    remedy = "restore the file or export the checkpoint again"
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise InvalidCheckpoint(f"{path}: missing, but {MANIFEST_NAME} lists it; {remedy}")
        size = path.stat().st_size
        if size != record.bytes:
            raise InvalidCheckpoint(f"{path}: {size} bytes, {MANIFEST_NAME} says {record.bytes}; {remedy}")
        if sha256_of(path) != record.sha256:
            raise InvalidCheckpoint(f"{path}: content differs from {MANIFEST_NAME}; {remedy}")
    if _read_template(folder).sha256 != manifest.template.sha256:
        raise InvalidCheckpoint(f"{folder / TEMPLATE_NAME}: differs from {MANIFEST_NAME}; {remedy}")
    if _control_strings(folder) != manifest.control_strings:
        raise InvalidCheckpoint(
            f"{folder / 'tokenizer.json'}: control strings differ from {MANIFEST_NAME}; {remedy}"
        )
    return manifest
