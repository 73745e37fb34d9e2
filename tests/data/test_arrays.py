# ruff: noqa: E501 - a case is a line
"""Arrays: from Python, and from .npz files in MedMNIST's layout."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from purenoise.data.arrays import ArrayData, load_npz
from purenoise.data.target import Target
from purenoise.data.types import MemoryImages
from purenoise.datasection import Data
from purenoise.errors import DataError
from purenoise.prepare import prepare

from . import made

OPTIONS = {"test_fraction": 0.2, "split_seed": 0, "memory_limit": 1 << 20}


def pixels(data):
    """Return all training pixels."""
    return data.train.images.load(np.arange(len(data.train)))


@pytest.mark.parametrize("colour", [False, True])
def test_medmnist_layout_is_read(tmp_path, colour):
    """Images, labels and splits are those of the file, bit for bit."""
    path = made.medmnist(tmp_path / "bloodmnist.npz", colour)
    data = prepare(Data(name="npz", root=str(path))).dataset
    with np.load(path) as truth:
        images = truth["train_images"]
        images = images.transpose(0, 3, 1, 2) if colour else images[:, None]
        assert (pixels(data) == images).all()
        assert data.train.labels.tolist() == truth["train_labels"][:, 0].tolist()
        assert len(data.val) == len(truth["val_images"])
        assert len(data.test) == len(truth["test_images"])
    assert data.name == "bloodmnist"
    assert data.image_shape == (3 if colour else 1, 28, 28)


def test_without_test_images_some_are_set_aside(tmp_path):
    """A file with training images alone is split, class by class."""
    np.savez(tmp_path / "a.npz", train_images=np.zeros((20, 8, 8), np.uint8),
             train_labels=np.repeat([0, 1], 10))  # fmt: skip
    data = load_npz(tmp_path / "a.npz", Target(), **OPTIONS)
    assert data.counts().tolist() == [8, 8]
    assert data.test.counts(2).tolist() == [2, 2]
    assert "were set aside" in data.notes[0]


def test_imbalance_and_size_work_on_arrays(tmp_path):
    """A balanced file is made long-tailed and brought to the size that is asked for."""
    np.savez(tmp_path / "a.npz", train_images=np.zeros((30, 80, 90, 3), np.uint8),
             train_labels=np.repeat([0, 1, 2], 10), test_images=np.ones((3, 80, 90, 3), np.uint8),
             test_labels=[0, 1, 2])  # fmt: skip
    given = {
        "name": "npz",
        "root": str(tmp_path / "a.npz"),
        "normalize": {"mean": [0.5], "std": [1]},
    }
    data = prepare(
        Data(**given, imbalance={"type": "step", "ratio": 5}, image_size=16, channels=1)
    ).dataset
    assert data.image_shape == (1, 16, 16)
    assert data.counts().tolist() == [10, 2, 2]


def write_pickle(path):
    """Write a file whose labels are Python objects."""
    np.savez(path, train_images=np.zeros((2, 8, 8), np.uint8), train_labels=np.array([{}, None]))


def write_bomb(path):
    """Write a small file whose images would take 3 GB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("train_images.npy", "w") as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": (1000, 1000, 1000, 3)}
            np.lib.format.write_array_header_1_0(member, header)
        with archive.open("train_labels.npy", "w") as member:
            np.lib.format.write_array(member, np.zeros(1000, np.uint8))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda p: p.write_bytes(b"PK\3\4 no"), "is no .npz file that can be read"),
        (lambda p: p.write_bytes(made.medmnist(p).read_bytes()[:-300]), "is no .npz file"),
        (lambda p: np.savez(p, x=np.zeros(3)), "no train_images and no train_labels; it has x"),
        (write_pickle, "train_labels in '.*' holds Python objects, which are not read"),
        (write_bomb, "take 2,861 MiB, and data.memory_mib allows 1"),
        (lambda p: np.savez(p, train_images=np.zeros((3, 8, 8, 8), np.uint8), train_labels=[0, 1, 0]),
         "the images of train have the shape"),
        (lambda p: np.savez(p, train_images=np.zeros((3, 8, 8)), train_labels=[0, 1, 0]),
         "the images of train are float64, not uint8"),
        (lambda p: np.savez(p, train_images=np.zeros((3, 8, 8), np.uint8),
                            train_labels=np.zeros((3, 14), int)), "several labels per image"),
        (lambda p: np.savez(p, train_images=np.zeros((3, 8, 8), np.uint8), train_labels=[0, 2, 0]),
         "has no training image of '1'"),
        (lambda p: np.savez(p, train_images=np.zeros((3, 8, 8), np.uint8), train_labels=[0, 0, 0]),
         "has 1 class, and at least two"),
        (lambda p: np.savez(p, train_images=np.zeros((3, 8, 8), np.uint8), train_labels=[-1, 0, 1]),
         "A label of train is -1"),
        (lambda p: np.savez(p, train_images=np.zeros((3, 8, 8), np.uint8), train_labels=[0, 1, 0],
                            test_images=np.zeros((2, 8, 8), np.uint8), test_labels=[0, 7]),
         "1 labels of test are outside 0..1, the first is 7 .image 1."),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path, write, said):
    """Each kind of bad file gives one sentence; nothing is unpickled or unpacked."""
    write(tmp_path / "a.npz")
    with pytest.raises(DataError, match=said):
        load_npz(tmp_path / "a.npz", Target(), **OPTIONS)


