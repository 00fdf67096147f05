"""The package as users install it: it holds the demo, and serves it from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import httpx

from tests import preloaded
from tests.processes import ROOT, environment, free_port, running

DEMO = ROOT / "checkpoints/metaalign-demo"
INSIDE = "metaalign_server/checkpoints/metaalign-demo"


def build(source: Path, target: Path, kind: str) -> Path:
    """The one file that a build of this kind makes."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = target.iterdir()
    return built


def test_the_package_holds_the_demo_once(tmp_path: Path) -> None:
    """The wheel that is built from the source distribution, as package indexes serve them."""
    sdist = build(ROOT, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
        weights = [name for name in archive.getnames() if name.endswith("model.safetensors")]
    assert len(weights) == 1
    (source,) = (tmp_path / "source").iterdir()
    with zipfile.ZipFile(build(source, tmp_path / "wheel", "wheel")) as wheel:
        held = [Path(name) for name in wheel.namelist() if name.startswith(INSIDE)]
        assert sorted(path.name for path in held) == sorted(file.name for file in DEMO.iterdir())
        assert "metaalign_server/playground/index.html" in wheel.namelist()
        for path in held:
            assert wheel.read(str(path)) == (DEMO / path.name).read_bytes()


def test_serves_the_demo_from_any_folder(tmp_path: Path) -> None:
    """Without a model's name, and with the store in that folder."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["-m", "metaalign_server.cli", "serve", "--port", str(port)]
    with running(command, url, tmp_path / "log", env={"OMP_NUM_THREADS": "1"}, cwd=tmp_path):
        assert httpx.get(f"{url}/v1/models", timeout=60).json()["data"][0]["id"] == "metaalign-demo"
        body = {"query": "What does a fox eat?", "preferences": {"user": {"attributes": {"length": "short"}}}}
        answer = httpx.post(f"{url}/v1/align", json=body, timeout=60).json()
        assert answer["metaalign"]["template"]["name"] == "metaalign"


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    for model in ("./nothing", str(tmp_path / "nothing"), "checkpoints/nothing"):
        done = preloaded.finish(
            ["metaalign_server.cli", "serve", "--model", model], tmp_path, environment(), timeout=60
        )
        assert done.returncode == 65
        assert done.stderr.startswith(
            f"metaalign-server: {os.path.normpath(model)}: no such checkpoint folder"
        )
        assert "--model" in done.stderr
        assert done.stderr.count("\n") == 1
