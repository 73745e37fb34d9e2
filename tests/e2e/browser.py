"""A headless Chromium for tests of pages, where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator[Any]:
    """Start the browser, or skip the test where there is none.

    It is looked for in the environment variable PURENOISE_BROWSER (a path), in Playwright's own
    place and on PATH. With PURENOISE_NEED_BROWSER=1 its absence is a failure.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _missing("the package playwright is not installed")
    with sync_playwright() as play:
        own = play.chromium.executable_path
        path = os.environ.get("PURENOISE_BROWSER") or (
            own if os.path.exists(own) else next(filter(None, map(shutil.which, NAMES)), None)
        )
        if path is None:
            _missing("no Chromium was found")
        try:
            # Without a sandbox of its own, which root and most containers do not let it have.
            found = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            _missing(f"{path} does not start: {str(error).splitlines()[0]}")
        try:
            yield found
        finally:
            found.close()


def _missing(reason: str) -> None:
    if os.environ.get("PURENOISE_NEED_BROWSER") == "1":
        pytest.fail(f"A browser is needed here, and {reason}.")
    pytest.skip(f"Pages are not looked at in a browser: {reason}.")
