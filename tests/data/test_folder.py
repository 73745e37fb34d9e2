"""Folders as data sets: pixels, sizes, splits, notes and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from purenoise.data.folder import load_folder
from purenoise.data.scan import scan_folder
from purenoise.data.types import Split
from purenoise.errors import DataError

from .folders import everything, noted, write, write_classes


def test_pixels_labels_and_names(tmp_path: Path) -> None:
    """Images of one size come back pixel by pixel, with their class and path."""
    write_classes(tmp_path, {"b": 5, "a": 5})
    data = load_folder(tmp_path)
    assert data.image_shape == (3, 6, 4)
    assert data.class_names == ("a", "b")
    for split in (data.train, data.test):
        for image, label, name in zip(everything(split), split.labels, split.names, strict=True):
            assert (image == np.asarray(Image.open(tmp_path / name)).transpose(2, 0, 1)).all()
            assert name.split("/")[0] == data.class_names[label]
    assert data.name == tmp_path.name
    assert noted(data, "There is no test folder: 2 images were set aside")


def test_given_splits(tmp_path: Path) -> None:
    """Given folders are the splits, whatever the fractions say."""
    for split, n in (("train", 5), ("validation", 3), ("test", 2)):
        write_classes(tmp_path / split, {"a": n, "b": n})
    data = load_folder(tmp_path, val_fraction=0.4)
    assert data.val is not None
    assert [len(s) for s in (data.train, data.val, data.test)] == [10, 6, 4]
    assert data.val.names[0] == "validation/a/000.png"
    assert not data.notes


def test_missing_splits_are_drawn_from_train(tmp_path: Path) -> None:
    """Without test and val folders both are drawn from train, and the test set ignores val."""
    write_classes(tmp_path / "train", {"a": 20, "b": 10})
    data = load_folder(tmp_path, val_fraction=0.1)
    assert data.val is not None
    assert data.test.counts(2).tolist() == [4, 2]
    assert data.val.counts(2).tolist() == [2, 1]
    assert data.counts().tolist() == [14, 7]
    assert load_folder(tmp_path).test.names == data.test.names
    assert load_folder(tmp_path, split_seed=1).test.names != data.test.names


def contents(split: Split) -> list[tuple[int, bytes]]:
    """Return label and pixels of each image, in order."""
    return [(int(c), i.tobytes()) for c, i in zip(split.labels, everything(split), strict=True)]


@pytest.mark.parametrize("top", ["", "train"])
def test_renaming_changes_neither_split_nor_fingerprint(tmp_path: Path, top: str) -> None:
    """The split and the order of training follow what is in the files, not their names."""
    root = write_classes(tmp_path / top, {"a": 20, "b": 10})
    before = load_folder(tmp_path, val_fraction=0.1)
    for i, path in enumerate(sorted(root.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed {i:03}.png"))
    after = load_folder(tmp_path, val_fraction=0.1)
    assert before.val is not None
    assert after.val is not None
    assert contents(after.train) == contents(before.train)
    assert set(contents(after.val)) == set(contents(before.val))
    assert set(contents(after.test)) == set(contents(before.test))
    assert after.fingerprint == before.fingerprint


def test_fingerprint_sees_content_label_and_split(tmp_path: Path) -> None:
    """Another image, another class of two images, or another split is another data set."""
    write_classes(tmp_path, {"a": 6, "b": 6})
    seen = {load_folder(tmp_path).fingerprint, load_folder(tmp_path, split_seed=1).fingerprint}
    (tmp_path / "a" / "000.png").rename(tmp_path / "b" / "new.png")
    (tmp_path / "b" / "000.png").rename(tmp_path / "a" / "new.png")
    seen.add(load_folder(tmp_path).fingerprint)
    write(tmp_path / "a" / "new.png", 5)
    seen.add(load_folder(tmp_path).fingerprint)
    assert len(seen) == 4


def test_tiny_classes_are_named(tmp_path: Path) -> None:
    """A class of one image trains and has no test image, which is said by name."""
    write_classes(tmp_path, {"big": 10, "one": 1, "two": 2})
    data = load_folder(tmp_path)
    assert data.counts().tolist() == [8, 1, 1]
    assert data.test.counts(3).tolist() == [2, 0, 1]
    assert noted(data, "No test image for 'one': figures for these classes are n/a.")


def test_bad_files_are_skipped_and_counted(tmp_path: Path) -> None:
    """Skipped files are counted and five are named; on request all are an error."""
    write_classes(tmp_path, {"a": 4, "b": 4})
    for i in range(7):
        (tmp_path / "a" / f"bad{i}.png").write_text("text")
    data = load_folder(tmp_path)
    (note,) = [note for note in data.notes if note.startswith("Skipped")]
    assert "7 files cannot be used: 'a/bad0.png' (not an image that can be opened)" in note
    assert "bad4" in note
    assert "bad5" not in note
    assert "and 2 more" in note
    assert len(data.train) + len(data.test) == 8
    with pytest.raises(DataError, match="7 files") as caught:
        load_folder(tmp_path, on_bad="error")
    assert all(f"a/bad{i}.png" in caught.value.message for i in range(7))


def test_class_without_training_images(tmp_path: Path) -> None:
    """A class whose images are all bad, absent from train, or none is an error by name."""
    write_classes(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "c").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "bad.png").write_text("text")
    with pytest.raises(DataError, match=r"for 'c', 'd'.*'d/bad.png' \(not an image"):
        load_folder(tmp_path)
    write_classes(tmp_path / "s" / "train", {"a": 4, "b": 4})
    write_classes(tmp_path / "s" / "test", {"a": 4, "x": 4})
    with pytest.raises(DataError, match=r"in '.*train' for 'x'"):
        load_folder(tmp_path / "s")


def test_notes_on_duplicates(tmp_path: Path) -> None:
    """Identical images with two labels, or in train and test, are noted and kept."""
    for split in ("train", "test"):
        write_classes(tmp_path / split, {"a": 3, "b": 3})
    for name in ("train/a/x.png", "train/b/y.png", "test/a/z.png"):
        write(tmp_path / name, 77)
    data = load_folder(tmp_path)
    assert noted(data, "Identical images in different classes: 1, such as 'test/a/z.png = train/a/")
    assert noted(data, "Identical images in different splits: 1")
    assert (len(data.train), len(data.test)) == (8, 7)


@pytest.mark.parametrize("split", ["", "train"])
def test_deeper_folders_are_joined_with_a_note(tmp_path: Path, split: str) -> None:
    """Images of deeper folders are of the class they lie in, and a note names those folders."""
    root = tmp_path / "set"
    top = root / split
    write_classes(top / "animals", {"cat": 3, "dog": 3})
    write_classes(top, {"things": 3})
    if split:
        write_classes(root / "test", {"animals": 2, "things": 2})
    data = load_folder(root)
    assert data.class_names == ("animals", "things")
    prefix = f"{split}/" if split else ""
    told = f"joined into the class that they lie in: '{prefix}animals/cat', '{prefix}animals/dog'."
    assert noted(data, told)
    flat = write_classes(tmp_path / "flat", {"animals": 3, "things": 3})
    assert not noted(load_folder(flat), "joined")


def test_identical_files_stay_on_one_side(tmp_path: Path) -> None:
    """Copies of an image never lie in train and test, whatever the seed."""
    write_classes(tmp_path, {"a": 10, "b": 10})
    for name in ("a/copy1.png", "a/copy2.png", "b/copy.png"):
        write(tmp_path / name, 77)
    scan = scan_folder(tmp_path)
    for seed in range(10):
        data = load_folder(tmp_path, scan=scan, split_seed=seed, test_fraction=0.4)
        copies = [sum("copy" in name for name in s.names) for s in (data.train, data.test)]
        assert sorted(copies) == [0, 3]


def test_all_wrong_arguments_at_once(tmp_path: Path) -> None:
    """Arguments out of range are listed together, before anything is read."""
    with pytest.raises(DataError) as caught:
        load_folder(
            tmp_path / "none",
            channels=2,
            val_fraction=-0.1,
            test_fraction=1.0,
            split_seed=-1,
            on_bad="ignore",
            memory_limit=-1,
        )
    for name in ("channels", "val_fraction", "test_fraction", "split_seed", "on_bad", "memory_"):
        assert name in caught.value.message


def test_scan_of_another_folder(tmp_path: Path) -> None:
    """A scan that belongs to another folder is refused."""
    for name in ("x", "y"):
        write_classes(tmp_path / name, {"a": 2, "b": 2})
    with pytest.raises(DataError, match=r"The scan is of '.*x', not of '.*y'"):
        load_folder(tmp_path / "y", scan=scan_folder(tmp_path / "x"))
