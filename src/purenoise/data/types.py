"""What every data set is turned into: splits of uint8 images with integer labels.

Images are loaded by index, so that a split may lie in memory or on disk; everything after this
point (subsets, samplers, augmentation, models) sees one type and never asks where it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE = 2000  # images from which statistics come where there are too many to look at


class Images(Protocol):
    """Images that are read by index."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width, the same for every image."""

    def __len__(self) -> int: ...

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at ``indices`` as uint8 of shape (len(indices), C, H, W)."""


@dataclass(frozen=True)
class MemoryImages:
    """Images held in memory.

    Args:
        array: uint8, shape (N, C, H, W).
    """

    array: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, channels, height, width = self.array.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.array)

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a copy of the images at ``indices``."""
        return self.array[indices]


@dataclass(frozen=True)
class SelectedImages:
    """Some images of another store, in a given order, without copying them."""

    source: Images
    indices: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.source.shape

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at ``indices`` of the selection."""
        return self.source.load(self.indices[indices])


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Args:
        images: The images.
        labels: int64, shape (N,), values 0..C-1.
        names: One name per image (a path relative to the data folder), or empty.
    """

    images: Images
    labels: NDArray[np.int64]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: NDArray[np.int64]) -> Split:
        """Return the images at ``indices``, in that order."""
        if isinstance(self.images, MemoryImages):
            images: Images = MemoryImages(self.images.array[indices])
        else:
            images = SelectedImages(self.images, np.asarray(indices, np.int64))
        names = tuple(self.names[i] for i in indices) if self.names else ()
        return Split(images, self.labels[indices], names)

    def counts(self, n_classes: int) -> NDArray[np.int64]:
        """Return the number of images per class, int64 of shape (n_classes,)."""
        return np.bincount(self.labels, minlength=n_classes).astype(np.int64)


@dataclass(frozen=True)
class Dataset:
    """A classification data set, ready for training.

    Args:
        name: ``digits``, ``cifar10``, or the name of a folder.
        class_names: One per class; their order gives the labels.
        train: Training images.
        test: Test images.
        val: Validation images, if the data has them or some were set aside.
        mirror_safe: Whether a mirrored image is still an image of its class.
        normalize: Customary (mean, std) per channel in [0, 1], if the data set has such; otherwise
            the statistics of the training images are used.
        subset_sha256: Hash of the indices that made the training set long-tailed, if any.
        fingerprint: SHA-256 over classes, splits, labels and content of the images, but not their
            names; None until it is known.
        notes: What was found while loading that a user should know, one sentence each.
        sampled: Whether there are so many images, decoded each time they are asked for, that
            statistics are to be taken from some of them.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    val: Split | None = None
    mirror_safe: bool = True
    normalize: tuple[Sequence[float], Sequence[float]] | None = None
    subset_sha256: str | None = None
    fingerprint: str | None = None
    notes: tuple[str, ...] = field(default=())
    sampled: bool = False

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.train.images.shape

    def counts(self) -> NDArray[np.int64]:
        """Return the number of training images per class."""
        return self.train.counts(self.n_classes)
