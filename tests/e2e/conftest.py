"""What every end-to-end test has: a command, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import Command


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return the command, with ``tmp_path`` as its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return Command(monkeypatch, capsys)
