"""Finished runs to adjust."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import purenoise as pn


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs: with validation images, without, and one that counters the imbalance."""
    out = tmp_path_factory.mktemp("runs")
    common = {"epochs": 12, "threads": 1, "batch_size": 64, "out": str(out)}
    runs = {
        "erm": pn.train("digits", method="erm", val_fraction=0.2, **common),
        "plain": pn.train("digits", method="erm", **common),
        "second": pn.train("digits", method="erm", seed=1, **common),
        "drs": pn.train("digits", method="drs", val_fraction=0.2, **common),
        "ldam": pn.train("digits", method="ldam", **common),
    }
    return {name: run.folder for name, run in runs.items()}


@pytest.fixture
def runs(trained: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of the finished runs, which a test may change."""
    return {
        name: Path(shutil.copytree(folder, tmp_path / "copies" / name))
        for name, folder in trained.items()
    }
