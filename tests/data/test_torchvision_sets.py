"""torchvision's data sets by name: which there are, and that they come out as they are."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torchvision.datasets as sets

from purenoise.data.target import Target
from purenoise.data.torchvision_names import REFUSED, SPLITS, check_torchvision_set
from purenoise.data.torchvision_sets import NOT_MIRRORED, load_torchvision_set
from purenoise.datasection import Data
from purenoise.errors import DataError, RecipeError
from purenoise.prepare import prepare

from . import made

OPTIONS = {"test_fraction": 0.2, "split_seed": 0, "memory_limit": 1 << 24}


def test_every_data_set_of_torchvision_is_known():
    """Each class that torchvision offers is either for classification here, or refused by name."""
    offered = {name for name in sets.__all__ if inspect.isclass(getattr(sets, name))}
    assert offered <= set(SPLITS) | set(REFUSED)
    assert not set(SPLITS) & set(REFUSED)
    assert set(SPLITS) | set(REFUSED) <= offered
    assert set(NOT_MIRRORED) <= set(SPLITS)


@pytest.mark.parametrize("name", SPLITS)
def test_splits_are_arguments_that_the_set_takes(name):
    """The keywords that choose a split are in the signature of the set or of its base."""
    kind = getattr(sets, name)
    known = {p for base in kind.__mro__[:-1] for p in inspect.signature(base.__init__).parameters}
    for options in SPLITS[name].values():
        assert set(options) <= known
    if len(SPLITS[name]) > 1:
        assert len({str(options) for options in SPLITS[name].values()}) == len(SPLITS[name])
    else:
        assert "train" not in inspect.signature(kind.__init__).parameters


@pytest.mark.parametrize("name", sorted({n for n, s in SPLITS.items() if len(s) > 1} - {"EMNIST"}))
def test_absent_files_are_told_with_the_place(name, tmp_path):
    """Without its files, every set says that they are not there and where they belong."""
    with pytest.raises(DataError) as caught:
        load_torchvision_set(name, tmp_path / "nowhere", Target(), **OPTIONS)
    assert f"torchvision:{name} are not in '{tmp_path / 'nowhere'}'" in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "nowhere").exists() or not any((tmp_path / "nowhere").rglob("*.*"))


def test_fetching_without_a_network_is_one_sentence(tmp_path, monkeypatch):
    """data.download=true without a network says that the files could not be had."""

    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    with pytest.raises(DataError) as caught:
        load_torchvision_set("KMNIST", tmp_path, Target(), download=True, **OPTIONS)
    assert "cannot be read: " in caught.value.message
    assert "Is there a network?" in caught.value.hint


def test_images_and_labels_are_torchvisions(tmp_path):
    """FashionMNIST: every pixel and label is what torchvision gives, names are its classes."""
    root = made.fashion_mnist(tmp_path)
    data = load_torchvision_set("FashionMNIST", root, Target(), **OPTIONS)
    truth = sets.FashionMNIST(str(root), train=True)
    assert (data.train.images.load(np.arange(40))[:, 0] == truth.data.numpy()).all()
    assert data.train.labels.tolist() == truth.targets.tolist()
    assert data.class_names[9] == "Ankle boot"
    assert data.image_shape == (1, 28, 28)
    assert data.mirror_safe
    assert len(data.test) == 40


def test_sets_without_a_split_lose_a_part_to_testing(tmp_path):
    """EuroSAT, which has no split, is split class by class, with a note."""
    data = prepare(Data(name="torchvision:EuroSAT", root=str(made.eurosat(tmp_path)))).dataset
    assert data.counts().tolist() == [8, 8, 8]
    assert data.class_names == ("AnnualCrop", "Forest", "River")
    assert any("were set aside" in note for note in data.notes)


def test_named_splits_and_imbalance(tmp_path):
    """Textures: three splits by name, images of any size brought to one, a tail cut."""
    root = made.textures(tmp_path)
    data = prepare(
        Data(name="torchvision:DTD", root=str(root), imbalance={"type": "step", "ratio": 2})
    ).dataset
    assert data.counts().tolist() == [4, 2]
    assert data.val is not None
    assert data.val.counts(2).tolist() == data.test.counts(2).tolist() == [4, 4]
    truth = sets.DTD(str(root), split="test")
    assert data.test.labels.tolist() == [label for _, label in truth]
    assert data.image_shape == (3, 30, 40)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Kinetics", "it holds videos"),
        ("VOCDetection", "it is for detection"),
        ("CelebA", "its five hair colours are data=celeba5"),
        ("Mnist", "Did you mean 'MNIST'?"),
    ],
)
def test_other_sets_are_refused_by_name(name, said):
    """Data sets for something else are refused with what they are for."""
    with pytest.raises(RecipeError) as caught:
        check_torchvision_set(name)
    assert said in str(caught.value)
