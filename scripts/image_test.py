"""Builds the CPU image without a registry and asks it a question: `make image-test`; needs root, buildah, mmdebstrap.

1. mmdebstrap makes a Debian with Python, which stands in for the base image that a registry would have.
2. buildah builds `docker/server.Dockerfile` on it, without a container engine (chroot isolation).
3. The image's entry point runs in its root file system, as the image's user, with its variables, in a mount namespace
   where everything is read-only but /tmp and the two folders for data. `/readyz` and one answer are what is expected.

Everything is kept in build/image, so that a second run does not make the base again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from install import ROOT, Environment

MIRROR = "http://deb.debian.org/debian"
WRITABLE = ("/tmp", "/var/lib/metaalign", "/var/cache/metaalign")  # noqa: S108 - in the image
START_SECONDS = 600


class Image:
    """An image in a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.buildah = [
            "buildah", "--storage-driver", "vfs", "--root", str(folder / "storage"), "--runroot", str(folder / "run"),
        ]  # fmt: skip

    def run(self, *words: str) -> str:
        """Run buildah and return what it prints."""
        return subprocess.run(
            [*self.buildah, *words], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def make_base(self) -> None:
        """Make the base image, unless it is there."""
        if "localhost/base" in self.run("images", "--format", "{{.Name}}"):
            return
        archive = self.folder / "base.tar"
        if not archive.exists():
            packages = "python3,python3-venv,ca-certificates"
            command = ["mmdebstrap", "--variant=minbase", f"--include={packages}"]
            command += ["--customize-hook=ln -s python3 $1/usr/bin/python", "bookworm"]
            partial = self.folder / "partial.tar"
            subprocess.run([*command, str(partial), MIRROR], check=True)
            partial.rename(archive)
        container = self.run("from", "scratch")
        self.run("add", container, str(archive), "/")
        self.run(
            "config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container
        )
        self.run("commit", "--rm", container, "localhost/base")

    def build(self) -> None:
        """Build the target `cpu` on it, with this machine's sources of packages and certificates."""
        sources = Environment(ROOT / ".venv").uv_sources()
        words = ["--build-arg", "PYTHON_IMAGE=localhost/base"]
        if links := sources.get("UV_FIND_LINKS"):
            words += ["--build-arg", f"UV_FIND_LINKS={links}"]
            words += [
                part
                for link in links.split(",")
                if Path(link).is_dir()
                for part in ("--volume", f"{link}:{link}:ro")
            ]
        if index := sources.get("UV_DEFAULT_INDEX"):
            words += ["--build-arg", f"UV_DEFAULT_INDEX={index}"]
        if certificates := os.environ.get("SSL_CERT_FILE"):
            words += ["--volume", f"{certificates}:/certificates.pem:ro"]
            words += [
                part
                for name in ("SSL_CERT_FILE", "PIP_CERT")
                for part in ("--build-arg", f"{name}=/certificates.pem")
            ]
        command = [
            *self.buildah,
            "bud",
            "--isolation",
            "chroot",
            "--format",
            "docker",
            "--target",
            "cpu",
            *words,
        ]
        subprocess.run(
            [*command, "-t", "metaalign/server:cpu", "-f", "docker/server.Dockerfile", "."],
            check=True,
            cwd=ROOT,
        )

    def mounted(self) -> tuple[Path, dict[str, Any]]:
        """The image's root file system, and its configuration."""
        container = self.run("from", "metaalign/server:cpu")
        configuration = json.loads(self.run("inspect", container))["Docker"]["config"]
        return Path(self.run("mount", container)), configuration


def start(root: Path, configuration: dict[str, Any], port: int) -> subprocess.Popen[bytes]:
    """Start the image's entry point in its root file system, which is read-only."""
    inside = shlex.quote(str(root))
    mounts = [f"mount --bind {inside} {inside}", f"mount -o remount,bind,ro {inside}"]
    mounts += [f"mount -t tmpfs -o mode=1777 tmpfs {inside}{folder}" for folder in WRITABLE]
    mounts += [
        f"mount -t proc proc {inside}/proc",
        f"mount --rbind /dev {inside}/dev",
        f"mount --rbind /sys {inside}/sys",
    ]
    variables = [
        *configuration["Env"],
        f"METAALIGN_PORT={port}",
        "METAALIGN_HOST=127.0.0.1",
        "OMP_NUM_THREADS=1",
    ]
    enter = ["chroot", f"--userspec={configuration['User']}", str(root)]
    enter += ["/usr/bin/env", "-i", f"--chdir={configuration['WorkingDir']}", *variables]
    enter += [*configuration["Entrypoint"], *configuration["Cmd"]]
    script = " && ".join([*mounts, f"exec {shlex.join(enter)}"])
    return subprocess.Popen(["unshare", "--mount", "sh", "-c", script])


def ask(port: int) -> str:
    """Return what the server answers to a question."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/align",
        json.dumps({"query": "Tell me three things about the otter.", "temperature": 0}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return str(json.load(answer)["text"])


def ready(port: int) -> bool:
    """Whether the server is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Build the CPU image without a registry and ask it a question."
    )
    parser.add_argument("--port", type=int, default=18000)
    port: int = parser.parse_args().port
    folder = ROOT / "build" / "image"
    folder.mkdir(parents=True, exist_ok=True)
    image = Image(folder)
    started = time.monotonic()
    image.make_base()
    print(f"image-test: the base is there ({time.monotonic() - started:.0f} s)", flush=True)
    image.build()
    print(f"image-test: built ({time.monotonic() - started:.0f} s)", flush=True)
    root, configuration = image.mounted()
    compilers = [name for name in ("gcc", "g++", "cc", "clang") if (root / "usr/bin" / name).exists()]
    size = int(subprocess.check_output(["du", "-sm", str(root)]).split()[0])
    print(
        f"image-test: {size} MB, user {configuration['User']}, compilers: {compilers or 'none'}", flush=True
    )
    if compilers or not (root / "opt/metaalign/sbom.cdx.json").exists():
        return 1
    started = time.monotonic()
    process = start(root, configuration, port)
    try:
        while not ready(port):
            if process.poll() is not None or time.monotonic() - started > START_SECONDS:
                print(f"image-test: the server does not start, exit code {process.returncode}")
                return 1
            time.sleep(0.5)
        owner = os.stat(f"/proc/{process.pid}").st_uid
        print(f"image-test: ready after {time.monotonic() - started:.0f} s, as user {owner}", flush=True)
        print(f"image-test: it says {ask(port)!r}", flush=True)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    print(f"image-test: stopped with exit code {code}")
    return int(code != 0 or owner == 0)


if __name__ == "__main__":
    sys.exit(main())
