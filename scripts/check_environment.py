"""Compares the installed environment with the lock and `pyproject.toml`; run by `scripts/install.py` and `make lint`.

`python scripts/check_environment.py [--device cpu|cuda]` prints a line for each difference and exits with 1 if there
are any. It reports what `pip check` reports, except for the packages that are left out on purpose, and three things
that `pip check` does not see: pins, extras, and packages that must not be installed.
"""

import argparse
import importlib.util
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"


def read_requirements(path: Path) -> list[Requirement]:
    """The requirements in a file that apply to this Python."""
    lines = (line.partition(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [r for r in requirements if r.marker is None or r.marker.evaluate()]


def declared_requirements(device: str) -> list[Requirement]:
    """The requirements in pyproject.toml, with all extras for the device."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    names = ["server", "training", "dev", device]
    return [
        Requirement(text) for text in project["dependencies"] + [t for name in names for t in extras[name]]
    ]


def find_differences(device: str) -> Iterator[str]:
    """One sentence for each difference from the lock and pyproject.toml."""
    installed = {canonicalize_name(d.metadata["Name"]): d for d in metadata.distributions()}
    excludes = LOCKS / f"{device}-excludes.txt"
    left_out = (
        {canonicalize_name(r.name) for r in read_requirements(excludes)} if excludes.is_file() else set()
    )

    def unmet(requirement: Requirement, by: str) -> str | None:
        name = canonicalize_name(requirement.name)
        if name in left_out or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            return None
        found = installed.get(name)
        if found is None:
            return f"{by} asks for {requirement}, which is not installed"
        if not requirement.specifier.contains(found.version, prereleases=True):
            return f"{by} asks for {requirement} and {found.version} is installed"
        return None

    wanted = [(r, f"requirements/{device}.lock") for r in read_requirements(LOCKS / f"{device}.lock")]
    wanted += [(r, "pyproject.toml") for r in declared_requirements(device)]
    wanted += [(Requirement(text), name) for name, d in installed.items() for text in d.requires or ()]
    yield from sorted({line for requirement, by in wanted if (line := unmet(requirement, by))})
    yield from (
        f"{name} is installed and must not be: see {excludes.name}" for name in left_out & installed.keys()
    )
    for package in ("metaalign", "metaalign_server", "metaalign_training"):
        spec = importlib.util.find_spec(package)
        if spec is None or not str(spec.origin).startswith(f"{ROOT}/"):
            yield f"the package {package} is not the one in this repository: {spec.origin if spec else 'not found'}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the environment with the lock and pyproject.toml.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    differences = list(find_differences(parser.parse_args().device))
    for line in differences:
        print(f"environment: {line}", file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
