"""Whole files with right checksums, but of another run: they are told from a run's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import purenoise as pn
from purenoise.errors import RunError
from purenoise.eventlog import is_of_another
from purenoise.lab.records import read_records
from purenoise.network import load_run
from purenoise.runlog import read_events

from .support import Command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return two finished runs that differ in their seed."""
    out = str(tmp_path_factory.mktemp("runs"))
    common = {"method": "erm", "epochs": 2, "threads": 1, "out": out}
    return {name: pn.train("digits", seed=seed, **common).folder
            for name, seed in (("mine", 0), ("other", 1))}  # fmt: skip


@pytest.fixture
def mine(trained: dict[str, Path], tmp_path: Path) -> Path:
    """Return a copy of the first run."""
    return Path(shutil.copytree(trained["mine"], tmp_path / "mine"))


@pytest.mark.parametrize("verb", ["train", "evaluate", "export", "adjust"])
def test_the_summary_of_another_run_is_refused(
    mine: Path, trained: dict[str, Path], command: Command, verb: str
) -> None:
    """Every command that reads a run says that its result is another run's."""
    shutil.copy(trained["other"] / "summary.json", mine)
    said = command.refused(verb, mine)
    assert "summary.json cannot be used: it is of the run with recipe" in said
    assert "the line that began the run repeats its end" in said


def test_the_summary_of_another_run_is_left_out(
    mine: Path, trained: dict[str, Path], command: Command
) -> None:
    """A report and a comparison leave such a run out by name, and do not count its numbers."""
    shutil.copy(trained["other"] / "summary.json", mine)
    records, left_out = read_records([mine, trained["other"]])
    assert [record.folder for record in records] == [trained["other"]]
    assert "summary.json is not used: it is of the run with recipe" in left_out[str(mine)]
    words = ("methods=erm,drs", "seeds=1", "epochs=1", "threads=1", "jobs=1")
    assert command("compare", "digits", *words).code == 0
    folder = next(Path("runs").rglob("drs/seed-0"))
    shutil.copy(next(Path("runs").rglob("erm/seed-0")) / "summary.json", folder)
    again = command("compare", "digits", *words)
    assert "it is of the run with recipe" in " ".join(again.out.split())
    (folder / "summary.json").unlink()
    assert command("compare", "digits", *words).code == 0


def test_a_recipe_of_another_run_is_refused(mine: Path, trained: dict[str, Path]) -> None:
    """The result is no more to blame than the recipe, and nobody is told to remove it."""
    own = (mine / "recipe.yaml").read_bytes()
    shutil.copy(trained["other"] / "recipe.yaml", mine)
    with pytest.raises(RunError, match=r"and recipe\.yaml is") as caught:
        load_run(mine)
    assert caught.value.hint.startswith("One of the two is another run's")
    (mine / "recipe.yaml").write_bytes(own)
    load_run(mine)


def test_the_curves_of_another_run_are_not_drawn(
    mine: Path, trained: dict[str, Path], command: Command
) -> None:
    """A log says which run it is of; a report leaves another run's out and says so."""
    shutil.copy(trained["other"] / "events.jsonl", mine)
    assert command("report", mine, "out=page.html").code == 0
    assert "they are of another run" in Path("page.html").read_text()
    shutil.copy(trained["mine"] / "events.jsonl", mine)
    assert command("report", mine, "out=page.html").code == 0
    assert "they are of another run" not in Path("page.html").read_text()


def test_the_log_of_another_run_is_not_gone_on_with(
    mine: Path, trained: dict[str, Path], command: Command
) -> None:
    """A run that goes on drops it, and writes the epochs again from its state."""
    shutil.copy(trained["other"] / "events.jsonl", mine)
    (mine / "summary.json").unlink()
    done = command("train", mine)
    assert done.code == 0
    assert "events.jsonl was of another run; it is events.other.jsonl now" in done.out
    theirs = (trained["other"] / "events.jsonl").read_bytes()
    assert (mine / "events.other.jsonl").read_bytes() == theirs
    events = read_events(mine / "events.jsonl")
    digests = {event["digest"] for event in events if event["event"] == "start"}
    assert len(digests) == 1
    right = [e["loss"] for e in read_events(trained["mine"] / "events.jsonl") if "loss" in e]
    assert [event["loss"] for event in events if "loss" in event] == right
    assert not is_of_another(events, digests.pop())


def test_a_summary_without_a_digest_is_of_any_run(mine: Path) -> None:
    """Where nothing says which run a result is of, it is the folder's."""
    content = json.loads((mine / "summary.json").read_text())
    del content["sha256"], content["digest"]
    (mine / "summary.json").write_text(json.dumps(content))
    records, left_out = read_records([mine])
    assert [record.folder for record in records] == [mine]
    assert left_out == {}


@pytest.mark.parametrize("verb", ["evaluate", "export", "predict"])
def test_the_weights_of_another_run_are_refused(
    mine: Path, trained: dict[str, Path], command: Command, verb: str
) -> None:
    """A network that would give other answers than the run's is not used."""
    shutil.copy(trained["other"] / "weights.safetensors", mine)
    assert "holds the weights of another run" in command.refused(verb, mine, *["."] * (
        verb == "predict"))  # fmt: skip


def test_the_predictions_of_another_run_are_refused(
    mine: Path, trained: dict[str, Path], command: Command
) -> None:
    """What is adjusted are the run's own answers."""
    shutil.copy(trained["other"] / "predictions.npz", mine)
    assert "does not give the run's result" in command.refused("adjust", mine)
    assert not (mine / "adjusted").exists()
