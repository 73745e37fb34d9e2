"""What a set of runs says: means, pairs, corrections, notes, and what is refused or left out."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from purenoise.errors import RecipeError, RunError
from purenoise.lab.comparison import Comparison, analyse
from purenoise.lab.intervals import Estimate
from purenoise.lab.power import PEEKING
from purenoise.lab.records import read_records
from purenoise.lab.verdicts import verdict, verdicts
from purenoise.metrics import evaluate_logits
from purenoise.terminal.comparisontables import print_comparison

from .fakeruns import COUNTS, fake_logits, fake_run, fake_runs

SKILLS = {"drs": 1.2, "erm": 0.8, "open": 2.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return runs of three methods with three seeds."""
    return fake_runs(tmp_path_factory.mktemp("runs"), SKILLS)


def compared(*folders: Path, **options) -> Comparison:
    """Read and compare."""
    records, left_out = read_records(folders)
    return analyse(records, left_out=left_out, **options)


def accuracies(root: Path, method: str) -> list[float]:
    """Read the accuracies of a method's seeds straight from the files."""
    files = sorted((root / method).glob("seed-*/summary.json"))
    return [json.loads(file.read_text())["test"]["accuracy"] for file in files]


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
    first, *each, last = verdicts(compared(tmp_path))
    assert first == "Against drs, 2 of 3 differences are settled: erm is worse and open is better."
    assert [line.partition(":")[0] for line in each] == ["erm", "open", "rs"]
    assert each[0].endswith(" 8 seeds: worse (p = 0.0234).")
    assert re.search(r"not settled \(p = [\d.]+\), .* seeds would settle it\.$", each[2])
    assert last.startswith("Numbers of seeds that would settle")


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
        "Against drs, none of 2 differences is settled: with one seed no p can be had."
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
    assert note.startswith("With 1 seed and 2 comparisons an exact")
    (alone,) = compared(tmp_path / "drs", tmp_path / "rs").differences
    assert "Holm" not in verdict(alone)


def test_where_test_images_are_imbalanced_classes_count_alike(tmp_path):
    """Balanced accuracy is compared then, which is said; accuracy would turn the order round."""
    names, n_test = ("erm", "open"), (80, 20, 10, 5)
    right = {"erm": (80, 8, 2, 0), "open": (60, 14, 8, 4)}
    for name, seed in product(names, range(6)):
        run = fake_run(tmp_path / name / f"seed-{seed}", name, seed)
        labels = np.repeat(range(4), n_test)
        hits = [np.arange(n) < k + seed % 2 for n, k in zip(n_test, right[name], strict=True)]
        answers = np.where(np.concatenate(hits), labels, (labels + 1) % 4)
        test = evaluate_logits(np.eye(4)[answers], labels, COUNTS)
        edited(run, lambda s, test=test: s.update(test=test, n_test=int(sum(n_test))))
    found = compared(tmp_path)
    assert found.about == "balanced accuracy"
    (d,) = found.differences
    assert d.headline.estimate.mean > 0 > d.metrics["accuracy"].estimate.mean
    assert "points of balanced accuracy" in verdict(d)
    assert verdict(d).endswith("better.")
    assert "(5 to 80 a class, over 2 times), so it is balanced accuracy" in " ".join(found.notes)
    shown = io.StringIO()
    print_comparison(Console(file=shown, width=100), found)
    head = shown.getvalue().splitlines()[0]
    assert "balanced accuracy %" in head
    assert head.endswith(" accuracy %")
    assert "(best)" not in head


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


def test_other_protocols_are_refused_unless_mixed(root, tmp_path):
    """Runs of other epochs or another subset are no comparison; by force they are, with a note."""
    fake_run(tmp_path / "a", "erm", 0, overrides=["epochs=7"], subset_sha256="6" * 64)
    with pytest.raises(RunError, match=r"no comparison") as caught:
        compared(root / "drs", tmp_path)
    assert "train.epochs is" in caught.value.message
    assert "training images (subset) differ" in caught.value.message
    assert "mixed=true" in caught.value.hint
    found = compared(root / "drs", tmp_path, mixed=True)
    assert any(note.startswith("Not by one protocol: train.epochs") for note in found.notes)
    assert [row.label for row in found.rows] == ["drs:epochs=60", "erm:epochs=7"]
    assert found.baseline == "drs:epochs=60"  # with a name that says by which protocol
    assert compared(root / "drs", tmp_path, mixed=True, baseline="erm").baseline == "erm:epochs=7"


def test_other_classes_can_be_mixed_without_class_differences(root, tmp_path):
    """Runs on other classes set side by side have differences of means and none of classes."""
    fake_run(tmp_path / "a", "erm", 0, counts=(50, 20, 5))
    found = compared(root / "drs", tmp_path, mixed=True)
    assert found.differences[0].classes == ()
    assert found.differences[0].headline is not None


