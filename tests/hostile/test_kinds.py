"""Hostile input in the ordinary suite: each kind made by hand once, and some generated ones.

All of them, and thousands of generated ones: ``python -m tests.hostile --n 2000 --seed 0``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import page
from .fuzz import generated
from .kind import Kind, Outcome, attempt
from .table import KINDS
from .texts import written
from .warm import warm_up
from .watch import hurried

# The ordinary suite leaves out what takes long, and of run folders most absurd values.
SLOW = ("compressed zeros", "a comment of 200 MB", "a bomb of zeros", "a hundred thousand events",
        "400 MB of zeros", "40 MB")  # fmt: skip
OF_RUNS = ("report", "train", "evaluate", "adjust", "predict", "export")


def is_ordinary(kind: Kind) -> bool:
    """Return whether a kind is tried in the ordinary suite."""
    what = kind.name.partition(": ")[2]
    if kind.name.endswith(SLOW):
        return False
    if kind.group == "goes on":
        return any(word in what for word in ("good", "momentum", "out for s", "a device", "types"))
    if "a link out" in what:  # tests/test_runlinks.py
        return False
    if " is " in what or "summary without" in what:
        return kind.group == "evaluate" and not what.endswith(("null", "sequences"))
    if kind.group in ("report", "train"):
        return any(word in what for word in ("events", "markup", "link", "elsewhere"))
    return kind.group not in OF_RUNS[3:4] or "good" in what


ORDINARY = [kind for kind in KINDS if is_ordinary(kind)]
N = 80


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Load libraries and train the small run that others are made from."""
    warm_up()


def test_the_table_is_long_and_its_names_differ():
    """There are more than 60 kinds made by hand, each with a name of its own."""
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("group", sorted({kind.group for kind in ORDINARY}))
def test_made_by_hand(group: str):
    """Each kind is refused in a sentence or harmless, as the table says; nothing is executed."""
    random = np.random.default_rng(0)
    outcomes = [attempt(kind, random) for kind in ORDINARY if kind.group == group]
    assert outcomes
    assert [(o.kind.name, o.wrong) for o in outcomes if o.wrong] == []


def test_generated():
    """Good files with random changes, from a seeded generator, do no harm either."""
    random = np.random.default_rng(0)
    outcomes = [attempt(kind, random) for kind in generated(N, random)]
    assert [(o.kind.name, o.wrong) for o in outcomes if o.wrong] == []
    assert {o.result for o in outcomes} == {"refused", "harmless"}


@pytest.mark.long
def test_all_and_thousands():
    """Every kind, and 2,000 generated inputs."""
    random = np.random.default_rng(0)
    outcomes = [attempt(k, random) for k in [*KINDS, *generated(2000, random)]]
    assert [(o.kind.name, o.wrong) for o in outcomes if o.wrong] == []


def _executes(path: Path) -> Any:
    (path.parent / "ran").touch()


def _writes(path: Path) -> Any:
    (path.parent.parent / "outside" / "victim").write_text("yours")


def _fails(path: Path) -> Any:
    raise KeyError("no sentence")


def _starts(path: Path) -> Any:
    os.system("true")


def _waits(path: Path) -> Any:
    os.mkfifo(path.parent / "fifo")
    (path.parent / "fifo").read_bytes()


def _hoards(path: Path) -> Any:
    return np.ones(4 << 30, np.uint8)


@pytest.mark.parametrize("read", [_executes, _writes, _fails, _starts, _hoards])
def test_the_bench_sees_harm(read: Any):
    """A reader that executes, writes elsewhere, fails, starts a program or hoards is found out."""
    kind = Kind("test: bad reader", written("x", b""), read, "either")
    assert attempt(kind, np.random.default_rng(0)).result == "failed"


def test_the_bench_sees_waiting(monkeypatch: pytest.MonkeyPatch):
    """A reader that waits for ever is stopped and found out."""
    monkeypatch.setattr(hurried.__wrapped__, "__defaults__", (0.2,))
    kind = Kind("test: waits", written("x", b""), _waits, "either")
    assert attempt(kind, np.random.default_rng(0)).wrong == ["it took too long"]


def test_page_holds_the_counts():
    """docs/reliability.md says what the committed counts give: enough was tried, none failed."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.split(page.BEGIN)[1].split(page.END)[0].strip() == page.section()
    rows = page.read()
    by_hand = {row["group"]: int(row["tried"]) for row in rows if row["how"] == page.BY_HAND}
    assert by_hand.keys() == {kind.group for kind in KINDS}
    assert sum(by_hand.values()) >= 60
    made = page.sums([row for row in rows if row["how"] == page.GENERATED])
    assert made["tried"] >= 2000
    assert all(row["failed"] == "0" for row in rows)


def test_counts_of_a_seed_take_the_place_of_its_earlier_ones(tmp_path: Path):
    """Rows of other seeds stay; numbers add up."""
    kind = Kind("a: b", written("x", b""), _executes)
    page.write(tmp_path / "c.csv", 0, [Outcome(kind, "refused")], [Outcome(kind, "failed")])
    page.write(tmp_path / "c.csv", 2, [], [Outcome(kind, "harmless")] * 3)
    page.write(tmp_path / "c.csv", 0, [Outcome(kind, "refused")] * 2, [])
    rows = page.read(tmp_path / "c.csv")
    assert [(row["seed"], row["how"], row["tried"]) for row in rows] == [
        ("0", page.BY_HAND, "2"), ("2", page.GENERATED, "3"),
    ]  # fmt: skip
    assert page.sums(rows) == {"tried": 5, "refused": 2, "harmless": 3}
