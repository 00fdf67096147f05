"""nginx with the configuration of the deployment on this machine; `python -m tests.stack.nginx` has nginx check it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.processes import ROOT, free_port

CONFIGURATION = ROOT / "docker/nginx"


def configure(folder: Path, port: int, servers: Sequence[str]) -> list[str]:
    """Write the configuration into `folder`, with other addresses only, and return the command that runs nginx.

    `folder/tls` holds the certificate. Debian's nginx is older than the image's and has HTTP/2 in `listen`.
    """
    shutil.copy(CONFIGURATION / "nginx.conf", folder)
    listen = (CONFIGURATION / "listen.conf").read_text(encoding="utf-8")
    listen = _replace(listen, "listen 8443 ssl;\nhttp2 on;", f"listen 127.0.0.1:{port} ssl http2;")
    (folder / "listen.conf").write_text(_replace(listen, "/run/tls/", f"{folder}/tls/"), encoding="utf-8")
    upstream = (CONFIGURATION / "upstream.conf").read_text(encoding="utf-8")
    (line,) = [line for line in upstream.splitlines() if "server:8000" in line]
    lines = "\n".join(line.replace("server:8000", server) for server in servers)
    (folder / "upstream.conf").write_text(_replace(upstream, line, lines), encoding="utf-8")
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return [program, "-p", f"{temporary}/", "-e", "stderr", "-c", str(folder / "nginx.conf")]


def _replace(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new)


def make_secrets(root: Path, host: str = "localhost") -> None:
    """Make what the service `secrets` makes, under `root` instead of /run."""
    script = ROOT / "docker/setup/make_secrets.py"
    subprocess.run([sys.executable, script, "--root", str(root), "--host", host], check=True, timeout=60)


def main() -> int:
    """Return nginx's verdict on its configuration, as an exit code."""
    with TemporaryDirectory(prefix="metaalign-nginx-") as name:
        make_secrets(Path(name))
        command = configure(Path(name), free_port(), ["127.0.0.1:8001", "127.0.0.1:8002"])
        return subprocess.run([*command, "-t"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
