"""`metaalign`: ask a server, talk with it, compare and test preferences, and manage profiles and keys."""

from metaalign.cli.main import main

__all__ = ["main"]
