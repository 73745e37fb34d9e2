"""The script, in a folder with tiny files."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from torchvision import datasets

from .support import SCRIPT, SMALL, Script, fake


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose ``data`` holds a tiny CIFAR-10 and CIFAR-100."""
    fake(tmp_path / "data", datasets.CIFAR10, monkeypatch, 10, "labels")
    fake(tmp_path / "data", datasets.CIFAR100, monkeypatch, 100, "fine_labels")
    monkeypatch.setattr("purenoise.runtime.available_cores", lambda: 1)  # quicker than two here
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def script() -> Script:
    """The script's ``main``, with the small network added to the words."""
    main = runpy.run_path(str(SCRIPT))["main"]
    return lambda *words: main([*SMALL, *words])
