"""Runs to compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..fakeruns import fake_runs

SKILLS = {"drs": 1.2, "erm": 0.8, "open": 2.0}


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return runs of three methods with three seeds."""
    return fake_runs(tmp_path_factory.mktemp("runs"), SKILLS)
