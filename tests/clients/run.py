"""Other projects' clients at a real server: python -m tests.clients.run PYTHON, with a Python that has them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.processes import ROOT, environment, free_port, running


def main(python: str) -> int:
    """Serve the demo, and run the clients; return their exit code."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "metaalign_server.cli", "serve", "--port", str(port)]
        with running(command, url, Path(folder) / "log", env={"OMP_NUM_THREADS": "1"}, cwd=Path(folder)):
            program = [python, str(ROOT / "tests/clients/other_projects.py"), f"{url}/v1"]
            variables = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # it would ask the network for prices
            return subprocess.run(program, env=environment(variables), timeout=600, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
