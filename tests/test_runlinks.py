"""Links in a run's folder: nothing is written out of it; a folder that is a link itself is used."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import purenoise as pn
from purenoise import cli
from purenoise.errors import RunError
from purenoise.lab.sharing import ABANDONED, PhaseStore
from purenoise.ldamfiles import LdamFiles
from purenoise.runlinks import refuse_links, refuse_links_to
from purenoise.runlog import RunFolder, holding
from purenoise.training import State
from purenoise.wholefile import write_whole

WORDS: dict[str, Any] = {"method": "erm", "model": "small_cnn", "epochs": 1, "threads": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run."""
    return pn.train("digits", **WORDS, out=str(tmp_path_factory.mktemp("run"))).folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of it, beside an empty folder ``outside``."""
    (tmp_path / "outside").mkdir()
    return Path(shutil.copytree(finished, tmp_path / "run"))


def link(run: Path, name: str, to: str = "outside") -> Path:
    """Put a link out of the run in the place of a file or folder."""
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(run.parent / to)
    return place


def said(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it said of a fault."""
    monkeypatch.setattr("sys.argv", ["purenoise", *words])
    capsys.readouterr()
    try:
        cli.main()
    except SystemExit as left:
        return int(left.code or 0), capsys.readouterr().err
    return 0, ""


WRITERS: dict[str, Callable[[Path], list[str]]] = {
    "train": lambda run: ["train", str(run)],
    "adjust": lambda run: ["adjust", str(run), "tau=1"],
    "export": lambda run: ["export", str(run), "card"],
    "report": lambda run: ["report", str(run)],
}
LINKS = [
    *[("train", name, "outside") for name in ("state", "tb", "adjusted", "export", "phases")],
    *[("train", name, "outside/new") for name in ("lock", "metrics.csv", "events.jsonl",
                                                  "report.html", ".report.html.part")],
    ("adjust", "adjusted", "outside"), ("export", "export", "outside"),
    ("report", "report.html", "outside/new"), ("report", "report.md", "outside/new"),
    ("report", "report.csv", "outside/new"),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "name", "to"), LINKS)
