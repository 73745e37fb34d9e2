"""Adjusting a finished run: what the numbers must be, what is written, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from results import rows
from safetensors.torch import load_file
from scipy import stats
from torch import nn

import purenoise as pn
from purenoise.errors import ModelError, PureNoiseError, RecipeError, RunError
from purenoise.evaluate import evaluate_split
from purenoise.lab.records import read_records
from purenoise.metrics import evaluate_logits
from purenoise.network import load_run
from purenoise.posthoc import running as adjusting
from purenoise.posthoc.fitting import fit_offsets
from purenoise.posthoc.heads import adjust_logits
from purenoise.prepare import prepare

from .support import Command, snapshot

METHODS = tuple(adjusting.METHODS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs: with validation images, without, and one that counters the imbalance."""
    out = tmp_path_factory.mktemp("runs")
    common = {"epochs": 12, "threads": 1, "batch_size": 64, "out": str(out)}
    runs = {
        "erm": pn.train("digits", method="erm", val_fraction=0.2, **common),
        "plain": pn.train("digits", method="erm", **common),
        "second": pn.train("digits", method="erm", seed=1, **common),
        "drs": pn.train("digits", method="drs", val_fraction=0.2, **common),
        "ldam": pn.train("digits", method="ldam", **common),
    }
    return {name: run.folder for name, run in runs.items()}


@pytest.fixture
def runs(trained: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of the finished runs, which a test may change."""
    return {
        name: Path(shutil.copytree(folder, tmp_path / "copies" / name))
        for name, folder in trained.items()
    }


def predictions(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that a folder holds."""
    with np.load(folder / "predictions.npz", allow_pickle=False) as kept:
        return kept["logits"], kept["labels"]


# What the numbers must be ---------------------------------------------------------------------


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
    np.savez(folder / "predictions.npz", logits=posterior.astype(np.float32), labels=y)
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
    np.savez(runs["erm"] / "predictions.npz", logits=z[::-1], labels=(y + 3) % 10)
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


# What is written ------------------------------------------------------------------------------


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


# Notes ----------------------------------------------------------------------------------------


def test_a_run_that_counters_imbalance_already_is_named(runs: dict[str, Path]) -> None:
    """Deferred resampling has taken the shares out: adjusting for them again is pointed out."""
    assert pn.adjust_run(runs["plain"]).notes == ()
    (note,) = pn.adjust_run(runs["drs"]).notes
    assert "samples by 'class-balanced'" in note
    assert "tau=0" in note
    (note,) = pn.adjust_run(runs["ldam"]).notes
    assert "its loss is 'ldam'" in note


def test_a_prior_from_test_labels_is_called_a_bound(runs: dict[str, Path]) -> None:
    """Reading the shares off the test labels is allowed and said."""
    assert "a bound" in pn.adjust_run(runs["plain"], prior="test").notes[-1]


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["temperature", "offsets"])
def test_fitting_needs_validation_images(runs: dict[str, Path], method: str) -> None:
    """A run without validation images is told how to get some."""
    with pytest.raises(RunError, match="has no validation images") as error:
        pn.adjust_run(runs["plain"], method)
    assert "val_fraction=0.1" in error.value.hint
    assert not (runs["plain"] / "adjusted").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=logit-ajustment"], "There is no adjustment 'logit-ajustment'.\nDid you mean"),
        (["method=tau-norm", "prior=train"], "tau-norm takes no prior: it belongs to"),
        (["method=temperature", "tau=2"], "temperature takes no tau"),
        (["l2=1"], "logit-adjustment takes no l2: it belongs to offsets"),
        (["tau=-1"], "tau is -1.0"),
        (["tau=big"], "tau must be a number, got 'big'"),
        (["tau=1/0"], "tau must be a number"),
        (["tau=1", "tau=2"], "tau is given twice"),
        (["prior=0.5,0.5"], "has 2 numbers, and the run has 10 classes"),
        (["prior=unifrom"], "There is no prior 'unifrom'"),
        (["temperature"], "'temperature' is no setting"),
        (["pirior=train"], "Did you mean 'prior'?"),
        (["save=weights.pt"], "Weights go to a .safetensors file"),
        (["method=offsets", "l2=0"], "must be a number above 0"),
    ],
)
def test_mistakes_get_a_sentence(
    runs: dict[str, Path], command: Command, words: list[str], message: str
) -> None:
    """Each is one message and exit code 2, and nothing is written."""
    before = snapshot(runs["erm"])
    assert message in command.refused("adjust", runs["erm"], *words)
    assert snapshot(runs["erm"]) == before


