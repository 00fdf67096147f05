"""The commands, what they share, and how they end: 0 done, 1 refused or failed checks, 2 a wrong command line.

A command prints its result on standard output and everything else on standard error, in one line that says what to
do. It never shows a traceback for what a server or a user did.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence

from metaalign import __version__
from metaalign.cli import asking, checking, looking, managing, rendering, replaying, talking
from metaalign.cli.arguments import add_server
from metaalign.cli.output import note, told
from metaalign.errors import MetaAlignError

__all__ = ["main"]

_ELSEWHERE = {
    "serve": (("metaalign-server", "serve"), "metaalign[server,cpu]"),
    "train": (("metaalign-train",), "metaalign[training]"),
}
"""Command -> the program that it stands for, with its first arguments, and what to install for it."""

_INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metaalign",
        description="Ask a MetaAlign server, compare and test preferences, manage profiles and keys.",
    )
    parser.add_argument("--version", action="version", version=f"metaalign {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for room in (asking, rendering, talking, checking, replaying, managing, looking):
        room.add_commands(commands)
    for command, (program, _) in _ELSEWHERE.items():
        commands.add_parser(command, help=f"the same as `{' '.join(program)}`", add_help=False)
    for name, sub in commands.choices.items():
        if name not in (*_ELSEWHERE, "completion"):
            add_server(sub)
    completion = commands.add_parser("completion", help='for a shell: eval "$(metaalign completion bash)"')
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(run=lambda options: print(_completion(options.shell, sorted(commands.choices))))
    return parser


def _completion(shell: str, commands: Sequence[str]) -> str:
    """A script that completes the commands, and files after them."""
    words = " ".join(commands)
    if shell == "fish":
        return f"complete -c metaalign -n __fish_use_subcommand -f -a '{words}'"
    lines = [
        "_metaalign() {",
        f'    if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W \'{words}\' -- "$2"))',
        '    else COMPREPLY=($(compgen -f -- "$2")); fi',
        "}",
        "complete -F _metaalign metaalign",
    ]
    return "\n".join((["autoload -U +X bashcompinit && bashcompinit"] if shell == "zsh" else []) + lines)


def _elsewhere(command: str, arguments: Sequence[str]) -> int:
    (program, *first), needed = _ELSEWHERE[command]
    path = shutil.which(
        program, path=os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", "")))
    )
    if path is None:
        raise MetaAlignError(f"{program} is not installed: pip install '{needed}'")
    os.execv(path, [program, *first, *arguments])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in _ELSEWHERE:
            return _elsewhere(arguments[0], arguments[1:])
        options = _parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int | None] = options.run
        return run(options) or 0
    except MetaAlignError as error:
        note(f"metaalign: {told(error)}")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
