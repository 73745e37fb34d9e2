"""Runs, and their report."""

from __future__ import annotations

from pathlib import Path

import pytest

from purenoise.report import report_runs

from ..fakeruns import fake_runs

SKILLS = {"drs": 1.2, "erm": 0.8, "open": 2.0}


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return runs of three methods with three seeds."""
    return fake_runs(tmp_path_factory.mktemp("runs"), SKILLS)


@pytest.fixture(scope="package")
def files(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Return their report as HTML, Markdown and CSV."""
    place = tmp_path_factory.mktemp("report") / "report.html"
    _, written = report_runs([root], out=place)
    assert [f.name for f in written] == ["report.html", "report.md", "report.csv"]
    page, markdown, table = (f.read_text(encoding="utf-8") for f in written)
    return page, markdown, table
