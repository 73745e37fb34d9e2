"""What `purenoise adjust` prints, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from results import rows
from scipy import stats

import purenoise as pn
from purenoise.errors import ModelError, PureNoiseError, RecipeError, RunError

from ..support import Command, snapshot


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
    page = Path(__file__).parents[3] / "docs" / "adjusting.md"
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
