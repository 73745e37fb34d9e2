"""What adjusting a finished run must give, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import purenoise as pn
from purenoise.evaluate import evaluate_split
from purenoise.lab.records import read_records
from purenoise.metrics import evaluate_logits
from purenoise.network import load_run
from purenoise.posthoc import running as adjusting
from purenoise.posthoc.fitting import fit_offsets
from purenoise.posthoc.heads import adjust_logits
from purenoise.prepare import prepare

from ..support import snapshot
from .support import answer, predictions

METHODS = tuple(adjusting.METHODS)


def test_logit_adjustment_is_bayes_optimal_for_shifted_gaussians(
    runs: dict[str, Path],
) -> None:
    """A model with the exact posterior under one prior becomes the Bayes rule under another."""
    draws = np.random.default_rng(0)
    folder = runs["plain"]
    p = np.array(json.loads((folder / "summary.json").read_text())["counts"])
    p, classes = p / p.sum(), len(p)
    q = np.linspace(1, 3, classes) / np.linspace(1, 3, classes).sum()
    y = draws.choice(classes, 500, p=q)
    centres = draws.normal(0, 1.2, (classes, 4))
    x = centres[y] + draws.normal(0, 1, (500, 4))
    log_density = -((x[:, None] - centres) ** 2).sum(2) / 2
    posterior = log_density + np.log(p)  # what training under p ends in, at best
    answer(folder, posterior.astype(np.float32), y)
    found = pn.adjust_run(folder, "logit-adjustment", prior=q)
    bayes = (log_density + np.log(q)).argmax(1)
    after, _ = predictions(found.folder)
    assert (after.argmax(1) == bayes).mean() > 0.997  # but for ties of rounding
    assert found.metrics["accuracy"] == pytest.approx((bayes == y).mean(), abs=0.003)
    assert found.metrics["accuracy"] > found.before["accuracy"] + 0.1
    log_p = log_density + np.log(q)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    assert found.metrics["nll"] == pytest.approx(-log_p[np.arange(500), y].mean(), abs=1e-4)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_logits_are_adjusted_by_the_formula(runs: dict[str, Path], tau: float) -> None:
    """What is written are the run's logits, adjusted; metrics are those of these logits."""
    found = pn.adjust_run(runs["plain"], tau=tau, prior="train")
    (z, y), (after, labels) = predictions(runs["plain"]), predictions(found.folder)
    counts = found.summary["counts"]
    by_formula = adjust_logits(torch.from_numpy(z).double(), counts, counts, tau).numpy()
    gap = after - by_formula
    assert gap == pytest.approx(np.broadcast_to(gap[:, :1], gap.shape), abs=1e-4)  # one constant
    assert labels.tolist() == y.tolist()
    assert found.metrics == evaluate_logits(after, y, counts)
    assert found.before == json.loads((runs["plain"] / "summary.json").read_text())["test"]


def test_the_training_prior_changes_nothing(runs: dict[str, Path]) -> None:
    """Adjusted to the shares it was trained with, a run says what it said."""
    found = pn.adjust_run(runs["plain"], prior="train")
    assert found.metrics["per_class"] == found.before["per_class"]
    assert found.metrics["nll"] == pytest.approx(found.before["nll"], rel=1e-5)


def test_rare_classes_gain(runs: dict[str, Path]) -> None:
    """Plain training is biased to frequent classes; logit adjustment takes that from it."""
    found = pn.adjust_run(runs["plain"])
    assert found.metrics["groups"]["tail"] > found.before["groups"]["tail"]
    assert found.metrics["balanced_accuracy"] > found.before["balanced_accuracy"]


def test_temperature_changes_no_prediction(runs: dict[str, Path]) -> None:
    """A temperature fitted on validation images divides all logits by one number."""
    found = pn.adjust_run(runs["erm"], "temperature")
    (z, _), (after, _) = predictions(runs["erm"]), predictions(found.folder)
    value = found.summary["adjusted"]["temperature"]
    assert value != 1
    assert after == pytest.approx(z / value, rel=1e-5)
    assert found.metrics["confusion"] == found.before["confusion"]
    val = prepare(load_run(runs["erm"])[0].data).dataset.val
    assert f"Fitted on {len(val)} validation images" in found.notes[0]
    nll = found.summary["adjusted"]["fitted"]["nll"]
    assert nll[1] < nll[0]


def test_offsets_are_fitted_on_the_validation_images(runs: dict[str, Path]) -> None:
    """What is fitted is what fit_offsets gives for the run's validation logits and counts."""
    found = pn.adjust_run(runs["erm"], "offsets", l2=3.0)
    recipe, summary, model = load_run(runs["erm"])
    data = prepare(recipe.data)
    _, z = evaluate_split(model, data.dataset.val, data)
    wanted = fit_offsets(z, data.dataset.val.labels, summary["counts"], l2=3.0)
    assert found.summary["adjusted"]["shift"] == pytest.approx(wanted.values)
    assert found.summary["adjusted"]["fitted"]["strength"] == pytest.approx(wanted.strength)