def test_changes_of_one_method_get_labels(root, tmp_path):
    """Two recipes of one method are told apart by what differs, with numbers cut short."""
    for delta in ("1/3", "0.5"):
        fake_run(tmp_path / delta.replace("/", "-"), "open", 0, overrides=[f"delta={delta}"])
    records, _ = read_records([tmp_path])
    assert [r.label for r in records] == ["open:delta=0.5", "open:delta=0.333333"]


def test_the_same_run_twice_is_refused(root, tmp_path):
    """A seed that comes twice is named with both folders."""
    fake_run(tmp_path / "copy", "drs", 1, 1.2)
    with pytest.raises(RunError, match="drs has seed 1 twice"):
        compared(root, tmp_path)


def test_unfinished_and_damaged_runs_are_left_out_by_name(root, tmp_path):
    """Runs that cannot be used are named with the reason; the others are compared."""
    unfinished = fake_run(tmp_path / "unfinished", "erm", 0)
    (unfinished / "summary.json").unlink()
    torn = fake_run(tmp_path / "torn", "erm", 1)
    (torn / "summary.json").write_text('{"status": "fin')
    lacking = fake_run(tmp_path / "lacking", "erm", 2)
    summary = json.loads((lacking / "summary.json").read_text())
    del summary["test"]["per_class"]
    (lacking / "summary.json").write_text(json.dumps(summary))
    odd = fake_run(tmp_path / "odd", "erm", 3, counts=(9, 8), environment="here")
    untested = fake_run(tmp_path / "untested", "erm", 4, test=None)
    nan = fake_run(tmp_path / "nan", "erm", 5)
    summary = json.loads((nan / "summary.json").read_text())
    summary["test"]["ece"] = math.nan
    (nan / "summary.json").write_text(json.dumps(summary))
    changed = fake_run(tmp_path / "changed", "erm", 6)
    text = (changed / "recipe.yaml").read_text().replace("epochs: 60", "epochs: 61")
    (changed / "recipe.yaml").write_text(text)
    found = compared(root / "drs", tmp_path).left_out
    assert {Path(path).name: why.split(":")[0] for path, why in found.items()} == {
        "unfinished": "it is not finished",
        "torn": "it cannot be read",
        "lacking": "its summary.json is damaged",
        "odd": "its summary.json is damaged",
        "untested": "it has no test images",
        "nan": "its summary.json is damaged",
        "changed": "it cannot be read",
    }
    assert odd.exists()
    assert untested.exists()


