"""Labels are found in data sets, or it is said why not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from torchvision.datasets import DatasetFolder, ImageFolder

from purenoise.errors import DataError
from purenoise.samplers import (
    ClassBalancedSampler,
    labels_of,
)

from .samplercases import pairs

SOURCES = {
    "list": ([0, 1, 1], [0, 1, 1]),
    "tuple": ((0, 1), [0, 1]),
    "uint8": (np.array([1, 0], np.uint8), [1, 0]),
    "tensor": (torch.tensor([2, 0]), [2, 0]),
    "tensors": (pairs([1, 2]), [1, 2]),
    "three tensors": (TensorDataset(*torch.tensor([[7, 7], [8, 8], [1, 0]])), [1, 0]),
    "targets": (SimpleNamespace(targets=[3, 1]), [3, 1]),
    "tensor targets": (SimpleNamespace(targets=torch.tensor([3, 1])), [3, 1]),
    "labels": (SimpleNamespace(labels=np.array([0, 2])), [0, 2]),
    "samples": (SimpleNamespace(samples=[("a.png", 1), ("b.png", 0)]), [1, 0]),
    "targets none": (SimpleNamespace(targets=None, labels=[5]), [5]),
    "subset": (Subset(pairs([0, 1, 2]), [2, 0]), [2, 0]),
    "nested": (Subset(Subset(pairs([0, 1, 2]), [2, 0]), [1]), [0]),
    "concat": (ConcatDataset([pairs([0, 1]), Subset(pairs([2, 3]), [1])]), [0, 1, 3]),
    "subset of concat": (Subset(ConcatDataset([pairs([0, 1]), pairs([2])]), [2, 1]), [2, 1]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_labels_are_found(kind: str) -> None:
    """Labels of every kind of source are the ones it holds, as int64."""
    source, expected = SOURCES[kind]
    found = labels_of(source)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_labels_of_image_folders(tmp_path: Path) -> None:
    """Torchvision's folders give their labels without one image being opened."""
    for name, n in (("cat", 2), ("dog", 1)):
        (tmp_path / name).mkdir()
        for i in range(n):
            Image.new("RGB", (2, 2)).save(tmp_path / name / f"{i}.png")

    def loader(path: str) -> None:
        raise AssertionError(f"{path} was opened")

    assert labels_of(ImageFolder(str(tmp_path), loader=loader)).tolist() == [0, 0, 1]
    folder = DatasetFolder(str(tmp_path), loader=loader, extensions=(".png",))
    assert labels_of(Subset(folder, [2, 0])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (object(), "No labels were found in object"),
        ([0.0, 1.0], "whole numbers"),
        ([-1, 0], "whole numbers"),
        (["cat", "dog"], "whole numbers"),
        ([[0, 1], [1, 0]], "whole numbers"),
        ([[0], [1, 2]], "one whole number per image"),
        ([True, False], "whole numbers"),
        (SimpleNamespace(targets={"a": 1}), "whole numbers"),
        ([], "whole numbers"),
        (np.array([0, 2**63], np.uint64), "got 9223372036854775808; at most 92233720368547758"),
    ],
)
def test_what_has_no_labels_is_refused(source: object, words: str) -> None:
    """A source without usable labels is refused in a sentence."""
    with pytest.raises(DataError, match=words):
        ClassBalancedSampler(source)


def test_methods_that_are_called_like_labels_are_no_labels() -> None:
    """What can be called is passed over, and the next name is looked at."""
    source = SimpleNamespace(targets=lambda: [9], labels=[1, 0])
    assert labels_of(source).tolist() == [1, 0]
