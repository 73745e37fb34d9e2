"""Decoded images that are kept, as a user meets them: same runs, one note, nothing in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from .support import SHORT, Command, equal_weights, make_images, only_run

WORDS = ("train", "data=photos", "model=small_cnn", *SHORT)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of images that are not of this very moment."""
    root = make_images(tmp_path / "photos", {"a": 12, "b": 8})
    for path in root.rglob("*.png"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return root


@pytest.fixture
def command(command: Command, photos: Path) -> Command:
    """Return the command, with photos in its folder."""
    return command


def test_keeping_changes_no_result(command: Command):
    """Kept, kept elsewhere, not kept, read from disk or memory: one run, and the same weights."""
    first = command(*WORDS)
    assert first.code == 0
    assert "Decoded images are kept in" in " ".join(first.out.split())
    run = only_run(Path("runs"))
    for words in (("cache=off",), ("cache=mine",), ("cache_mib=5",), ("memory_mib=0",)):
        again = command(*WORDS, *words)
        assert again.out.startswith("This run is finished"), words
        assert only_run(Path("runs")) == run
        out = f"out={words[0]}"
        assert command(*WORDS, *words, out).code == 0
        assert equal_weights(only_run(Path(words[0])), run)
    assert len([path for path in Path("mine").iterdir() if path.is_dir()]) == 1


def test_second_command_opens_no_image(command: Command, monkeypatch: pytest.MonkeyPatch):
    """After `train`, `evaluate` and `inspect` open no image; `inspect` says where they are."""
    assert command(*WORDS).code == 0

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", refuse)
    assert command("evaluate", only_run(Path("runs"))).code == 0
    found = json.loads(command("inspect", "photos", "--json").out)
    assert "are kept in" in found["facts"]["decoded images"]
    assert not any("kept" in fault for fault in found["faults"])
    assert found["facts"]["sizes (H x W)"] == "12 x 12 (20)"


def test_off_in_a_recipe_file(command: Command, cache_root: Path):
    """`cache: off`, which YAML reads as false, is understood; other switches are refused."""
    lines = (
        "data: {name: folder, root: photos, cache: WORD}\nmodel: small_cnn\ntrain: {epochs: 1}\n"
    )
    Path("mine.yaml").write_text(lines.replace("WORD", "off"))
    assert command("train", "mine.yaml").code == 0
    assert not cache_root.exists()
    Path("mine.yaml").write_text(lines.replace("WORD", "on"))
    assert "data.cache: cannot be true" in command.refused("train", "mine.yaml")


def test_place_without_room_is_refused(command: Command):
    """A place that was asked for and has no room is a mistake with numbers and a way out."""
    message = command.refused(*WORDS, "cache=mine", "cache_mib=0")
    assert "cannot be kept" in message
    assert "data.cache=off" in message
    assert not Path("runs").exists()
    assert command(*WORDS).code == 0
    again = command(*WORDS, "cache=mine", "cache_mib=0")  # a finished run needs no pixels
    assert again.out.startswith("This run is finished")


def test_faulty_keys(command: Command):
    """Wrong values of the keys are refused in a sentence."""
    assert "cache_mib" in command.refused(*WORDS, "cache_mib=-1")
    assert "cache" in command.refused(*WORDS, "cache=")
    for word in ("yes", "on", "True"):
        assert f"such as ./{word}" in command.refused(*WORDS, f"cache={word}")
        assert not Path(word).exists()


def test_doctor_names_the_place(command: Command, cache_root: Path):
    """`doctor` says where decoded images are kept and what they take."""
    command("inspect", "photos")
    flat = "".join(command("doctor").out.split())
    assert "1folder,0.1MiB,in" in flat
    assert cache_root.name in flat
