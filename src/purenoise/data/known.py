"""Published long-tailed sets: where their lists lie, and what a whole copy of them holds.

Numbers: counted from the published lists (ImageNet-LT and Places-LT of Liu et al. 2019, iNaturalist
2018 as the field splits it, CelebA-5 of M2m, Kim et al. 2020). A copy that differs is used as it
is, with a note: results on it are not results on the benchmark. Constants of normalisation are the
customary ones, ImageNet's but for iNaturalist 2018, whose stand in ``data/dataloader.py`` of Kang
et al. 2020 (classifier-balancing): none was counted here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from purenoise.data.types import Dataset

Constants = tuple[tuple[float, float, float], tuple[float, float, float]]
IMAGENET: Constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class KnownSet:
    """What is known of a published set.

    Args:
        title: Its name in print.
        n_classes: Classes.
        n_train: Training images.
        n_val: Validation images; None if there are none.
        n_test: Test images.
        most: Training images of the largest class.
        least: Training images of the smallest class.
        lists: File names of the published lists, by split.
        normalize: Customary mean and standard deviation per channel.
    """

    title: str
    n_classes: int
    n_train: int
    n_val: int | None
    n_test: int
    most: int
    least: int
    lists: dict[str, str] = field(default_factory=dict)
    normalize: Constants = IMAGENET


KNOWN: dict[str, KnownSet] = {
    "imagenet-lt": KnownSet(
        "ImageNet-LT", 1000, 115_846, 20_000, 50_000, 1280, 5,
        {s: f"ImageNet_LT_{s}.txt" for s in ("train", "val", "test")},
    ),
    "places-lt": KnownSet(
        "Places-LT", 365, 62_500, 7_300, 36_500, 4980, 5,
        {s: f"Places_LT_{s}.txt" for s in ("train", "val", "test")},
    ),
    "inat2018": KnownSet(
        "iNaturalist 2018", 8142, 437_513, None, 24_426, 1000, 2,
        {"train": "iNaturalist18_train.txt", "test": "iNaturalist18_val.txt"},
        ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),
    ),
    "celeba5": KnownSet("CelebA-5", 5, 6_651, 250, 500, 2423, 227),
}  # fmt: skip


def count_notes(name: str, dataset: Dataset) -> tuple[str, ...]:
    """Return what is different from the published set, as one sentence, or nothing.

    Args:
        name: Of the data set; of one that is not known nothing is said.
        dataset: As it was found.
    """
    known = KNOWN.get(name)
    if known is None:
        return ()
    counts: NDArray[np.int64] = dataset.counts()
    pairs = {
        "classes": (known.n_classes, dataset.n_classes),
        "training images": (known.n_train, len(dataset.train)),
        "validation images": (known.n_val, len(dataset.val) if dataset.val else None),
        "test images": (known.n_test, len(dataset.test)),
        "images in the largest class": (known.most, int(counts.max())),
        "images in the smallest class": (known.least, int(counts.min())),
    }
    wrong = [
        f"{_number(found)} {what} (published: {_number(published)})"
        for what, (published, found) in pairs.items()
        if published != found and not (what == "validation images" and None in (published, found))
    ]
    if not wrong:
        return ()
    return (f"This is not the whole {known.title}, and results are not comparable: it has "
            f"{', '.join(wrong)}.",)  # fmt: skip


def _number(n: int | None) -> str:
    return "no" if n is None else f"{n:,}"
