"""Runs the program on standard input, and says by name what it raised, as a traceback alone does not."""

import sys

try:
    exec(compile(sys.stdin.read(), "recipe", "exec"), {"__name__": "__main__"})  # noqa: S102 - the page's own
except Exception as error:  # noqa: BLE001 - each client has its own
    project = type(error).__module__.partition(".")[0]
    sys.stderr.write(f"\nRAISED {project}.{type(error).__name__}\n{error}\n")
    sys.exit(1)
