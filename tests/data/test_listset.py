"""Images that lists name: published layouts, decoding before and later, what is known of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from purenoise.data import listset
from purenoise.data.decode import load_image
from purenoise.data.files import FileImages
from purenoise.data.known import KNOWN, count_notes
from purenoise.data.types import MemoryImages
from purenoise.datasection import Data
from purenoise.errors import DataError
from purenoise.prepare import check_folder_unchanged, prepare
from purenoise.recipe import load_recipe, recipe_path

from . import made

COUNTS = [6, 4, 2]


def section(name, root, **rest):
    """Return the data section of a known set's recipe, at a small size."""
    given = {"data.root": root, "image_size": 8, **rest}
    return load_recipe(name, values=given).data


LAYOUTS = {
    "imagenet-lt": lambda root: made.imagenet_lt(root),
    "imagenet-lt, flat val": lambda root: made.imagenet_lt(root, flat_val=True),
    "places-lt": lambda root: made.places_lt(root, second_layout=False),
    "places-lt, data_256": lambda root: made.places_lt(root, second_layout=True),
    "inat2018": made.inat2018,
}


@pytest.mark.parametrize("decode", ["ahead", "later"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_are_read(layout, decode, tmp_path):
    """Each layout gives the lists' counts, names from its folders, and each file's own pixels."""
    name = layout.partition(",")[0]
    root = LAYOUTS[layout](tmp_path / "images")
    data = prepare(section(name, root, decode=decode)).dataset
    assert data.name == name
    assert data.counts().tolist() == COUNTS
    assert data.test.counts(3).tolist() == [2, 2, 2]
    assert (data.val is not None) == (name != "inat2018")
    assert all(not c.isdecimal() for c in data.class_names)
    for split in filter(None, (data.train, data.val, data.test)):
        pixels = split.images.load(np.arange(len(split)))
        for path, label, image in zip(split.names, split.labels, pixels, strict=True):
            assert (image == load_image(root / path, (3, 8, 8))).all()
            if name != "inat2018":
                assert data.class_names[label].rpartition("/")[2] in path or "val" in path
    assert "is not the whole" in data.notes[0]


def test_labels_are_those_of_the_lines(tmp_path):
    """Every image has the label that its line gives it, whatever the order of loading."""
    root = made.places_lt(tmp_path / "p", second_layout=True)
    lines = (root / "Places_LT_train.txt").read_text().splitlines()
    truth = {path: int(label) for path, label in (line.split() for line in lines)}
    for decode in ("ahead", "later"):
        data = prepare(section("places-lt", root, decode=decode)).dataset
        assert dict(zip(data.train.names, data.train.labels.tolist(), strict=True)) == truth


def test_long_lists_are_decoded_later_and_short_ones_ahead(tmp_path, monkeypatch):
    """`auto` decodes ahead up to a number of images, and from then on opens only a sample."""
    root = made.imagenet_lt(tmp_path / "i")
    images = prepare(section("imagenet-lt", root)).dataset.train.images
    assert isinstance(images, MemoryImages)
    monkeypatch.setattr(listset, "LONG", 5)
    data = prepare(section("imagenet-lt", root)).dataset
    assert isinstance(data.train.images, FileImages)
    assert data.sampled
    assert any("24 images are decoded as training asks" in note for note in data.notes)


def test_a_sample_gives_the_statistics_of_the_whole(tmp_path, monkeypatch):
    """Statistics of a long list are near those of all its images, and exact if it has few."""
    rows = [(f"{c}/{i}.png", c) for c in range(2) for i in range(100)]
    root = made.write_lists(tmp_path / "l", {"train.txt": rows})
    given = {"name": "list", "train_list": str(root / "train.txt"), "test_fraction": 0.1}
    whole, same = prepare(Data(**given)), prepare(Data(**given, decode="later"))
    assert np.allclose(whole.noise_mean, same.noise_mean, atol=0.02)
    monkeypatch.setattr("purenoise.prepare.SAMPLE", 60)
    some = prepare(Data(**given, decode="later"))
    assert some.noise_mean != same.noise_mean
    assert np.allclose(some.noise_mean, whole.noise_mean, atol=0.05)
    assert some.noise_mean == prepare(Data(**given, decode="later")).noise_mean


def test_the_fingerprint_sees_labels_paths_and_sizes(tmp_path):
    """A long list's fingerprint changes with a label, with a file's size, and with nothing else."""
    root = made.imagenet_lt(tmp_path / "i")
    data = section("imagenet-lt", root, decode="later")
    kept = prepare(data).summary()
    check_folder_unchanged(kept, data, "run")
    made.picture(root / "train/n01440764/n01440764_0.JPEG", 3, 9, size=(30, 30))
    with pytest.raises(Exception, match="have changed since"):
        check_folder_unchanged(kept, data, "run")


def test_without_a_test_list_a_part_of_each_class_is_set_aside(tmp_path):
    """Both ways of decoding set images of each class aside, and say so."""
    rows = [(f"{c}/{i}.png", c) for c in range(3) for i in range(10)]
    root = made.write_lists(tmp_path / "l", {"train.txt": rows})
    for decode in ("ahead", "later"):
        data = prepare(Data(name="list", train_list=str(root / "train.txt"), decode=decode)).dataset
        assert data.counts().tolist() == [8, 8, 8]
        assert data.test.counts(3).tolist() == [2, 2, 2]
        assert not set(data.train.names) & set(data.test.names)
        assert any("were set aside" in note for note in data.notes)
        assert not any("folder" in note for note in data.notes)


def test_a_broken_image_is_skipped_ahead_and_named_later(tmp_path):
    """Decoding ahead passes over a broken image with a note; decoding later names it."""
    root = made.imagenet_lt(tmp_path / "i")
    bad = root / "train/n01440764/n01440764_0.JPEG"
    bad.write_bytes(bad.read_bytes()[:200])
    data = prepare(section("imagenet-lt", root)).dataset
    assert data.counts().tolist() == [5, 4, 2]
    assert any("n01440764_0.JPEG" in note for note in data.notes)
    with pytest.raises(DataError, match=r"n01440764_0\.JPEG.*cannot be used"):
        prepare(section("imagenet-lt", root, decode="later"))


def test_balanced_lists_are_made_long_tailed(tmp_path):
    """The imbalance section works on lists too."""
    rows = [(f"{c}/{i}.png", c) for c in range(3) for i in range(10)]
    root = made.write_lists(tmp_path / "l", {"train.txt": rows, "t.txt": [("0/t.png", 0)]})
    data = prepare(
        Data(
            name="list",
            train_list=str(root / "train.txt"),
            test_list="t.txt",
            imbalance={"type": "exp", "ratio": 5},
        )
    ).dataset
    assert data.counts().tolist() == [10, 4, 2]
    assert data.subset_sha256


def test_a_whole_copy_gets_no_note_and_another_a_full_one(tmp_path):
    """The check compares classes, images, largest and smallest class with what was published."""
    data = prepare(section("imagenet-lt", made.imagenet_lt(tmp_path / "i"))).dataset
    (note,) = count_notes("imagenet-lt", data)
    for said in (
        "3 classes (published: 1,000)", "12 training images (published: 115,846)",
        "6 validation images (published: 20,000)", "6 test images (published: 50,000)",
        "6 images in the largest class (published: 1,280)",
        "2 images in the smallest class (published: 5)",
    ):  # fmt: skip
        assert said in note
    counts = np.full(1000, 114)
    counts[:2], counts[2:791] = (1280, 5), 115
    labels = np.repeat(np.arange(1000), counts)
    whole = replace(
        data, class_names=tuple(map(str, range(1000))), train=replace(data.train, labels=labels),
        val=replace(data.train, labels=np.zeros(20_000, np.int64)),
        test=replace(data.train, labels=np.zeros(50_000, np.int64)),
    )  # fmt: skip
    assert len(whole.train) == 115_846
    assert count_notes("imagenet-lt", whole) == ()
    assert count_notes("list", data) == ()


def test_known_numbers_have_the_published_ratios():
    """The table's largest and smallest classes give the imbalance ratios that the field quotes."""
    ratios = {name: known.most / known.least for name, known in KNOWN.items()}
    assert ratios["imagenet-lt"] == 256
    assert ratios["places-lt"] == 996
    assert ratios["inat2018"] == 500
    assert round(ratios["celeba5"], 1) == 10.7


def test_the_recipe_says_which_constants_it_uses_and_whose():
    """Constants of iNaturalist stand in its recipe's head, with their file, as not checked."""
    text = recipe_path("inat2018").read_text(encoding="utf-8")
    head = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    mean, std = (", ".join(f"{v:.3f}" for v in part) for part in KNOWN["inat2018"].normalize)
    assert f"mean {mean} and std {std}, as they stand in its data/dataloader.py" in head
    assert "was not checked here" in head
