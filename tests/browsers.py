"""A real Chromium for tests: found on this machine, or fetched by Playwright.

python -m tests.browsers    make sure that there is one, as `make test` does
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_HOW = (
    "no Chromium for the tests: set TEST_BROWSER to one, install your system's (Debian: apt-get install chromium), or"
    " let Playwright fetch its own (.venv/bin/playwright install --with-deps chromium)"
)


class BrowserMissing(RuntimeError):
    """No browser was found; the message says how to get one."""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A Chromium without a window until the block ends.

    Raises:
        BrowserMissing: there is none here.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(playwright))
        yield browser
        browser.close()


def _executable(playwright: Playwright) -> str | None:
    """Return the program to start; None for Playwright's own, which knows where its parts are."""
    if named := os.environ.get("TEST_BROWSER"):
        return named
    # Without a window Playwright starts a smaller build, which lies beside the one whose path it tells.
    whole = Path(playwright.chromium.executable_path).parent.parent
    if (whole.parent / whole.name.replace("chromium", "chromium_headless_shell")).is_dir():
        return None
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise BrowserMissing(_HOW)
    return found


def _ensure() -> int:
    try:
        with sync_playwright() as playwright:
            _executable(playwright)
    except BrowserMissing:
        fetch = [sys.executable, "-m", "playwright", "install", "chromium-headless-shell"]
        if subprocess.run(fetch, check=False).returncode:
            sys.stderr.write(f"tests: {_HOW}; until then the tests of the playground fail\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(_ensure())
