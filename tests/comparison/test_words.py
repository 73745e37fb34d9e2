"""What a comparison says of its numbers: what is settled, what is not, how many seeds it takes."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from purenoise.errors import RunError
from purenoise.lab.intervals import Estimate
from purenoise.lab.power import PEEKING
from purenoise.lab.records import read_records
from purenoise.lab.verdicts import verdict, verdicts
from purenoise.terminal.comparisontables import print_comparison

from ..fakeruns import fake_run, fake_runs, uneven_runs
from .support import compared


def test_one_seed_gives_no_interval_and_no_conclusion(root):
    """With one seed there is a difference, no interval, and the verdict says what it is worth."""
    found = compared(root / "drs" / "seed-0", root / "open" / "seed-0")
    assert found.differences[0].headline.estimate.low is None
    assert verdict(found.differences[0]).endswith("nothing can be concluded from it.")
    assert any("one seed" in note for note in found.notes)


def test_a_clear_difference_with_six_seeds_is_called_so(tmp_path):
    """Six seeds that all point one way settle it: p is 2/64, and the verdict says better."""
    fake_runs(tmp_path, {"drs": 0.5, "open": 3.0}, seeds=range(6))
    (d,) = compared(tmp_path).differences
    assert d.headline.p == pytest.approx(2 / 64)
    assert verdict(d).endswith("better.")


def test_seeds_that_would_settle_it_are_named_from_five_on(tmp_path):
    """Below five seeds the spread is hardly known and no number is said."""
    for n, said in ((4, False), (5, True)):
        fake_runs(tmp_path / str(n), {"drs": 1.5, "open": 1.7}, seeds=range(n))
        (d,) = compared(tmp_path / str(n)).differences
        assert "Not settled" in verdict(d)
        assert ("seeds would" in verdict(d)) == said
    assert "in 4 of 5 cases, if the true difference and spread are those seen." in verdict(d)
    assert "1,000 seeds would be needed, if" in verdict(replace(d, needed=None))


def test_a_number_of_seeds_is_to_be_fixed_beforehand(root):
    """A note says what adding seeds until p is small would be worth."""
    (note,) = [note for note in compared(root).notes if "beforehand" in note]
    assert f"about {100 * PEEKING:.0f} % of cases, not 5 %" in note


def test_the_first_sentence_counts_what_is_settled(root, tmp_path):
    """Over several differences one sentence comes first; a single one stands for itself."""
    assert verdicts(compared(root))[0] == (
        "Against drs, none of 2 differences is settled: with 3 seeds and 2 comparisons the exact "
        "test cannot go below p = 0.5."
    )
    fake_runs(tmp_path, {"erm": 0.3, "drs": 1.5, "open": 4.0}, seeds=range(8))
    said = verdicts(compared(tmp_path))
    assert said[0] == (
        "Against drs, 2 of 2 differences are settled: erm is worse and open is better."
    )
    assert len(said) == 3


def test_of_many_differences_the_common_part_is_said_once(tmp_path):
    """Each has a line with size, interval and verdict; where seeds come from is said at the end."""
    skills = {"erm": 0.3, "drs": 1.5, "open": 4.0, "rs": 1.6}
    fake_runs(tmp_path, skills, seeds=range(8))
    first, *each, corrected, last = verdicts(compared(tmp_path))
    assert first == "Against drs, 2 of 3 differences are settled: erm is worse and open is better."
    assert [line.partition(":")[0] for line in each] == ["erm", "open", "rs"]
    assert each[0].endswith(" 8 seeds: worse (p = 0.0234).")
    assert re.search(r"not settled \(p = [\d.]+\), .* seeds would settle it\.$", each[2])
    assert corrected == "Each p is after Holm's correction for 3 comparisons."
    assert last.startswith("Numbers of seeds that would settle")


def test_what_is_not_there_cannot_be_settled(tmp_path):
    """A mean of 0 has no number of seeds that would settle it, nor a word on such numbers."""
    fake_runs(tmp_path, {"drs": 1.5, "erm": 0.3, "open": 4.0, "rs": 1.5}, seeds=range(8))
    found = compared(tmp_path)
    assert len(verdicts(found)) == 5  # "rs" is drs: no p of it is told
    assert "seeds would settle" not in " ".join(verdicts(found))
    d = next(d for d in found.differences if d.label == "open")
    flat = replace(d.headline, estimate=Estimate(8, 0.0, 0.02, -0.01, 0.01), p=1.0)
    level = replace(d, metrics={**d.metrics, "accuracy": flat}, p_holm=1.0, needed=None)
    assert verdict(level).endswith("Not settled.")


@pytest.mark.parametrize(("n_seeds", "methods", "takes"), [(1, 3, 7), (1, 4, 8), (5, 4, 8)])
def test_as_many_seeds_as_are_named_suffice(tmp_path, n_seeds, methods, takes):
    """The number of seeds that the exact test takes is that for all methods, also from one seed."""
    names = ["drs", "erm", "open", "rs", "rw"][: methods + 1]
    fake_runs(tmp_path, {n: 1 + i for i, n in enumerate(names)}, seeds=range(n_seeds))
    (note,) = [note for note in compared(tmp_path).notes if "cannot reach" in note]
    assert note.endswith(f"and {methods} comparisons an exact sign-flip test cannot reach p = "
                         f"0.05; that takes {takes} seeds.")  # fmt: skip
    assert methods * 2 / 2**takes <= 0.05 < methods * 2 / 2 ** (takes - 1)


def test_what_cannot_be_compared_is_said(tmp_path):
    """One method, or no seed in common, is a sentence; one seed of each is no p at all."""
    fake_runs(tmp_path, {"drs": 0.5}, seeds=(0, 1))
    assert verdicts(compared(tmp_path / "drs" / "seed-0")) == []
    assert verdicts(compared(tmp_path)) == ["drs: nothing to compare it with."]
    fake_runs(tmp_path, {"open": 1.0, "erm": 1.0}, seeds=(2,))
    (said,) = verdicts(compared(tmp_path))
    assert said.startswith("No method has a seed in common with the baseline drs")
    fake_run(tmp_path / "drs" / "seed-2", "drs", 2, 0.5)
    assert verdicts(compared(tmp_path))[0] == (
        "Against drs, none of 2 differences is settled: over one seed no p can be had."
    )


def test_seeds_may_differ_and_verdicts_still_agree(tmp_path):
    """The least p is that of Holm's procedure with each pair's own seeds; one seed has no p."""
    fake_runs(tmp_path, {"drs": 0.5, "open": 4.0}, seeds=range(10))
    fake_runs(tmp_path, {"rs": 3.0}, seeds=range(6))
    fake_runs(tmp_path, {"erm": 0.3}, seeds=(0,))
    found = compared(tmp_path)
    by = {d.label: d for d in found.differences}
    assert {d.comparisons for d in found.differences} == {2}
    assert by["open"].least_p == pytest.approx(2 * 2 / 2**10)
    assert by["rs"].least_p == by["rs"].p_holm == pytest.approx(2 / 2**6)
    assert (by["erm"].p_holm, by["erm"].least_p) == (None, None)
    assert verdict(by["rs"]).endswith("p = 0.0312 after Holm's correction: better.")
    assert "2 of 3 differences are settled: open is better and rs is better." in verdicts(found)[0]
    (note,) = [note for note in found.notes if "cannot reach" in note]
    assert note.startswith("With 1 seed and 3 comparisons an exact")
    (alone,) = compared(tmp_path / "drs", tmp_path / "rs").differences
    assert "Holm" not in verdict(alone)


@pytest.mark.parametrize("width", [40, 46, 80])
def test_tables_of_balanced_accuracy_keep_names_whole(tmp_path, width):
    """Its longer head takes no room from the names."""
    shown = io.StringIO()
    found = compared(uneven_runs(tmp_path, ("drs", "balanced-softmax")))
    print_comparison(Console(file=shown, width=width), found)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(line.split()[0] for line in lines[: lines.index("")] if line.strip())
    assert "drs" in words
    assert "(baseline)" in shown.getvalue()
    assert "balanced-softmax" in words.replace("balanced- softmax", "balanced-softmax")


@pytest.mark.parametrize("width", [40, 50, 60, 80, 120])
def test_tables_fit_the_terminal(tmp_path, width):
    """Whatever the width, methods and numbers stay whole; what matters least gives way."""
    skills = {"drs": 1.2, "logit-adjustment": 1.8, "open+balanced-softmax": 2.1}
    fake_runs(tmp_path, skills, seeds=range(6))
    found, shown = compared(tmp_path), io.StringIO()
    print_comparison(Console(file=shown, width=width), found)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown.getvalue()
    table = lines[: lines.index("")]
    for row in found.rows:
        assert any(f" {100 * row.estimates['accuracy'].mean:.1f}" in line for line in table)
    words = " ".join(line.split()[0] for line in table if line.strip())
    assert "logit- adjustment" in words or "logit-adjustment" in words
    assert ("(best)" in table[0]) == (width >= 80)


def test_nothing_to_compare_is_said(tmp_path):
    """No folder, no run in it, or no finished run: each is a sentence."""
    with pytest.raises(RunError, match="There is no folder"):
        read_records([tmp_path / "nowhere"])
    with pytest.raises(RunError, match="There is no run in"):
        read_records([tmp_path])
    run = fake_run(tmp_path / "a")
    (run / "summary.json").unlink()
    with pytest.raises(RunError, match="no finished runs to compare") as caught:
        compared(tmp_path)
    assert "it is not finished" in caught.value.hint


def test_seeds_that_agree_to_the_image_have_no_interval(tmp_path):
    """Equal differences are not an interval without width; no difference at all is said so."""
    fake_runs(tmp_path, {"drs": 1.5, "open": 1.5}, seeds=(0, 1))
    (d,) = compared(tmp_path).differences
    same = replace(d.headline, estimate=Estimate(2, 0.0, 0.0, 0.0, 0.0))
    assert verdict(replace(d, metrics={"accuracy": same})) == (
        "open against drs: no difference in any of 2 seeds."
    )
    same = replace(d.headline, estimate=Estimate(2, 0.002, 0.0, 0.002, 0.002))
    said = verdict(replace(d, metrics={"accuracy": same}))
    assert "+0.20 points, the same, 2 seeds. Not settled" in said
    assert "interval" not in said


def test_methods_that_came_out_identical_are_named(tmp_path):
    """Equal answers with every seed are pointed out; equal accuracies alone are not."""
    fake_runs(tmp_path, {"drs": 1.5, "open": 1.5, "erm": 0.8}, seeds=(0, 1))
    (note,) = [note for note in compared(tmp_path).notes if "identical" in note]
    assert note.startswith("drs and open came out identical with every seed")
