"""Whole files with right checksums, but of another run: they are told from a run's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import purenoise as pn
from purenoise.errors import RunError
from purenoise.lab.records import read_records
from purenoise.network import load_run

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
    assert "summary.json cannot be read: it is of another run" in said
    assert "the end of the run is repeated" in said


def test_the_summary_of_another_run_is_left_out(
    mine: Path, trained: dict[str, Path], command: Command
) -> None:
    """A report and a comparison leave such a run out by name, and do not count its numbers."""
    shutil.copy(trained["other"] / "summary.json", mine)
    records, left_out = read_records([mine, trained["other"]])
    assert [record.folder for record in records] == [trained["other"]]
    assert "it is of another run" in left_out[str(mine)]
    words = ("methods=erm,drs", "seeds=1", "epochs=1", "threads=1", "jobs=1")
    assert command("compare", "digits", *words).code == 0
    folder = next(Path("runs").rglob("drs/seed-0"))
    shutil.copy(next(Path("runs").rglob("erm/seed-0")) / "summary.json", folder)
    again = command("compare", "digits", *words)
    assert "it is of another run" in " ".join(again.out.split())
    (folder / "summary.json").unlink()
    assert command("compare", "digits", *words).code == 0


def test_a_recipe_of_another_run_is_refused(mine: Path, trained: dict[str, Path]) -> None:
    """The recipe says what a run is, so its result is then another run's."""
    shutil.copy(trained["other"] / "recipe.yaml", mine)
    with pytest.raises(RunError, match="it is of another run"):
        load_run(mine)


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
