"""A card is published: no folder of the machine where the run was made stands in it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import purenoise as pn
from purenoise.export.private import public_line, public_notes, public_text
from purenoise.models import build_model

from ..data.support import SIDE, only_folder, plain, scan
from ..e2e.conftest import command  # noqa: F401 - a fixture
from ..e2e.support import make_images

# What stands by itself and begins at the root, a home or a drive.
ABSOLUTE = re.compile(r"(?<![\w.)*])(?:~/|/|[A-Z]:\\)\w")


@pytest.mark.parametrize("relative", [False, True])
def test_no_path_of_the_machine_is_in_a_card(relative, command, tmp_path, monkeypatch):  # noqa: F811
    """With images, a cache, weights and an out of one's own, names of files alone are said."""
    home = tmp_path / "home of eve"
    images = make_images(home / "my photos", {"cat": 8, "dog": 4}, size=16)
    file = home / "first weights.pth.tar"
    torch.save(build_model("resnet8", 7, in_channels=3, generator_seed=0).state_dict(), file)
    monkeypatch.chdir(home)
    places = {"data": images, "model.weights": file, "data.cache": home / "kept", "out": home / "o"}
    words = [f"{k}={v.relative_to(home) if relative else v}" for k, v in places.items()]
    words += ["model=resnet8", "epochs=1", "threads=1", "batch_size=4", "image_size=16"]
    made = command("train", *words)
    assert made.code == 0, made
    run = next((home / "o").rglob("summary.json")).parent
    card = pn.export_run(run, "card").path.read_text()
    assert "home of" not in card
    assert str(tmp_path) not in card
    assert not ABSOLUTE.search(card), ABSOLUTE.search(card)
    assert "Decoded images" not in card
    assert "data.cache=off" not in card
    assert "in first weights.pth.tar is for 7 classes" in card.replace("\\", "")
    assert ("places of files as they are on your machine" in card) is not relative


def test_notes_on_caches_are_known_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every sentence that the cache can say is left out: kept, not kept, damaged, removed, full."""
    first, second, place = plain(tmp_path / "1"), plain(tmp_path / "2"), tmp_path / "kept"
    said = [*scan(first, place).notes]
    old = only_folder(place)
    (old / "index.npz").write_bytes(b"damaged")
    said += scan(first, place).notes
    for pixels in old.glob("pixels*"):
        pixels.unlink()
    said += scan(first, place).notes
    said += scan(second, place).notes
    row = SIDE * SIDE * 3
    said += scan(second, place, limit=12 * row).notes
    said += scan(second, place, limit=row).notes
    said += scan(first, place, limit=1).notes
    with monkeypatch.context() as patch:
        patch.setattr("purenoise.data.cache.os.pwrite", _full)
        said += scan(first, tmp_path / "full").notes
    for words in ("are kept", "made anew", "damaged or missing", "removed", "they stay",
                  "not kept, so", "Some decoded images"):  # fmt: skip
        assert any(words in note for note in said), words
    assert public_notes(said, {}) == ()


def _full(file: int, data: bytes, offset: int) -> int:
    raise OSError(28, "No space left on device")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab c'\"-=.é", min_size=1, max_size=8), min_size=1, max_size=4))
def test_a_line_keeps_its_words(parts: list[str]):
    """A path in a word of a command becomes its name; no word is lost, whatever is in it."""
    path = "/" + "/".join(parts)
    line = shlex.join(["purenoise", "train", f"out={path}", "epochs=2"])
    words = shlex.split(public_line(line))
    assert len(words) == 4
    assert words[-1] == "epochs=2"
    assert "/" not in words[2]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("many / medium / few: 3 and/or 4, 1/3", "many / medium / few: 3 and/or 4, 1/3"),
        ("cat/1.png = dog/2.png", "cat/1.png = dog/2.png"),
        (r"in C:\Users\eve\w.pth is", "in w.pth is"),
        ("in ~/w.pth.", "in w.pth."),
        ("in \"/home/o'neil/a b\" and '/x/c d'", "in \"a b\" and 'c d'"),
        ("(/tmp/a/b.pth): x", "(b.pth): x"),
    ],
)
def test_absolute_paths_alone_are_cut(text: str, wanted: str):
    """What is relative, or no path at all, stays as it is."""
    assert public_text(text) == wanted


def test_relative_paths_of_the_recipe_are_cut():
    """A file that the recipe names is told by its name, also where the note says it in full."""
    recipe = {"data": {"root": "eve/photos/"}, "model": {"weights": "../eve/a b.pth"}}
    notes = [
        "Head (fc) in ../eve/a b.pth is.",
        "Lost: cat/1.png in eve/photos/x.",
        "Of eve/photos.",
    ]
    assert public_notes(notes, recipe) == ("Head (fc) in a b.pth is.", "Lost: cat/1.png in x.",
                                           "Of photos.")  # fmt: skip