@pytest.mark.parametrize("method", ["temperature", "offsets"])
def test_fitting_never_looks_at_the_test_images(
    runs: dict[str, Path], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other predictions and labels of the test images, and none to load: the same is fitted."""
    before = pn.adjust_run(runs["erm"], method).summary["adjusted"]
    z, y = predictions(runs["erm"])
    answer(runs["erm"], z[::-1], (y + 3) % 10)
    loaded = []
    real = adjusting.predict_logits

    def spy(model, images, *constants):
        loaded.append(len(images))
        return real(model, images, *constants)

    monkeypatch.setattr(adjusting, "predict_logits", spy)
    found = pn.adjust_run(runs["erm"], method)
    after = found.summary["adjusted"]
    assert loaded == [found.summary["n_val"]]
    assert [after[k] for k in ("shift", "temperature")] == [
        before[k] for k in ("shift", "temperature")
    ]
    assert found.metrics["accuracy"] != before["before"]["accuracy"]


def test_tau_norm_makes_weight_vectors_equally_long(runs: dict[str, Path], tmp_path: Path) -> None:
    """The saved network has weight vectors of length 1, no bias, and gives the written logits."""
    found = pn.adjust_run(runs["plain"], "tau-norm", save=tmp_path / "w.safetensors")
    recipe, _, model = load_run(runs["plain"])
    model.load_state_dict(load_file(tmp_path / "w.safetensors"))
    head = next(m for m in model.modules() if isinstance(m, nn.Linear))
    assert head.weight.norm(dim=1).tolist() == pytest.approx([1.0] * 10, rel=1e-5)
    assert head.bias.abs().max() == 0
    data = prepare(recipe.data)
    metrics, z = evaluate_split(model, data.dataset.test, data)
    assert z == pytest.approx(predictions(found.folder)[0], abs=1e-4)
    assert metrics["confusion"] == found.metrics["confusion"]


@pytest.mark.parametrize("method", ["logit-adjustment", "temperature", "offsets"])
def test_saved_weights_are_a_plain_network(
    runs: dict[str, Path], method: str, tmp_path: Path
) -> None:
    """The adjustment is folded into the last layer: same keys, and the adjusted logits come out."""
    path = tmp_path / "deep" / "adjusted.safetensors"
    found = pn.adjust_run(runs["erm"], method, save=path)
    recipe, _, model = load_run(runs["erm"])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    saved = load_file(path)
    assert saved.keys() == before.keys()
    changed = {k for k in saved if not torch.equal(saved[k], before[k])}
    assert len(changed) <= 2
    model.load_state_dict(saved)
    data = prepare(recipe.data)
    _, z = evaluate_split(model, data.dataset.test, data)
    assert z == pytest.approx(predictions(found.folder)[0], abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_run_itself_is_left_as_it_is(runs: dict[str, Path], method: str) -> None:
    """All that was in the folder is there unchanged; what is new lies in adjusted/."""
    before = snapshot(runs["erm"])
    found = pn.adjust_run(runs["erm"], method)
    after = snapshot(runs["erm"])
    assert {k: after[k] for k in before} == before
    new = {Path(k) for k in after.keys() - before.keys()}
    assert {p.name for p in new} == {"summary.json", "predictions.npz"}
    assert {p.parent for p in new} == {found.folder.relative_to(runs["erm"])}
    assert found.folder.parent.name == "adjusted"
    assert found.folder.name.startswith(f"{method}-")


def test_the_summary_has_the_shape_of_a_runs(runs: dict[str, Path]) -> None:
    """All keys of a run's summary are there, beside the adjustment and the run it came from."""
    found = pn.adjust_run(runs["plain"], prior="0.9," + ",".join(["0.01"] * 9))
    base = json.loads((runs["plain"] / "summary.json").read_text())
    written = json.loads((found.folder / "summary.json").read_text())
    checksums = written.pop("sha256"), base.pop("sha256")
    assert checksums[0] != checksums[1]
    told = json.loads(json.dumps(found.summary))
    assert written == {key: value for key, value in told.items() if key != "sha256"}
    assert base.keys() <= written.keys()
    assert written["base"]["digest"] == base["digest"]
    assert (found.folder / written["base"]["folder"]).resolve() == runs["plain"].resolve()
    assert written["test"].keys() == base["test"].keys()
    assert written["adjusted"]["prior"]["name"] == "given"
    assert written["optimistic_best_on_test"] == {"accuracy": None, "epoch": None}
    shares = np.array(written["adjusted"]["prior"]["shares"])
    assert shares[0] == pytest.approx(0.9 / 0.99)
    at = written["adjusted"]["accuracy_at_prior"]
    assert at["after"] == pytest.approx(shares @ np.array(written["test"]["per_class"]))


def test_each_setting_has_a_folder_and_the_same_setting_the_same(runs: dict[str, Path]) -> None:
    """Another tau or prior lands elsewhere; the same line again replaces its own files."""
    folders = [
        pn.adjust_run(runs["plain"], **how).folder
        for how in ({}, {"tau": 0.5}, {"prior": "train"}, {"prior": [1] * 9 + [2]}, {})
    ]
    assert folders[0] == folders[-1]
    assert len(set(folders)) == 4
    records, left_out = read_records([runs["plain"]], adjusted=False)
    assert (len(records), left_out) == (1, {})
    records, left_out = read_records([runs["plain"]])
    assert [r.label for r in records][:2] == ["erm", "erm:logit-adjustment"]
    assert len({r.label for r in records}) == 5
    assert not left_out
