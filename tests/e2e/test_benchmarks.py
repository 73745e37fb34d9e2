"""The benchmarks: they run at toy size, keep rows, go on where they stopped, and make the page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks from the root of the checkout."""
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip


def test_every_benchmark_runs_at_toy_size(tmp_path):
    """One command measures everything in seconds; a second call finds it done."""
    first = benchmarks("--size", "toy", "--device", "cpu", "--out", str(tmp_path))
    assert first.returncode == 0, first.stderr
    from benchmarks.rows import COLUMNS, read

    rows = read(tmp_path / "cpu.csv")
    assert tuple(rows[0]) == COLUMNS
    kinds = {row["benchmark"] for row in rows if row["case"] != "all"}
    assert kinds == {"step", "switches", "memory kept", "epoch", "augmenting", "folder",
                     "listed", "commands", "comparing", "processes", "result"}  # fmt: skip
    assert all(float(row["low"]) <= float(row["median"]) <= float(row["high"]) for row in rows)
    assert all(row["torch"] == torch.__version__ and row["cpu"] for row in rows)
    found = {row["metric"]: float(row["median"]) for row in rows if row["benchmark"] == "step"}
    assert found["two-pass: waits for the device"] == found["plain: waits for the device"] == 0
    assert found["masked: waits for the device"] == 0
    assert found["listing: waits for the device"] == 7 * 8 - 0  # batch norms of ResNet-8: 7 + stem
    second = benchmarks("--size", "toy", "--device", "cpu", "--out", str(tmp_path))
    assert second.returncode == 0
    assert all(line.endswith("there already") for line in second.stdout.splitlines())
    assert read(tmp_path / "cpu.csv") == rows


def test_the_time_limit_leaves_the_rest_to_the_next_call(tmp_path):
    """With no minutes left nothing is begun and nothing written."""
    done = benchmarks("step", "--size", "toy", "--device", "cpu", "--minutes", "0", "--out",
                      str(tmp_path))  # fmt: skip
    assert done.returncode == 0
    assert "call again to go on" in done.stdout
    assert not list(tmp_path.iterdir())


def test_an_unknown_benchmark_is_refused():
    """A misspelt name is named beside those that there are."""
    done = benchmarks("stepp")
    assert done.returncode == 2
    assert "unknown: stepp; there are step," in done.stderr


def test_pages_are_made_of_the_committed_rows():
    """docs/speed.md and the README hold what `python -m benchmarks report` writes."""
    from benchmarks.report import PAGE, README, filled, shown

    page, readme = (path.read_text(encoding="utf-8") for path in (PAGE, README))
    assert filled(page) == page
    assert shown(readme) == readme


def test_ratios_are_taken_round_by_round_and_in_turns():
    """Every case is run once per round, each round beginning with another one."""
    from benchmarks.timing import alternate, ratios

    order: list[str] = []
    cases = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = alternate(cases, 3, torch.device("cpu"), warm_up=0)
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [len(values) for values in times.values()] == [3, 3, 3]
    assert ratios({"a": [1.0, 2.0], "b": [2.0, 8.0]}, "a", "b") == [0.5, 0.25]


def test_peak_memory_and_waits_are_counted():
    """A tensor of 4 MiB is seen, and so is a value that is read back."""
    from benchmarks.counting import peak_memory, waits, work

    cpu = torch.device("cpu")
    assert peak_memory(lambda: torch.ones(2**20).sum(), cpu) == pytest.approx(2**22, rel=0.01)
    assert waits(lambda: torch.ones(1).item(), cpu) == 1
    assert waits(lambda: torch.ones(4)[torch.ones(4) > 0], cpu) == 1
    assert waits(lambda: torch.ones(1) + 1, cpu) == 0
    a = torch.ones(8, 8)
    flops, touched = work(lambda: a @ a)
    assert (flops, touched) == (2 * 8**3, 3 * 4 * 64)
