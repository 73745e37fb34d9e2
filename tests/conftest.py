"""What every test has: a cache of its own, so that none touches the user's."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where decoded images are kept, for this process and those it starts."""
    root = tmp_path_factory.mktemp("cache") / "root"
    monkeypatch.setenv("PURENOISE_CACHE", str(root))
    return root
