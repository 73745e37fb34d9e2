"""Which runs may be compared, and which are left out by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from purenoise.errors import RunError
from purenoise.lab.records import read_records
from purenoise.metrics import evaluate_logits

from ..fakeruns import COUNTS, fake_logits, fake_run, fake_runs
from .support import accuracies, compared, edited


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
        "lacking": "its summary.json is not used",
        "odd": "its summary.json is not used",
        "untested": "it has no test images",
        "nan": "its summary.json is not used",
        "changed": "it cannot be read",
    }
    assert odd.exists()
    assert untested.exists()


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


def test_other_class_names_are_another_protocol(root, tmp_path):
    """Runs on classes of other names are refused, and set side by side by force only."""
    fake_run(tmp_path / "a", "erm", 0, names=["a", "b", "c", "d"])
    with pytest.raises(RunError, match="class names differ"):
        compared(root / "drs", tmp_path)
    assert compared(root / "drs", tmp_path, mixed=True).differences[0].classes == ()