def edited(folder: Path, change: Callable[[dict], object]) -> Path:
    """Change a run's summary by hand."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["test"].update(accuracy=0.99), "test.accuracy is 0.99, and 0.62"),
        (lambda s: s["test"].update(accuracy=1.7), "test.accuracy Input should be less than"),
        (lambda s: s["test"].update(ece=-0.1), "test.ece Input should be greater than"),
        (lambda s: s["test"].update(nll=-3.0), "test.nll Input should be greater than"),
        (lambda s: s["test"]["groups"].update(few=0.9), "test.groups.few is 0.9, and 0."),
        (lambda s: s["test"].update(macro_f1=0.9), "test.macro_f1 is 0.9"),
        (lambda s: s["test"]["per_class"].__setitem__(2, None), "test.per_class.2 is None, and"),
        (lambda s: s["test"]["n_test"].__setitem__(0, 26), "test.n_test.0 is 26, and 25 by"),
        (lambda s: s["test"]["confusion"][1].__setitem__(1, 30), "n_test is 100, and"),
        (lambda s: s["test"]["confusion"][1].__setitem__(1, -1), "Input should be greater than"),
        (lambda s: s["test"]["confusion"][1].__setitem__(1, 10**40), "Input should be less than"),
        (lambda s: s["test"].update(confusion=[[0] * 4] * 4), "counts no test image"),
        (lambda s: s["test"].update(f1={"a": 1}), "test.f1 is {'a': 1}"),
        (lambda s: s.update(n_test=99), "n_test is 99, and test.confusion counts 100"),
        (lambda s: s["optimistic_best_on_test"].update(accuracy=2.0), "should be less than"),
    ],
)  # fmt: skip
def test_impossible_and_altered_results_are_left_out_by_name(root, tmp_path, change, said):
    """A number that cannot be, or that the confusion matrix does not give, is told with both."""
    bad = edited(fake_run(tmp_path / "bad", "erm", 0), change)
    found = compared(root / "drs", tmp_path)
    assert [row.label for row in found.rows] == ["drs"]
    assert list(found.left_out) == [str(bad)]
    assert said in found.left_out[str(bad)]


def adjust_by_hand(run: Path, name: str, skill: float = 2.5, **how: object) -> Path:
    """Write an adjusted result of a made-up run, in the layout of `purenoise adjust`."""
    base = json.loads((run / "summary.json").read_text())
    logits, labels = fake_logits(base["seed"], skill)
    test = evaluate_logits(logits, labels, base["counts"])
    folder = run / "adjusted" / name
    folder.mkdir(parents=True)
    prior = {"name": "uniform", "shares": [0.25] * 4}
    adjusted = {"method": name.rpartition("-")[0], "tau": None, "prior": prior, "fitted": None,
                "before": base["test"]}  # fmt: skip
    base["base"] = {"folder": "../..", "command": base["command"]}
    base["adjusted"] = adjusted | how
    base["test"] = test
    (folder / "summary.json").write_text(json.dumps(base))
    np.savez(folder / "predictions.npz", logits=logits, labels=labels)
    return folder


def test_adjusted_results_are_variants_of_their_runs(tmp_path):
    """They are paired seed by seed, named by what was done, and read from any folder above."""
    fake_runs(tmp_path, {"drs": 1.2, "erm": 0.8})
    for seed in range(3):
        run = tmp_path / "erm" / f"seed-{seed}"
        adjust_by_hand(run, "offsets-1", fitted={"l2": 1.0})
        adjust_by_hand(run, "logit-adjustment-2", 2.0, tau=0.5,
                       prior={"name": "train", "shares": [0.7, 0.1, 0.1, 0.1]})  # fmt: skip
        adjust_by_hand(run, "logit-adjustment-3", 1.9, tau=1.0)
        adjust_by_hand(run, "logit-adjustment-4", 1.9, tau=1.0)  # the same, said in other words
    found = compared(tmp_path)
    labels = ["erm:logit-adjustment", "erm:logit-adjustment:tau=0.5:prior=train", "erm:offsets"]
    assert sorted(row.label for row in found.rows) == ["drs", "erm", *labels]
    assert all(row.seeds == [0, 1, 2] for row in found.rows)
    (d,) = [d for d in found.differences if d.label == "erm:offsets"]
    x = [evaluate_logits(*fake_logits(seed, 2.5), COUNTS)["accuracy"] for seed in range(3)]
    expected = np.mean(np.array(x) - accuracies(tmp_path, "drs"))
    assert d.headline.estimate.mean == pytest.approx(expected, abs=1e-12)
    assert all(why.startswith("it is the same result as") for why in found.left_out.values())
    assert len(found.left_out) == 3
    alone = compared(*sorted(tmp_path.glob("erm/seed-*/adjusted/offsets-1")), tmp_path / "drs")
    assert {row.label for row in alone.rows} == {"drs", "erm:offsets"}


def test_adjusted_results_that_cannot_be_used_are_left_out_by_name(tmp_path):
    """Damaged ones, those of another training, and those of a run that is not finished are told."""
    run, other = (fake_run(tmp_path / name, "erm", seed) for seed, name in enumerate("ab"))
    kept = fake_run(tmp_path / "c", "erm", 2)
    adjust_by_hand(run, "offsets-1", before={"confusion": [[1]]})
    adjust_by_hand(run, "offsets-2", prior={"name": "uniform"})
    edited(adjust_by_hand(run, "offsets-3"), lambda s: s["test"].update(accuracy=0.99))
    edited(adjust_by_hand(run, "offsets-4"), lambda s: s.pop("base"))
    adjust_by_hand(other, "offsets-1")
    (other / "summary.json").unlink()
    found = compared(tmp_path)
    assert [r.folder for r in found.records] == [run, kept]
    said = {str(Path(path).relative_to(tmp_path)): why for path, why in found.left_out.items()}
    assert said.pop("b") == "it is not finished"
    assert said.pop("b/adjusted/offsets-1") == "its run is not finished"
    assert said.pop("a/adjusted/offsets-1") == "its run was trained again since: adjust it again"
    assert "adjusted.prior.shares: Field required" in said.pop("a/adjusted/offsets-2")
    assert "test.accuracy is 0.99" in said.pop("a/adjusted/offsets-3")
    assert "base: Field required" in said.pop("a/adjusted/offsets-4")
    assert not said


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


def test_optimistic_numbers_are_apart(root):
    """The best epoch on the test images is a field of its own and in no estimate."""
    row = compared(root).rows[0]
    assert row.optimistic == pytest.approx(row.estimates["accuracy"].mean + 0.02)


@pytest.mark.parametrize(
    "change", ["noise.kind=uniform", "batch_norm=shared", "stop_gradient=affine"]
)
def test_what_belongs_to_a_method_is_no_other_protocol(tmp_path, change):
    """Two kinds of noise, or of batch norm, are two methods by one protocol."""
    fake_run(tmp_path / "a", "open", 0, 1.0)
    fake_run(tmp_path / "b", "open", 0, 2.0, overrides=[change])
    found = compared(tmp_path)
    assert f"open:{change.removeprefix('noise.')}" in [row.label for row in found.rows]
    assert not any(note.startswith("Not by one protocol") for note in found.notes)


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


def test_other_class_names_are_another_protocol(root, tmp_path):
    """Runs on classes of other names are refused, and set side by side by force only."""
    fake_run(tmp_path / "a", "erm", 0, names=["a", "b", "c", "d"])
    with pytest.raises(RunError, match="class names differ"):
        compared(root / "drs", tmp_path)
    assert compared(root / "drs", tmp_path, mixed=True).differences[0].classes == ()
