"""Data sets that hand out one image at a time, by number: arrays, torchvision's, Hugging Face's.

They are brought to one size as files are (`decode.to_pixels`), held in memory if they fit, and else
decoded each time they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from purenoise.data.decode import (
    COLOUR_MODES,
    GREY_MODES,
    UnusableImageError,
    in_threads,
    to_grey_or_colour,
    to_pixels,
)
from purenoise.data.holdout import aside_note, set_aside
from purenoise.data.target import Target
from purenoise.data.types import SAMPLE, Dataset, Images, MemoryImages, Split
from purenoise.errors import DataError

LOOKED_AT = 1000  # images of each split from which the shape is taken

Read = Callable[[int], Image.Image]


@dataclass(frozen=True)
class ItemImages:
    """Images that a function returns one by one.

    Args:
        read: Returns image ``i``; called by several threads at once.
        n: How many there are.
        shape: Channels, height and width to which every image is brought.
    """

    read: Read
    n: int
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return self.n

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the images at ``indices``, uint8 of shape (B, C, H, W)."""
        images = np.empty((len(indices), *self.shape), np.uint8)

        def fill(row: int) -> None:
            images[row] = to_pixels(plain_image(self.read, int(indices[row])), self.shape)

        in_threads(fill, range(len(indices)))
        return images


@dataclass(frozen=True)
class Items:
    """One split: images by number, with their labels."""

    read: Read
    labels: NDArray[np.int64]


def plain_image(read: Read, i: int) -> Image.Image:
    """Return image ``i`` as grey or colour, of mode ``L`` or ``RGB``.

    Raises:
        DataError: It cannot be used.
    """
    try:
        image = read(i)
        if image.mode not in GREY_MODES | COLOUR_MODES:
            raise UnusableImageError(f"of mode {image.mode}, and 8-bit grey and colour are read")
        return to_grey_or_colour(image)
    except (OSError, UnusableImageError) as error:
        raise DataError(f"Image {i} cannot be used: {error}.") from error


def item_dataset(
    name: str,
    class_names: tuple[str, ...],
    parts: Mapping[str, Items],
    target: Target,
    *,
    test_fraction: float,
    split_seed: int,
    memory_limit: int,
) -> Dataset:
    """Bring images to one size and make a data set of them.

    Args:
        name: Of the data set.
        class_names: One per class.
        parts: ``train``, and perhaps ``val`` and ``test``; without ``test``, a part of each class
            is set aside.
        target: The shape that is asked for.
        test_fraction: That part, in (0, 1).
        split_seed: Of that draw.
        memory_limit: Bytes that all images may take in memory.

    Raises:
        DataError: A class has no training image, there are fewer than two, or an image cannot be
            used.
    """
    check_classes(name, class_names, parts["train"].labels)
    shape = target.shape(_headers(parts))
    assert shape is not None  # there are training images
    n = sum(len(part.labels) for part in parts.values())
    in_memory = n * int(np.prod(shape)) <= memory_limit
    splits: dict[str, Split] = {}
    for split, part in parts.items():
        images: Images = ItemImages(part.read, len(part.labels), shape)
        if in_memory:
            images = MemoryImages(images.load(np.arange(len(images), dtype=np.int64)))
        splits[split] = Split(images, part.labels)
    notes = []
    if "test" not in splits:
        whole = splits["train"]
        aside = set_aside(whole.labels, len(class_names), test_fraction, split_seed)
        splits["test"] = whole.subset(np.flatnonzero(aside))
        splits["train"] = whole.subset(np.flatnonzero(~aside))
        notes.append(aside_note(int(aside.sum()), test_fraction, split_seed))
    if not in_memory:
        notes.append(
            f"{n:,} images do not fit data.memory_mib: they are decoded as training asks for them, "
            f"and statistics come from at most {SAMPLE:,}."
        )
    return Dataset(
        name, class_names, splits["train"], splits["test"], splits.get("val"),
        notes=tuple(notes), sampled=not in_memory,
    )  # fmt: skip


def check_classes(name: str, class_names: tuple[str, ...], labels: NDArray[np.int64]) -> None:
    """Refuse fewer than two classes, and classes without training images."""
    if len(class_names) < 2:
        raise DataError(f"{name} has {len(class_names)} class, and at least two are needed.")
    found = np.bincount(labels, minlength=len(class_names))
    bare = [class_names[c] for c in np.flatnonzero(found == 0).tolist()]
    if bare:
        more = f" and {len(bare) - 5} more" if len(bare) > 5 else ""
        raise DataError(
            f"{name} has no training image of {', '.join(map(repr, bare[:5]))}{more}.",
            "Labels are numbers from 0 on, without gaps.",
        )


def checked_labels(values: object, n_classes: int, where: str) -> NDArray[np.int64]:
    """Return labels as int64 of shape (N,).

    Raises:
        DataError: They are no whole numbers in 0..n_classes-1.
    """
    labels = np.asarray(values)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"The labels of {where} are {labels.dtype} of shape {labels.shape}, and whole numbers, "
            "one per image, are needed."
        )
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(bad):
        raise DataError(
            f"{len(bad)} labels of {where} are outside 0..{n_classes - 1}, the first is "
            f"{labels[bad[0]]} (image {bad[0]})."
        )
    return labels.astype(np.int64)


def _headers(parts: Mapping[str, Items]) -> Iterator[tuple[tuple[int, int], bool]]:
    """Yield size and greyness of some images of each split, evenly spread."""
    for part in parts.values():
        n = len(part.labels)
        for i in np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(np.int64)).tolist():
            image = plain_image(part.read, i)
            yield (image.height, image.width), image.mode == "L"
