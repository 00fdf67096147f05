"""Creates this repository's Python environment: `python3 scripts/install.py [--device cpu|cuda]`.

`make` runs it before everything else. It uses only the standard library and works in five steps:

1. create a virtual environment: `.venv` for the CPU engine, `.venv-cuda` for the CUDA engine;
2. for the CPU, install PyTorch on its own (general package indexes do not have its CPU build);
3. install the pins of `requirements/<device>.lock`, with uv if it is available, otherwise with pip;
4. install this project as editable;
5. check that the environment matches the lock and `pyproject.toml`, and write a stamp.

While the stamp is valid, a run ends at once. Everything that pip and uv print goes to `install.log` in the environment.
"""

import sys

if sys.version_info < (3, 11):  # before any syntax that an older Python cannot parse
    sys.exit(
        "install: error: Python 3.11 or newer is needed and %s is %d.%d; name another: make PYTHON=python3.12 ..."
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )

import argparse
import ast
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# The oldest glibc that all wheels of both locks run on: llguidance's. On an older one pip would build it, in Rust.
GLIBC = (2, 31)

# pip's settings, and the variables that tell uv the same. uv does not read pip's configuration.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


class InstallError(Exception):
    """The environment cannot be created; the message is one line that says what to do."""


class Environment:
    """One virtual environment and the programs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.log = folder / "install.log"

    def run(self, *command: str, env: dict[str, str] | None = None) -> bool:
        """Run a command with its output in the log; returns whether it succeeded."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {shlex.join(command)}\n")
            log.flush()
            done = subprocess.run(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            log.write(f"exit status {done.returncode}\n")
        return done.returncode == 0

    def pip(self, *arguments: str) -> bool:
        return self.run(str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments)

    def uv(self, *arguments: str) -> bool:
        """Run `uv pip` with pip's sources; returns whether it succeeded, so false if there is no uv."""
        uv = self.folder / "bin" / "uv"
        command, rest = arguments[0], arguments[1:]
        return uv.is_file() and self.run(
            str(uv),
            "pip",
            command,
            "--python",
            str(self.python),
            *rest,
            env={**os.environ, **self.uv_sources()},
        )

    def uv_sources(self) -> dict[str, str]:
        """pip's configured sources (files and PIP_* variables) as uv's variables, unless these are already set."""
        listing = subprocess.run(
            [str(self.python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
        )
        variables = {
            "UV_INDEX_STRATEGY": "unsafe-best-match"
        }  # like pip: the best version of all sources together
        variables.update(parse_pip_config(listing.stdout))
        return {name: value for name, value in variables.items() if name not in os.environ}

    def has(self, name: str, version: str) -> bool:
        """Whether exactly this version of a distribution is installed."""
        folder_name = f"{name.replace('-', '_')}-{version}.dist-info"
        return any(self.folder.glob(f"lib/python*/site-packages/{folder_name}"))


def parse_pip_config(listing: str) -> dict[str, str]:
    """What `pip config list` printed, as uv's environment variables.

    A variable (`:env:`) takes precedence over a setting for `pip install`, and that over a global one.
    """
    rank = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, _, quoted = line.partition("=")
        section, _, option = key.strip().rpartition(".")
        if section not in rank or option not in UV_NAMES:
            continue
        values = str(ast.literal_eval(quoted.strip())).split()
        text = ("," if option in {"find-links"} else " ").join(values)
        name = UV_NAMES[option]
        if text and rank[section] >= found.get(name, (0, ""))[0]:
            found[name] = (rank[section], text)
    return {name: text for name, (_, text) in found.items()}


def say(message: str) -> None:
    print(f"install: {message}", flush=True)


def pinned_version(lock: Path, name: str) -> str:
    """The version that the lock pins for a distribution."""
    match = re.search(rf"^{re.escape(name)}==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise InstallError(f"{lock.relative_to(ROOT)} does not pin {name}: run `make lock`")
    return match.group(1)


def check_machine() -> None:
    """Refuse machines that the locks do not cover."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise InstallError(
            f"the locked environment is for Linux on x86_64 and this is {system} on {machine}: "
            "use a Linux container, or only the client: pip install ."
        )
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(int(part) for part in re.findall(r"\d+", version)) < GLIBC:
        raise InstallError(
            f"the locked wheels need glibc {GLIBC[0]}.{GLIBC[1]} or newer and this system has "
            f"{f'{libc} {version}'.strip() or 'another C library'}: use a newer system or a container, "
            "or only the client: pip install ."
        )
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise InstallError(
                f"{sys.executable} has no module {module}: install it (Debian and Ubuntu: apt-get install python3-venv)"
            )


def fingerprint(folder: Path, lock: Path) -> str:
    """Hash of everything that decides what the environment contains, including its own path (scripts contain it)."""
    digest = hashlib.sha256(f"{folder}\0{sys.version}\0".encode())
    for path in (lock, ROOT / "pyproject.toml", Path(__file__), ROOT / "scripts" / "check_environment.py"):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def create_environment(folder: Path) -> Environment:
    """The virtual environment; created again unless it is ours, has not been moved, and uses this Python."""
    environment = Environment(folder)
    origin = folder / "origin.txt"
    wanted = f"{folder}\n{sys.version}\n"
    if origin.is_file() and origin.read_text(encoding="utf-8") == wanted and environment.python.exists():
        return environment
    say(f"creating {folder.name} with Python {platform.python_version()}")
    if folder.exists():
        shutil.rmtree(folder)
    # In an activated environment, use the Python that it was made from: the folder may be the one in use.
    base = getattr(sys, "_base_executable", sys.executable)
    made = subprocess.run([base, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        last = (made.stderr or made.stdout).strip().splitlines() or ["no output"]
        raise InstallError(f"`{base} -m venv {folder}` failed: {last[-1]}")
    origin.write_text(wanted, encoding="utf-8")
    return environment


def install_uv(environment: Environment, lock: Path) -> None:
    """Install the pinned uv. It only makes the rest faster, so it is fine if this fails."""
    version = pinned_version(lock, "uv")
    if not environment.has("uv", version) and not environment.pip("install", "--no-deps", f"uv=={version}"):
        say("uv is not available, continuing with pip (minutes instead of seconds)")


def install_torch(environment: Environment, lock: Path) -> None:
    """Install PyTorch's CPU build from the sources that pip is configured with, or else from PyTorch's own index.

    It is not installed with the lock, because an unreachable index slows down every package that is looked up in it.
    """
    version = pinned_version(lock, "torch")
    if environment.has("torch", version):
        return
    say(f"installing torch {version}")
    install = ("install", "--no-deps", "--retries", "1", "--timeout", "30", f"torch=={version}")
    if environment.pip(*install):
        return
    index = os.environ.get("METAALIGN_TORCH_INDEX", TORCH_CPU_INDEX)
    say(f"pip's configured sources do not have it, trying {index}")
    if not environment.pip(*install, "--index-url", index):
        raise InstallError(
            f"no source has torch {version} for Python {platform.python_version()}, neither pip's configured ones nor "
            f"{index}: set METAALIGN_TORCH_INDEX to an index that has it, or PIP_FIND_LINKS to a folder with the wheel "
            f"(details: {environment.log})"
        )


def install_lock(environment: Environment, lock: Path) -> None:
    """Install exactly the pins, with `--no-deps`: the lock is complete, and leaves packages out on purpose."""
    pins = sum(1 for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line)
    say(f"installing the {pins} pins of {lock.relative_to(ROOT)}")
    if environment.uv("sync", "--compile-bytecode", str(lock)):
        return
    if (environment.folder / "bin" / "uv").is_file():
        say(f"uv failed (details: {environment.log}), continuing with pip (minutes instead of seconds)")
    if not environment.pip("install", "--no-deps", "-r", str(lock)):
        raise InstallError(
            f"neither uv nor pip could install {lock.relative_to(ROOT)} (details: {environment.log})"
        )


def install_project(environment: Environment) -> None:
    """Install this project as editable, built with the pinned hatchling."""
    editable = ("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    if not environment.uv(*editable) and not environment.pip(*editable):
        raise InstallError(f"this project could not be installed (details: {environment.log})")


def check_environment(environment: Environment, device: str) -> None:
    """Fail, naming every difference, unless the environment matches the lock and pyproject.toml."""
    script = str(ROOT / "scripts" / "check_environment.py")
    if subprocess.run([str(environment.python), script, "--device", device], check=False).returncode != 0:
        raise InstallError(
            "the environment does not match the lock and pyproject.toml (see above): run `make lock`"
        )


def install(device: str) -> None:
    """Create the environment, unless it exists and is up to date."""
    folder = ROOT / (".venv" if device == "cpu" else f".venv-{device}")
    lock = LOCKS / f"{device}.lock"
    stamp = folder / "installed.txt"
    wanted = fingerprint(folder, lock)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    started = time.monotonic()
    check_machine()
    environment = create_environment(folder)
    stamp.unlink(missing_ok=True)
    environment.log.unlink(missing_ok=True)
    install_uv(environment, lock)
    if device == "cpu":
        install_torch(environment, lock)
    install_lock(environment, lock)
    install_project(environment)
    check_environment(environment, device)
    stamp.write_text(wanted, encoding="utf-8")
    say(f"{folder.name} is ready ({time.monotonic() - started:.0f} s)")


def main() -> int:
    parser = argparse.ArgumentParser(description="Create this repository's Python environment.")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="engine to install (default: cpu)"
    )
    device = parser.parse_args().device
    repository = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(repository, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another install in this folder")
        fcntl.flock(repository, fcntl.LOCK_EX)
    try:
        install(device)
    except InstallError as error:
        print(f"install: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
