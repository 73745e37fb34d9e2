"""Images of a folder in place of noise: their rows, their hash, their faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import purenoise as pn
from purenoise.data.outside import load_outside, outside_paths, outside_sha256
from purenoise.errors import DataError, RunError
from purenoise.feed import Feed
from purenoise.noisesource import (
    NoiseSource,
    check_source,
    noise_fingerprint,
    noise_pool,
)
from purenoise.prepare import placed
from purenoise.recipe import load_recipe

from .noisekinds import KINDS, drawn, pixels, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")


def folder(root: Path, n: int = 5, size: int = 20) -> Path:
    """Write some colour images, one of them further down and one in grey."""
    for i in range(n):
        values = np.random.default_rng(i).integers(0, 256, (size, size + 3, 3), dtype=np.uint8)
        path = root / ("deep" if i == 0 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).convert("L" if i == 1 else "RGB").save(path)
    (root / "notes.txt").write_text("no image")
    return root


def test_a_folder_of_images(tmp_path: Path):
    """All images at any depth are loaded, by the project's decoder, in the order of their names."""
    place = folder(tmp_path / "out")
    assert outside_paths(place) == ("1.png", "2.png", "3.png", "4.png", "deep/0.png")
    for channels in (1, 3):
        assert load_outside(place, (channels, 8, 8)).shape == (5, channels, 8, 8)
    before = outside_sha256(place)
    (place / "3.png").write_bytes((place / "2.png").read_bytes())
    assert outside_sha256(place) != before


def test_rows_of_a_folder_are_its_images(tmp_path: Path):
    """Every row is an image of the folder; a limit on its bytes reaches the loader."""
    place = folder(tmp_path / "out")
    recipe = recipe_of(f"noise={{kind: images, source: {place}}}")
    _, found, data = drawn(recipe)
    loaded = load_outside(place, (1, 8, 8))
    assert np.array_equal(noise_pool(recipe.noise, (1, 8, 8)), loaded)
    rows = (pixels(found[0], data) * 255).round().to(torch.uint8).numpy()
    assert {row.tobytes() for row in rows} <= {image.tobytes() for image in loaded}
    feed = Feed(data.dataset.train, torch.device("cpu"))
    with pytest.raises(DataError, match=r"data\.memory_mib"):
        NoiseSource(recipe.noise, data, feed, torch.float32, 0, limit=10)


def test_the_files_that_stand_in_for_noise_have_a_hash(tmp_path: Path):
    """Noise that is drawn has none, the photographs their name, a folder that of its files."""
    place = folder(tmp_path / "out")
    expected = {"noise=normal": None, "noise=shuffled": None, KINDS[3]: "photographs",
                f"noise={{kind: images, source: {place}}}": outside_sha256(str(place))}  # fmt: skip
    for change, found in expected.items():
        noise = recipe_of(change).noise
        assert noise_fingerprint(noise) == found
        check_source(noise)
    with pytest.raises(DataError, match="There is no folder"):
        check_source(recipe_of(f"noise={{kind: images, source: {tmp_path}/none}}").noise)


def test_faults_of_a_folder_get_a_sentence(tmp_path: Path):
    """A missing or empty folder, a broken image and too many images are refused."""
    with pytest.raises(DataError, match="There is no folder"):
        load_outside(tmp_path / "none", (1, 8, 8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        check_source(
            load_recipe("digits", [f"noise={{kind: images, source: {tmp_path}/empty}}"]).noise
        )
    place = folder(tmp_path / "out")
    with pytest.raises(DataError, match=r"data\.memory_mib"):
        load_outside(place, (1, 8, 8), limit=5 * 64 - 1)
    (place / "2.png").write_bytes((place / "2.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"2\.png' cannot be used: a broken"):
        load_outside(place, (1, 8, 8))


def test_training_on_images_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run takes a relative folder, keeps its whole path, and sees it if the images change."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "out")
    given = {
        "epochs": 2,
        "batch_size": 128,
        "threads": 1,
        "noise": {"kind": "images", "source": "out"},
    }
    run = pn.train("digits", **given)
    kept = load_recipe(str(run.folder)).noise
    assert kept.source == str(tmp_path / "out")
    again = pn.train("digits", **given)
    assert not again.trained
    assert again.folder == run.folder
    (run.folder / "summary.json").unlink()
    (tmp_path / "out" / "4.png").unlink()
    with pytest.raises(RunError, match="begun with noise_images"):
        pn.train("digits", **given)


def test_a_source_keeps_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder is kept by its whole path, the photographs and a missing folder as they are."""
    folder(tmp_path / "out")
    monkeypatch.chdir(tmp_path)

    def kept(source: str) -> str | None:
        changed = load_recipe("digits", [f"noise={{kind: images, source: {source}}}"])
        return placed(changed).noise.source

    assert kept("out") == str(tmp_path / "out")
    assert [kept("photographs"), kept("none")] == ["photographs", "none"]
