"""Checkpoint manifests: written, verified, and every kind of damage named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from metaalign import InvalidCheckpoint
from metaalign.prompt import read_manifest, verify_checkpoint, write_manifest
from tests.contract.tokenizers_for_tests import ours


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ours().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights" * 100)
    (tmp_path / "config.json").write_text("{}")
    write_manifest(
        tmp_path, base_model="none", datasets={"d": "0" * 64}, recipe={"steps": 1}, evaluation={"seen": 1.0}
    )
    return tmp_path


def test_round_trip(folder: Path) -> None:
    manifest = verify_checkpoint(folder)
    assert manifest is not None
    assert manifest.template.name == "metaalign"
    assert "<|end|>" in manifest.control_strings
    assert set(manifest.files) == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
    }
    assert manifest == read_manifest(folder)


def test_a_folder_without_manifest_is_not_ours(tmp_path: Path) -> None:
    assert verify_checkpoint(tmp_path) is None


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
@pytest.mark.parametrize("damage", [_truncate, _change, Path.unlink])
def test_damage_is_named(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(folder / name)
    with pytest.raises(InvalidCheckpoint, match=name) as caught:
        verify_checkpoint(folder)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("field", ["template", "control_strings"])
def test_a_manifest_that_describes_another_checkpoint(folder: Path, field: str) -> None:
    path = folder / "metaalign.json"
    data = json.loads(path.read_text())
    data[field] = {**data["template"], "sha256": "0" * 64} if field == "template" else ["<|other|>"]
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidCheckpoint, match=r"metaalign\.json"):
        verify_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": 1}'])
def test_unreadable_manifests(folder: Path, text: str) -> None:
    (folder / "metaalign.json").write_text(text)
    with pytest.raises(InvalidCheckpoint, match=r"metaalign\.json"):
        verify_checkpoint(folder)
