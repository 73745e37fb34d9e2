"""Folders of images that change, are renamed, or are named otherwise between two commands."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from purenoise.runlog import read_events

from .support import SHORT, Command, equal_weights, make_images, only_run, snapshot

WORDS = ("train", "data=photos", "model=small_cnn", *SHORT, "save_seconds=0")


@pytest.fixture
def finished(command: Command) -> Path:
    """Return the folder of a finished run on ``photos``."""
    make_images(Path("photos"), {"a": 12, "b": 8})
    assert command(*WORDS).code == 0
    return only_run(Path("runs"))


def unfinish(run: Path) -> None:
    """Leave a run as if it had been killed after its last state."""
    for name in ("summary.json", "weights.safetensors", "predictions.npz"):
        (run / name).unlink()


def repaint(path: Path) -> None:
    """Put another image of the same size in the place of one: all counts stay."""
    pixels = np.random.default_rng(7).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def rename(root: Path) -> None:
    """Give all images of a folder names in another order."""
    for i, path in enumerate(sorted(root.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed {i:03}.png"))


def test_changed_image_is_refused_by_all(command: Command, finished: Path):
    """One other image, the counts as before: evaluate, train and resume say that data changed."""
    repaint(Path("photos/a/003.png"))
    before = snapshot(finished)
    for words in (("evaluate", finished), WORDS, ("train", finished)):
        message = command.refused(*words)
        assert f"The data are not those that {finished} was begun with" in message
        assert f"the images in '{Path('photos').resolve()}' have changed since." in message
        assert "Put the data back as they were, or train anew with out=FOLDER." in message
    assert snapshot(finished) == before
    unfinish(finished)
    before = snapshot(finished)
    for words in (WORDS, ("train", finished)):
        assert "have changed since" in command.refused(*words)
    assert snapshot(finished) == before
    assert command(*WORDS, "out=anew").code == 0


def test_moved_image_is_refused(command: Command, finished: Path):
    """Two images that change places between classes are other data."""
    Path("photos/a/000.png").rename("photos/b/new.png")
    Path("photos/b/000.png").rename("photos/a/new.png")
    assert "have changed since" in command.refused("evaluate", finished)


def test_renaming_is_harmless(command: Command, finished: Path):
    """After all files were renamed, a run is the same: evaluated, resumed and trained anew."""
    result = command("evaluate", finished, "--json")
    whole = Path("whole")
    shutil.copytree(finished, whole)
    rename(Path("photos"))
    assert command("evaluate", finished, "--json").out == result.out
    assert command(*WORDS).out.startswith("This run is finished")
    unfinish(finished)
    assert command(*WORDS).code == 0
    assert command(*WORDS, "out=anew").code == 0
    for run in (finished, only_run(Path("anew"))):
        assert equal_weights(run, whole)


def test_fingerprint_is_kept(finished: Path):
    """Summary and start event carry the same SHA-256."""
    (start,) = [e for e in read_events(finished / "events.jsonl") if e["event"] == "start"]
    summary = json.loads((finished / "summary.json").read_text())
    assert start["fingerprint"] == summary["fingerprint"]
    assert len(bytes.fromhex(summary["fingerprint"])) == 32


def test_finished_run_is_shown_without_its_images(command: Command, finished: Path):
    """The result of a run can be read when its images are gone."""
    shutil.rmtree("photos")
    assert command("train", finished).out.startswith("This run is finished")
    assert "no folder" in command.refused("evaluate", finished)


def test_run_is_evaluated_from_anywhere(command: Command, finished: Path):
    """A run on a folder given by a relative path works from another directory."""
    run = finished.resolve()
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")  # the fixture goes back
    assert command("evaluate", run).code == 0
    assert command("train", run).out.startswith("This run is finished")


def test_one_folder_has_one_run(command: Command, finished: Path):
    """`grey`, `grey/`, `./grey` and the whole path are one run."""
    Path("link").symlink_to("photos")
    for name in ("photos/", "./photos", Path("photos").resolve(), "link"):
        again = command("train", f"data={name}", *WORDS[2:])
        assert again.out.startswith("This run is finished"), name
    assert only_run(Path("runs")) == finished


def test_recipe_file_with_a_relative_root_has_no_suffix(command: Command):
    """A recipe that names its folder is no changed recipe."""
    make_images(Path("photos"), {"a": 12, "b": 8})
    Path("mine.yaml").write_text("data: photos\nmodel: small_cnn\ntrain: {epochs: 1}\nthreads: 1\n")
    assert command("train", "mine.yaml").code == 0
    assert only_run(Path("runs")).is_relative_to("runs/mine")