def test_unfinished_and_missing_runs_are_refused(runs: dict[str, Path], command: Command) -> None:
    """A run without a summary says how to go on; a folder that is no run says so."""
    (runs["plain"] / "summary.json").unlink()
    assert "is not finished" in command.refused("adjust", runs["plain"])
    assert "is not the folder of a run" in command.refused("adjust", runs["plain"].parent)


def test_damaged_predictions_are_refused(runs: dict[str, Path]) -> None:
    """Predictions that are cut short, or of other images, are not measured."""
    path = runs["plain"] / "predictions.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="cannot be read"):
        pn.adjust_run(runs["plain"])
    np.savez(path, logits=np.zeros((3, 10), np.float32), labels=np.zeros(3, int))
    with pytest.raises(RunError, match="is not of this run"):
        pn.adjust_run(runs["plain"])


def test_a_file_is_never_overwritten(runs: dict[str, Path], tmp_path: Path) -> None:
    """Weights go to a new file, least of all over the run's own."""
    own = runs["plain"] / "weights.safetensors"
    before = own.read_bytes()
    with pytest.raises(RunError, match="exists; it was left as it is"):
        pn.adjust_run(runs["plain"], save=own)
    assert own.read_bytes() == before


def test_what_cannot_be_folded_is_refused_and_writes_nothing(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """A cosine classifier has no bias and no lengths; its logits can still be adjusted."""
    for how in ({"method": "tau-norm"}, {"save": tmp_path / "w.safetensors"}):
        with pytest.raises(ModelError, match="not a linear layer"):
            pn.adjust_run(runs["ldam"], **how)
    assert not (runs["ldam"] / "adjusted").exists()
    assert not (tmp_path / "w.safetensors").exists()
    assert pn.adjust_run(runs["ldam"]).metrics["accuracy"] > 0


def test_python_and_errors_are_ours() -> None:
    """An unknown method is refused before the run is looked at, by an error of this package."""
    with pytest.raises(RecipeError) as error:
        pn.adjust_run("nowhere", "tua-norm")
    assert isinstance(error.value, PureNoiseError)
    assert "Did you mean 'tau-norm'?" in str(error.value)


# The command ----------------------------------------------------------------------------------


def test_the_command_prints_before_and_after(runs: dict[str, Path], command: Command) -> None:
    """A table with groups, calibration and likelihood, before, after and the change."""
    done = command("adjust", runs["erm"], "method=offsets")
    assert done.code == 0, done.err
    found = pn.adjust_run(runs["erm"], "offsets")
    lines = {line.split("  ")[0].strip(): line.split() for line in done.out.splitlines()}
    for name, key in (("balanced accuracy %", "balanced_accuracy"), ("macro-F1 %", "macro_f1")):
        before, after = 100 * found.before[key], 100 * found.metrics[key]
        assert lines[name][-3:] == [f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}"]
    assert lines["NLL"][-2] == f"{found.metrics['nll']:.3f}"
    assert {"few %", "tail %", "calibration error (ECE) %"} <= lines.keys()
    assert str(found.folder) in done.out
    assert "fitted strength" in done.out


def test_seeds_are_adjusted_together(runs: dict[str, Path], command: Command) -> None:
    """Of a folder of seeds, all are adjusted: mean, interval, and changes seed by seed."""
    above = runs["plain"].parent / "seeds"
    for seed, name in enumerate(("plain", "second")):
        shutil.copytree(runs[name], above / f"seed-{seed}")
    done = command("adjust", above)
    assert done.code == 0, done.err
    found = [pn.adjust_run(above / f"seed-{seed}") for seed in (0, 1)]
    changes = [100 * (f.metrics["macro_f1"] - f.before["macro_f1"]) for f in found]
    half = stats.t.ppf(0.975, 1) * stats.sem(changes)
    (line,) = [line for line in done.out.splitlines() if line.strip().startswith("macro-F1")]
    assert line.split()[-3:] == [f"{np.mean(changes):+.1f}", "±", f"{half:.1f}"]
    assert all(str(f.folder) in done.out for f in found)
    assert len(json.loads(command("adjust", above, "--json").out)) == 2
    assert "holds 2 runs" in command.refused("adjust", above, "save=w.safetensors")
    both = command.refused("adjust", *sorted(above.iterdir()))
    assert both.endswith("Of seeds name the folder that holds them.\n")
    shutil.copytree(runs["drs"], above / "seed-2")
    assert "differ in more than their seed" in command.refused("adjust", above)


def test_the_command_prints_json(runs: dict[str, Path], command: Command) -> None:
    """--json gives all metrics of both, for programs."""
    done = command("adjust", runs["plain"], "tau=1/2", "prior=train", "--json")
    content = json.loads(done.out)
    assert content["adjusted"]["tau"] == 0.5
    assert content["before"] == json.loads((runs["plain"] / "summary.json").read_text())["test"]
    assert content["after"].keys() == content["before"].keys()


def test_a_file_with_class_names_is_a_prior(
    runs: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    """Shares in a file are matched by name, in whatever order; a wrong name is told."""
    names = json.loads((runs["plain"] / "summary.json").read_text())["class_names"]
    shares = {name: i + 1 for i, name in enumerate(reversed(names))}
    (tmp_path / "prior.json").write_text(json.dumps(shares))
    done = command("adjust", runs["plain"], "prior=prior.json", "--json")
    found = json.loads(done.out)["adjusted"]["prior"]["shares"]
    assert found == pytest.approx([(10 - i) / 55 for i in range(10)])
    (tmp_path / "wrong.csv").write_text("cat,1\ndog,2\n")
    assert "names cat, dog, which the run does not know" in command.refused(
        "adjust", runs["plain"], "prior=wrong.csv"
    )


def test_the_commands_of_the_page_run(
    runs: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    """Every command of docs/adjusting.md does what it says."""
    page = Path(__file__).parents[2] / "docs" / "adjusting.md"
    block = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    names = json.loads((runs["erm"] / "summary.json").read_text())["class_names"]
    (tmp_path / "shares.json").write_text(json.dumps(dict.fromkeys(names, 0.1)))
    for line in block.splitlines():
        words = [str(runs["erm"]) if word == "RUN" else word for word in line.split()[1:]]
        done = command(*words)
        assert done.code == 0, (line, done.err)
    assert (tmp_path / "adjusted.safetensors").is_file()


def test_an_unfinished_run_among_several_is_named_and_left_out(
    trained: dict[str, Path], tmp_path: Path, command: Command
) -> None:
    """Of seeds 0 and 1, where 1 is not finished, only 0 is adjusted; with none finished none is."""
    folder = tmp_path / "erm"
    for seed, name in enumerate(("plain", "second")):
        shutil.copytree(trained[name], folder / f"seed-{seed}")
    (folder / "seed-1" / "summary.json").unlink()
    done = command("adjust", folder)
    assert done.code == 0, done.err
    assert "seed-1 is not finished" in done.err.replace("\n", "")
    (folder / "seed-0" / "summary.json").unlink()
    done = command("adjust", folder)
    assert done.code == 2
    assert "is finished" in done.err


def test_adjusted_results_stand_beside_their_runs(
    runs: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    """A report and a table of results read them as variants, seed by seed, with their own line."""
    for name in ("plain", "second"):
        command("adjust", runs[name], "tau=0.5")
        command("adjust", runs[name], "method=tau-norm")
    folders = [runs["plain"], runs["second"]]
    done = command("report", *folders, f"out={tmp_path / 'r.html'}")
    assert done.code == 0
    text = (tmp_path / "r.md").read_text()
    for label in ("erm:logit-adjustment:tau=0.5", "erm:tau-norm"):
        assert f"{label} against erm: " in done.out
        assert label in text
    assert r"afterwards adjusted by logit-adjustment \(tau 0.5, prior uniform\)" in text
    (adjusted,) = runs["plain"].glob("adjusted/tau-norm-*")
    assert command("report", adjusted, f"out={tmp_path / 'one.html'}").code == 0
    said = rows.collect(folders, "toy", tmp_path / "table")
    assert "6 new of 6 runs" in said[0]
    found = rows.read(tmp_path / "table" / "toy.csv")
    line = next(r["command"] for r in found if r["method"] == "erm:tau-norm")
    assert line.endswith("&& purenoise adjust RUN method=tau-norm")
    assert str(tmp_path) not in line
    assert "0 new of 6 runs" in rows.collect(folders, "toy", tmp_path / "table")[0]
