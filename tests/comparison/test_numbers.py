"""What a set of runs says: means, pairs, corrections, notes, and what is refused or left out."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from purenoise.errors import RecipeError
from purenoise.lab.verdicts import verdict
from purenoise.terminal.comparisontables import print_comparison

from ..fakeruns import fake_run, uneven_runs
from .support import accuracies, compared


def test_means_and_intervals_are_students(root):
    """Each row has the plain mean of its runs and SciPy's t interval around it."""
    for row in compared(root).rows:
        x = accuracies(root, row.label)
        found = row.estimates["accuracy"]
        assert found.mean == pytest.approx(sum(x) / len(x), abs=1e-12)
        low, high = stats.t.interval(0.95, len(x) - 1, np.mean(x), stats.sem(x))
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_differences_are_seed_by_seed(root):
    """A difference is the mean of the differences of equal seeds, tested by all sign flips."""
    base = accuracies(root, "drs")
    for d in compared(root).differences:
        x = np.array(accuracies(root, d.label)) - base
        assert d.headline.estimate.mean == pytest.approx(x.mean(), abs=1e-12)
        flips = [abs(np.mean(x * s)) for s in product((1, -1), repeat=len(x))]
        expected = np.mean([f >= abs(x.mean()) - 1e-9 for f in flips])
        assert d.headline.p == pytest.approx(expected)
        assert d.seeds == (0, 1, 2)


def corrected(p: list[float]) -> list[float]:
    """Correct p values as Holm does, one at a time."""
    out, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, p[i] * (len(p) - rank)))
        out[i] = running
    return out


def test_holm_over_methods_and_classes(root):
    """Values of p are corrected over the methods, and within a method over its classes."""
    found = compared(root).differences
    assert [d.p_holm for d in found] == pytest.approx(corrected([d.headline.p for d in found]))
    for d in found:
        assert list(d.classes_p_holm) == pytest.approx(corrected([c.p for c in d.classes]))


def test_baseline_is_drs_or_the_first_or_what_is_asked_for(root):
    """Without a word drs is the baseline; a label that is not there is refused with a hint."""
    assert compared(root).baseline == "drs"
    assert compared(root, baseline="erm").baseline == "erm"
    assert compared(root / "erm", root / "open").baseline == "erm"
    with pytest.raises(RecipeError, match="'opne' is not among the methods") as caught:
        compared(root, baseline="opne")
    assert caught.value.hint == "Did you mean 'open'?"


def test_only_seeds_in_common_are_paired(root, tmp_path):
    """A method with other seeds is compared over those that both have, and a note says so."""
    fake_run(tmp_path / "erm" / "seed-1", "erm", 1, 0.8)
    fake_run(tmp_path / "erm" / "seed-7", "erm", 7, 0.8)
    found = compared(root / "drs", tmp_path)
    assert found.differences[0].seeds == (1,)
    assert any("same seeds" in note for note in found.notes)


def test_where_test_images_are_imbalanced_classes_count_alike(tmp_path):
    """Balanced accuracy is compared then, which is said; accuracy would turn the order round."""
    found = compared(uneven_runs(tmp_path))
    assert found.about == "balanced accuracy"
    (d,) = found.differences
    assert d.headline.estimate.mean > 0 > d.metrics["accuracy"].estimate.mean
    assert "points of balanced accuracy" in verdict(d)
    assert verdict(d).endswith("better.")
    assert "(5 to 80 a class, over 2 times), so it is balanced accuracy" in " ".join(found.notes)
    shown = io.StringIO()
    print_comparison(Console(file=shown, width=100), found)
    above, head = shown.getvalue().splitlines()[:2]
    assert above.split() == ["balanced"]
    assert head.index("accuracy %") - 2 <= above.index("balanced") <= head.index("accuracy %") + 2
    assert head.endswith(" accuracy %")
    assert "(best)" not in head


def test_optimistic_numbers_are_apart(root):
    """The best epoch on the test images is a field of its own and in no estimate."""
    row = compared(root).rows[0]
    assert row.optimistic == pytest.approx(row.estimates["accuracy"].mean + 0.02)
