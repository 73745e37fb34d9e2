"""The short form of the bench: a dozen trials of each, in one process that forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import page
from .tally import BAD

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def bench(name: str, n: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Run a bench in a process of its own, whose parent has no threads."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", name, "--n", str(n), "--seed", str(seed)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "n"), [("kills", 8), ("files", 13), ("disk", 8)])
def test_nothing_is_lost(name: str, n: int):
    """Killed, damaged or without room, each run goes on to the equal result or says why not."""
    done = bench(name, n, seed=11)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    tried = int(last.split()[0])
    assert last == f"{tried} tried, 0 lost"
    assert tried >= n


def test_a_long_run_in_short():
    """A few epochs through the bench of long runs: watched, killed, equal."""
    done = bench("soak", 8, seed=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 epochs, then again with kills: equal" in done.stdout
    assert "MiB of memory after a quarter of the epochs, and at most: " in done.stdout
    assert "not seen" not in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(("name", "n"), [("kills", 500), ("files", 300), ("disk", 100)])
def test_nothing_is_lost_in_hundreds(name: str, n: int):
    """The long form of the same."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", name, "--n", str(n)], cwd=ROOT, check=False
    )
    assert done.returncode == 0


def test_page_holds_the_counts():
    """The tables in docs/reliability.md are what the committed counts give, and none is lost."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.split(page.BEGIN)[1].split(page.END)[0].strip() == page.tables()
    counts, _ = page.read()
    assert {bench for bench, *_ in counts} == {"kills", "files", "disk", "soak"}
    assert not [row for row in counts if row[2] == BAD]
