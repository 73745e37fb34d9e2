"""Hugging Face's image data sets from local files, in each form that they have on disk."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from purenoise.datasection import Data
from purenoise.errors import DataError
from purenoise.prepare import prepare

from . import made

LABELS = [0, 0, 0, 0, 0, 0, 1, 1, 1]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` converts away from the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")


def png(seed: int, mode: str = "RGB") -> bytes:
    """Return a PNG file of 9 x 7 pixels."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def truth(seed: int) -> np.ndarray:
    """Return the pixels of that file, (C, H, W)."""
    return (
        np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8).transpose(2, 0, 1)
    )


def part(seed: int = 0, **columns: object) -> datasets.Dataset:
    """Return a split of nine images of two classes."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {"image": [{"bytes": png(seed + i), "path": None} for i in range(9)], "label": LABELS}
    return datasets.Dataset.from_dict(rows | columns, features)


def load(root: Path, **rest: object):
    """Return the data set of a folder."""
    return prepare(Data(name="hf", root=str(root), **rest)).dataset


def save_dict(root: Path) -> None:
    """Write what `DatasetDict.save_to_disk` writes."""
    parts = {"train": part(), "validation": part(20), "test": part(40)}
    datasets.DatasetDict(parts).save_to_disk(str(root))


def save_parquet(root: Path) -> None:
    """Write Parquet files named as on the hub."""
    (root / "data").mkdir(parents=True)
    for name, seed in (("train", 0), ("validation", 20), ("test", 40)):
        part(seed).to_parquet(str(root / "data" / f"{name}-00000-of-00001.parquet"))


def save_folder(root: Path) -> None:
    """Write an image folder with splits."""
    for split, seed in (("train", 0), ("validation", 20), ("test", 40)):
        for i, label in enumerate(LABELS):
            path = root / split / ("cat", "dog")[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(seed + i))


@pytest.mark.parametrize("save", [save_dict, save_parquet, save_folder])
def test_each_form_gives_the_same_images(tmp_path, save):
    """Saved, Parquet and folder: the same splits, classes, labels and pixels."""
    save(tmp_path / "pets")
    data = load(tmp_path / "pets")
    assert data.name == "pets"
    assert data.class_names == ("cat", "dog")
    for seed, split in ((0, data.train), (20, data.val), (40, data.test)):
        assert split.labels.tolist() == LABELS
        pixels = split.images.load(np.arange(9))
        assert all((image == truth(seed + i)).all() for i, image in enumerate(pixels))


@pytest.mark.parametrize("save", [save_dict, save_parquet, save_folder])
def test_nothing_is_asked_of_the_network(tmp_path, save, monkeypatch):
    """With a network and no switch against it, no name is looked up and no address called."""
    asked: list[object] = []

    def spy(*given: object, **_: object) -> None:
        asked.append(given)
        raise OSError("no network in this test")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    monkeypatch.setattr(datasets.load, "get_session", spy)  # what it would count a use with
    monkeypatch.setattr("socket.getaddrinfo", spy)
    save(tmp_path / "pets")
    assert load(tmp_path / "pets").counts().tolist() == [6, 3]
    assert asked == []


def test_one_split_is_divided_and_made_long_tailed(tmp_path):
    """A single saved split is train; a part is set aside; the imbalance section works."""
    rows = {"image": [{"bytes": png(i), "path": None} for i in range(20)], "label": [0, 1] * 10}
    part(**rows).save_to_disk(str(tmp_path / "one"))
    data = load(tmp_path / "one", imbalance={"type": "step", "ratio": 4})
    assert data.counts().tolist() == [8, 2]
    assert data.test.counts(2).tolist() == [2, 2]


def test_labels_may_be_names_or_numbers(tmp_path):
    """A column of plain values becomes classes, numbers in the order of numbers."""
    for values, names in ((["b", "a", "c"], ("a", "b", "c")), ([10, 9, 2], ("2", "9", "10"))):
        rows = {"pic": [{"bytes": png(i), "path": None} for i in range(9)], "kind": values * 3}
        root = tmp_path / names[0]
        datasets.Dataset.from_dict(rows).cast_column("pic", datasets.Image()).save_to_disk(
            str(root)
        )
        with pytest.raises(DataError, match="There are 0 columns of class labels") as caught:
            load(root)
        assert "data.label_column=NAME; columns: kind" in caught.value.hint
        data = load(root, label_column="kind", test_fraction=0.4)
        assert data.class_names == names
    with pytest.raises(DataError, match="There is no column 'knid'") as caught:
        load(root, label_column="knid")
    assert "Did you mean 'kind'?" in caught.value.hint


def test_a_path_that_leads_out_is_not_opened(tmp_path):
    """A row that names a file outside the folder is refused, inside it is read."""
    secret = made.picture(tmp_path / "secret.png", 0, 1)
    rows = [{"bytes": png(i), "path": None} for i in range(9)]

    def write(root: Path, place: str) -> Path:
        """Write Parquet as a stranger might: `datasets` itself would put the file's bytes in."""
        root.mkdir()
        table = part(image=[{"bytes": None, "path": place}, *rows[1:]]).data.table
        pyarrow.parquet.write_table(table, root / "train.parquet")
        return root

    for k, place in enumerate((str(secret), "../secret.png")):
        root = write(tmp_path / f"set{k}", place)
        with pytest.raises(DataError, match=r"Row 0 of train .* names a file outside") as caught:
            load(root)
        assert repr(place) in caught.value.message
        assert "call save_to_disk" in caught.value.hint
    root = write(tmp_path / "inside", "own.png")
    (root / "own.png").write_bytes(png(0))
    data = load(root, test_fraction=0.1)
    assert any((image == truth(0)).all() for image in data.train.images.load(np.arange(7)))