def test_no_command_writes_through_a_link(
    run: Path, verb: str, name: str, to: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """Each command that writes into a run refuses a link out of it in a sentence that names it."""
    if verb == "train":
        (run / "summary.json").unlink()  # it has something left to do
    place = link(run, name, to)
    code, text = said(WRITERS[verb](run), monkeypatch, capsys)
    message = " ".join(text.split())
    assert code == 2
    assert message.count("purenoise: ") == 1
    assert f"{place} is a link out of {run}, to {run.parent / to}: nothing was written" in message
    assert list((run.parent / "outside").iterdir()) == []
    assert place.is_symlink()


def test_a_missing_report_is_not_written_through_a_link(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """A finished run whose report leads to a file that is not there gets none."""
    link(run, "report.html", "outside/new")
    code, text = said(["train", str(run)], monkeypatch, capsys)
    assert (code, "is a link out of" in text) == (2, True)
    assert not (run.parent / "outside" / "new").exists()


def test_commands_that_only_read_do_not_mind(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """A run whose files are links, as in a cache of downloads, is evaluated and exported away."""
    shutil.move(run / "weights.safetensors", run.parent / "blob")
    link(run, "weights.safetensors", "blob")
    link(run, "tb")
    assert said(["evaluate", str(run)], monkeypatch, capsys)[0] == 0
    away = run.parent / "there"
    assert said(["export", str(run), "card", f"to={away}/"], monkeypatch, capsys)[0] == 0
    assert (away / "card.md").is_file()
    assert said(["report", str(run)], monkeypatch, capsys)[0] == 0


@pytest.mark.parametrize("verb", WRITERS)
def test_the_run_folder_itself_may_be_a_link(
    run: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """A user who keeps runs on another disk by a link is not disturbed."""
    shutil.move(run, run.parent / "disk")
    run.symlink_to(run.parent / "disk")
    if verb == "train":
        (run / "summary.json").unlink()
    assert said(WRITERS[verb](run), monkeypatch, capsys)[0] == 0
    names = {"train": "summary.json", "adjust": "adjusted", "export": "export/card.md",
             "report": "report.csv"}  # fmt: skip
    assert (run.parent / "disk" / names[verb]).exists()


def test_out_may_be_a_link(tmp_path: Path):
    """So may the folder of all runs, also beside files that are called as a run's are."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    (tmp_path / "recipe.yaml").touch()
    folder = pn.train("digits", **WORDS, out=str(tmp_path / "runs")).folder
    assert (folder / "summary.json").is_file()


def test_links_that_stay_inside_are_harmless(run: Path):
    """A link from one file of a run to another, by whatever way, is no fault."""
    (run / "latest").symlink_to("events.jsonl")
    (run / "again").symlink_to(run / "latest")
    (run / "here").symlink_to(".")
    refuse_links(run)
    (run / "around").symlink_to("../run/../outside/x")
    with pytest.raises(RunError, match=r"around is a link out of .*outside/x"):
        refuse_links(run)


def test_a_name_that_begins_alike_is_not_inside(run: Path):
    """``run-2`` beside ``run`` is outside."""
    (run / "x").symlink_to("../run-2")
    with pytest.raises(RunError, match="is a link out of"):
        refuse_links(run, "x")


def test_links_within_links_are_followed_to_the_end(run: Path):
    """Each step of a path is looked at, and a chain of links by where it ends."""
    link(run, "one")
    (run / "two").symlink_to("one")
    (run / "deep").mkdir()
    (run / "deep" / "three").symlink_to("../two")
    with pytest.raises(RunError, match="three is a link out of"):
        refuse_links(run, "deep/three/file")
    refuse_links(run, "deep")
    refuse_links_to(run.parent / "elsewhere" / "file")
    with pytest.raises(RunError, match="is a link out of"):
        refuse_links_to(run / "two" / "file")


def test_a_part_that_is_a_link_is_not_written_through(tmp_path: Path):
    """Where the temporary file of a file belongs, a link is removed and its target stays."""
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".page.part").symlink_to(tmp_path / "victim")
    write_whole(tmp_path / "page", "new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "page").read_text() == "new"
    assert not (tmp_path / "page").is_symlink()


def test_a_comparison_holds_no_folder_with_links(tmp_path: Path):
    """The folder of a comparison is looked at before its lock is made."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "lock").symlink_to(tmp_path / "made")
    with pytest.raises(RunError, match="is a link out of"), holding(tmp_path / "c", RunError("")):
        pass
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("which", ["log", "model"])
def test_the_script_writes_through_no_link(tmp_path: Path, which: str):
    """Both folders of ``cifar_train.py`` are looked at before a run begins."""
    for name in ("log", "model"):
        (tmp_path / name).mkdir()
    place = tmp_path / which / "ckpt.pth.tar"
    place.symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match=r"ckpt\.pth\.tar is a link out of"):
        LdamFiles(tmp_path / "log", tmp_path / "model", {}, {}, print)


def state() -> State:
    """Return a small state."""
    record = {"phase": 0, "lr": 0.1, "loss": 1.0, "accuracy": 0.5, "seconds": 1.0}
    history = [{"epoch": epoch, **record} for epoch in range(3)]
    return State(3, 0, {"w": torch.ones(2)}, {"state": {}, "param_groups": []}, {}, history)


def test_the_store_of_phases_is_no_link(tmp_path: Path):
    """``phases`` beside the runs may not lead elsewhere; a link to a state is read, not written."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "phases").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="phases is a link out of"):
        PhaseStore(tmp_path / "out" / "phases").save("k", state(), {})
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_killed_processes_leave_in_the_store_is_not_believed(tmp_path: Path):
    """Half a state, or a whole one that was not renamed, is no state, and goes after an hour."""
    store = PhaseStore(tmp_path)
    store.save("k", state(), {})
    for name in (".new.1.part", ".other.2-3.part", "empty"):
        (tmp_path / name).mkdir()
    shutil.copy(tmp_path / "k" / "state.pt", tmp_path / ".new.1.part" / "state.pt")
    (tmp_path / ".other.2-3.part" / ".state.pt.part").write_bytes(b"half")
    for key in ("new", "other", "empty"):
        assert not store.has(key)
        assert store.load(key) is None
    store.save("other", state(), {})
    assert (tmp_path / ".new.1.part").exists(), "another process may be writing it"
    for name in (".new.1.part", ".other.2-3.part"):
        os.utime(tmp_path / name, (1, time.time() - ABANDONED - 1))
    store.save("new", state(), {})
    store.save("empty", state(), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "k", "new", "other"]
    assert all(PhaseStore(tmp_path).load(key) is not None for key in ("new", "other", "empty"))


def test_a_part_in_the_store_is_never_a_link(tmp_path: Path):
    """A link among the parts leads nowhere and its target stays, however old."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "mine").touch()
    os.utime(tmp_path / "victim", (0, 0))
    (tmp_path / "phases").mkdir()
    (tmp_path / "phases" / ".k.1.part").symlink_to(tmp_path / "victim")
    store = PhaseStore(tmp_path / "phases")
    store.save("k", state(), {})
    assert store.load("k") is not None
    assert [p.name for p in (tmp_path / "victim").iterdir()] == ["mine"]


def test_a_damaged_state_that_stays_is_read_once(tmp_path: Path):
    """A damaged state that cannot be removed, such as a link, is not tried for ever."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "state.pt").write_bytes(b"torn")
    (tmp_path / "phases").mkdir()
    (tmp_path / "phases" / "k").symlink_to(tmp_path / "elsewhere")
    store = PhaseStore(tmp_path / "phases")
    assert store.has("k")
    assert store.load("k") is None
    assert not store.has("k")
    assert (tmp_path / "elsewhere" / "state.pt").read_bytes() == b"torn"


def test_a_failed_write_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When a state cannot be written, what was begun is removed."""

    def full(*_: Any) -> None:
        raise RunError("full")

    monkeypatch.setattr("purenoise.lab.sharing.save_state", full)
    with pytest.raises(RunError, match="full"):
        PhaseStore(tmp_path).save("k", state(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_being_trained_says_so_first(finished: Path):
    """The folder of a good run is held as before."""
    files = RunFolder(finished)
    with files.held(), pytest.raises(RunError, match="another process"), files.held():
        pass