def test_a_missing_file_is_told(tmp_path):
    """No file: the path."""
    with pytest.raises(DataError, match=r"There is no file '.*none\.npz'"):
        load_npz(tmp_path / "none.npz", Target(), **OPTIONS)


def test_layouts_of_arrays_are_one():
    """Channels first, channels last and a tensor give the same images."""
    x = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 9), dtype=np.uint8)
    y = [0, 0, 0, 1, 1, 1]
    for given in (x, x.transpose(0, 2, 3, 1), torch.from_numpy(x)):
        data = ArrayData(given, y, given, y).dataset("a", Target(), **OPTIONS)
        assert (pixels(data) == x).all()
    grey = ArrayData(x[:, :1], y, x[:, 0], y).dataset("a", Target(), **OPTIONS)
    assert (pixels(grey) == x[:, :1]).all()


def test_names_may_be_labels():
    """Labels that are names give classes in their order; unknown ones among tests are told."""
    x = np.zeros((4, 8, 8), np.uint8)
    data = ArrayData(x, ["b", "a", "b", "a"], x[:1], ["b"])
    assert data.class_names == ("a", "b")
    assert data.labels["test"].tolist() == [1]
    with pytest.raises(DataError, match=r"no classes of the training images: \['c'\]"):
        ArrayData(x, ["b", "a", "b", "a"], x[:1], ["c"])


def test_the_hash_sees_everything():
    """Pixels, labels, names and splits all change the hash; a copy does not."""
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    y = [0, 0, 1, 1]
    base = ArrayData(x, y).sha256()
    assert ArrayData(x.copy(), np.array(y, np.int8)).sha256() == base
    others = [
        ArrayData(255 - x, y), ArrayData(x, [0, 1, 0, 1]), ArrayData(x, y, x, y),
        ArrayData(x, y, class_names=["a", "b"]), ArrayData(x.reshape(4, 4, 16), y),
    ]  # fmt: skip
    assert len({base, *(other.sha256() for other in others)}) == 6


def test_all_faults_of_arrays_come_at_once():
    """Wrong type, missing labels and lengths that differ are told in one message."""
    with pytest.raises(DataError) as caught:
        ArrayData(np.zeros((3, 8, 8)), [0, 1], np.zeros((1, 8, 8), np.uint8))
    for said in ("float64, not uint8", "test has images only", "3 images and labels of shape (2,)"):
        assert said in caught.value.message


def test_large_arrays_are_sampled():
    """Images that do not fit are brought to their size when they are asked for."""
    x = np.zeros((100, 20, 20), np.uint8)
    x[::2] = 200
    data = ArrayData(x, np.arange(100) % 2).dataset(
        "a", Target(10), **(OPTIONS | {"memory_limit": 10})
    )
    assert data.sampled
    assert not isinstance(data.train.images, MemoryImages)
    assert data.train.images.load(np.arange(2)).shape == (2, 1, 10, 10)
    assert "do not fit data.memory_mib" in data.notes[-1]