def test_what_is_told_of_files_outside_can_be_done(tmp_path):
    """After save_to_disk, where the files are, the same rows hold their images."""
    places = [str(made.picture(tmp_path / f"{i}.png", 0, i)) for i in range(9)]
    table = part(image=[{"bytes": None, "path": place} for place in places]).data.table
    (tmp_path / "named").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "named" / "train.parquet")
    with pytest.raises(DataError, match="names a file outside"):
        load(tmp_path / "named")
    file = str(tmp_path / "named" / "train.parquet")
    datasets.load_dataset("parquet", data_files=file)["train"].save_to_disk(str(tmp_path / "held"))
    for place in places:
        Path(place).unlink()
    assert len(load(tmp_path / "held", test_fraction=0.2).train) == 7


def test_a_link_inside_that_leads_out_is_told_as_one(tmp_path):
    """A row may name a link of the folder; where that leads out, it is called a link."""
    secret = made.picture(tmp_path / "secret.png", 0, 1)
    root = tmp_path / "set"
    root.mkdir()
    (root / "own.png").symlink_to(secret)
    rows = [{"bytes": png(i), "path": None} for i in range(8)]
    table = part(image=[{"bytes": None, "path": "own.png"}, *rows]).data.table
    pyarrow.parquet.write_table(table, root / "train.parquet")
    with pytest.raises(DataError, match="Image 0 cannot be used: a link that leads out"):
        load(root)


def test_a_broken_image_is_told(tmp_path):
    """Bytes that are no image are named by number."""
    rows = [{"bytes": png(i), "path": None} for i in range(9)]
    rows[4] = {"bytes": png(4)[:60], "path": None}
    part(image=rows).save_to_disk(str(tmp_path / "s"))
    with pytest.raises(DataError, match="Image 4 cannot be used: a broken image"):
        load(tmp_path / "s")


def test_what_is_no_data_set_is_told(tmp_path, monkeypatch):
    """A missing folder, an empty one, no train split, no package: a sentence each."""
    with pytest.raises(DataError, match="There is no folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data set of Hugging Face that can be read"):
        load(tmp_path / "empty")
    datasets.DatasetDict({"tset": part()}).save_to_disk(str(tmp_path / "t"))
    with pytest.raises(DataError, match="has the splits tset, and no train"):
        load(tmp_path / "t")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"datasets, which reads.*is not installed") as caught:
        load(tmp_path / "t")
    assert 'pip install "purenoise[hf]"' in caught.value.hint
