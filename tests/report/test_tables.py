"""The tables of a report fit a page, and lose nothing by being parted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from purenoise.lab.comparison import Comparison, analyse
from purenoise.lab.records import METRICS, read_records
from purenoise.report.classes import class_tables, order, parted, per_class
from purenoise.report.html import breaking
from purenoise.report.metrictables import ACCURACIES, OTHERS, differences_tables, metrics_tables
from purenoise.report.wording import HEADS, number
from purenoise.terminal.tables import percent

from ..fakeruns import fake_run

METHODS = ("drs", "erm", "rs", "rw", "drw", "open", "focal", "balanced-softmax", "open+ldam",
           "crt", "lws", "mixup")  # fmt: skip


def made_up(root: Path, methods=METHODS, seeds=(0, 1)) -> Comparison:
    """Return a comparison of runs that were made up."""
    for i, method in enumerate(methods):
        for seed in seeds:
            fake_run(root / f"{i}-{seed}", method, seed, 1 + i / 10, epochs=1)
    return analyse(read_records([root])[0])


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Return twelve methods with two seeds each."""
    return made_up(tmp_path_factory.mktemp("runs"))


def test_tables_of_classes_are_narrow_and_whole(twelve):
    """However many methods there are, a table has few columns; together they say all once."""
    tables = class_tables(twelve, order(twelve))
    accuracy = [t for t in tables if " minus " not in t.caption]
    minus = [t for t in tables if " minus " in t.caption]
    assert [len(t.columns) for t in accuracy] == [3 + 6, 3 + 6]
    assert [len(t.columns) for t in minus] == [2 + 6, 2 + 6, 2 + 6, 2 + 4]
    labels = [row.label for row in twelve.rows]
    assert [h for t in accuracy for h in t.columns[3:]] == [f"{label} %" for label in labels]
    assert [h for t in minus for h in t.columns[2::2]] == [d.label for d in twelve.differences]
    for place, c in enumerate(order(twelve)):
        said = [cell.text for t in accuracy for cell in t.rows[place][3:]]
        assert said == [percent(per_class(row).mean(axis=0)[c]) for row in twelve.rows]
        said = [cell.text for t in minus for cell in t.rows[place][2::2]]
        assert said == [number("accuracy", d.classes[c].estimate.mean, signed=True)
                        for d in twelve.differences]  # fmt: skip
    assert len({t.caption for t in tables}) == len(tables)


def test_parts_are_even_and_lose_nothing():
    """Methods are parted evenly, in order, each once, never more than allowed at a time."""
    for n in range(30):
        for most in (1, 3, 8):
            parts = list(parted(range(n), most))
            assert [i for part, _ in parts for i in part] == list(range(n))
            sizes = [len(part) for part, _ in parts]
            assert max(sizes, default=0) <= most
            assert len(sizes) == -(-n // most)
            assert all(bool(which) == (len(parts) > 1) for _, which in parts)


def test_metrics_stand_in_two_tables_that_fit_a_page(twelve):
    """Accuracies and the other metrics have a table each; together all metrics, in any table."""
    assert {*ACCURACIES, *OTHERS} == set(METRICS)
    for tables, heads in (
        (metrics_tables(twelve), [HEADS[m] for m in METRICS]),
        (differences_tables(twelve), list(METRICS)),
    ):
        assert [h for t in tables for h in t.columns[1:]] == heads
        assert all(len(t.columns) <= 10 for t in tables)
        assert "less is better" in tables[1].caption
    values = [cell.value for t in metrics_tables(twelve) for cell in t.rows[3][1:]]
    assert values == [twelve.rows[3].estimates[m].mean for m in METRICS]


def test_one_seed_has_no_p_and_no_interval(tmp_path):
    """With one seed, tables of differences have no column of p and speak of no interval."""
    comparison = made_up(tmp_path, METHODS[:3], (0,))
    accuracy, minus = class_tables(comparison, order(comparison))
    assert minus.columns == ("class", "train", "erm", "rs")
    for table in (accuracy, minus, *differences_tables(comparison), *metrics_tables(comparison)):
        for word in ("mean", "interval", "Holm", "seed by seed"):
            assert word not in table.caption
    assert all(np.isfinite(cell.value) for row in minus.rows for cell in row[2:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("open+drs:tau=0.5", "open+<wbr>drs:<wbr>tau=<wbr>0.5"),
        ("a-<b>-c", "a-&lt;b&gt;-c"),
        ("a-<wbr>b", "a-&lt;wbr&gt;b"),
        ("-0.5 to +0.5; p = 1: no", "-0.5 to +0.5; p = 1: no"),
        ("&-x&amp;-y", "&amp;-x&amp;amp;-y"),
        ("", ""),
    ],
)
def test_names_may_break_and_stay_escaped(text, expected):
    """A break may come after a mark inside a name; numbers, spaces and markup are left alone."""
    assert breaking(text) == expected
