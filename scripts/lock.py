"""Rewrites `requirements/cpu.lock` and `requirements/cuda.lock`: `make lock`, or `make lock ARGS=--upgrade`.

Existing pins are kept wherever they still fit pyproject.toml; `--upgrade` (or `--upgrade-package NAME`, as in uv)
upgrades them. uv resolves for all platforms at once, and lines for platforms that the locks do not cover are dropped.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from install import (
    LOCKS,
    ROOT,
    TORCH_CPU_INDEX,
    Environment,
    InstallError,
    create_environment,
    install_uv,
    pinned_version,
    say,
)

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORM = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
}
HEADERS = {
    "cpu": """\
# The complete environment for the CPU engine: Linux on x86_64 (glibc >= 2.31), CPython 3.11 to 3.14. By `make lock`.
# `make install` installs it with --no-deps, because requirements/cpu-excludes.txt is left out on purpose.
# Tested: installed and run on CPython 3.11. Not tested: 3.12 to 3.14, for which it was only resolved.
""",
    "cuda": """\
# The complete environment for the CUDA engine: Linux on x86_64 (glibc >= 2.31), CPython 3.11 to 3.14. By `make lock`.
# `make install DEVICE=cuda` installs it, into .venv-cuda.
# Tested: it resolves, and every pin has a wheel for each of these Pythons. Not tested: installing and running it.
""",
}


def reduce_markers(lines: list[str]) -> list[str]:
    """The lines that apply to our platform and Pythons, without markers that are true for all of them."""
    from packaging.markers import Marker  # imported late, because main() may have to install it first

    kept = []
    for line in lines:
        pin, _, comment = line.partition("  #")
        pin, _, marker = (part.strip() for part in pin.partition(" ; "))
        if marker:
            environments = [
                PLATFORM | {"python_version": v, "python_full_version": f"{v}.0"} for v in PYTHONS
            ]
            true = [Marker(marker).evaluate(dict(environment)) for environment in environments]
            if not any(true):
                continue
            if not all(true):
                pin = f"{pin} ; {marker}"
        kept.append(f"{pin}  # {comment.strip()}" if comment else pin)
    return kept


def compile_lock(environment: Environment, device: str, options: list[str]) -> list[str]:
    """Resolve pyproject.toml for one device, preferring the current pins; returns the lines of uv's output."""
    extras = ["server", "training", "dev", device]
    sources = environment.uv_sources()
    if device == "cuda":  # a folder that holds PyTorch's CPU build would win over the CUDA build
        sources.pop("UV_FIND_LINKS", None)
    excludes = LOCKS / f"{device}-excludes.txt"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / f"{device}.lock"
        present = LOCKS / f"{device}.lock"
        output.write_bytes(present.read_bytes() if present.is_file() else b"")
        command = [str(environment.folder / "bin" / "uv"), "pip", "compile", "pyproject.toml", "--quiet"]
        command += [f"--extra={extra}" for extra in extras]
        command += [f"--excludes={excludes}"] if excludes.is_file() else []
        command += ["--universal", f"--python-version={PYTHONS[0]}", "--no-header", "--annotation-style=line"]
        command += [f"--output-file={output}", *options]
        index = os.environ.get("METAALIGN_TORCH_INDEX", TORCH_CPU_INDEX)
        with_torch = sources | {"UV_INDEX": f"{sources.get('UV_INDEX', '')} {index}".strip()}
        said = ""
        for variables in [sources, with_torch] if device == "cpu" else [sources]:
            answer = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                check=False,
            )
            if answer.returncode == 0:
                return output.read_text(encoding="utf-8").splitlines()
            said += answer.stderr
    raise InstallError(f"uv found no solution for {device}:\n{said.strip()}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Rewrite the locks; other options go to `uv pip compile`.")
    parser.add_argument("--device", choices=("cpu", "cuda"), action="append", help="default: both")
    arguments, options = parser.parse_known_args()
    try:
        environment = create_environment(ROOT / ".venv")
        install_uv(environment, LOCKS / "cpu.lock")
        if not (environment.folder / "bin" / "uv").is_file():
            raise InstallError(
                f"uv is needed for this and could not be installed (details: {environment.log})"
            )
        if Path(sys.prefix) != environment.folder:
            environment.pip(
                "install", "--no-deps", f"packaging=={pinned_version(LOCKS / 'cpu.lock', 'packaging')}"
            )
            os.execv(environment.python, [str(environment.python), *sys.argv])  # noqa: S606 - the same program again
        for device in arguments.device or ("cpu", "cuda"):
            lines = reduce_markers(compile_lock(environment, device, options))
            (LOCKS / f"{device}.lock").write_text(HEADERS[device] + "\n".join(lines) + "\n", encoding="utf-8")
            say(f"requirements/{device}.lock has {len(lines)} pins")
    except InstallError as error:
        print(f"lock: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
