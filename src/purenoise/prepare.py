"""From a recipe's data section to a long-tailed data set with its statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from purenoise.data.types import Dataset, Split
from purenoise.errors import DataError, RecipeError
from purenoise.longtail import (
    SUBSETS,
    imbalanced_counts,
    long_tail_subset,
    read_index_file,
    subset_sha256,
)
from purenoise.names import check_data_set, check_subset
from purenoise.noise import pixel_statistics
from purenoise.datasection import Data, Normalize

SIDE = 64  # of folder images, unless the recipe says otherwise
CHUNK = 1000


@dataclass(frozen=True)
class Prepared:
    """A data set as training sees it.

    Args:
        dataset: With its training set made long-tailed.
        counts: Training images per class, shape (C,).
        mean: Of the constants that normalise images and noise, in [0, 1], shape (channels,).
        std: Likewise.
        noise_mean: Mean of all pixels of the training images.
        noise_std: Standard deviation of all pixels of the training images.
    """

    dataset: Dataset
    counts: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    noise_mean: tuple[float, ...]
    noise_std: tuple[float, ...]


def prepare(data: Data) -> Prepared:
    """Load the images, make the training set long-tailed and measure its pixels.

    Raises:
        DataError: If the data cannot be used (what and why).
        RecipeError: If the recipe asks for what the data cannot give.
    """
    dataset = _hold_out(_long_tailed(_load(data), data), data)
    channels = dataset.image_shape[0]
    noise_mean, noise_std = pixel_statistics(_chunks(dataset.train))
    mean, std = tuple(map(float, noise_mean)), tuple(map(float, noise_std))
    constants = (mean, std)
    if isinstance(data.normalize, Normalize):
        constants = (tuple(data.normalize.mean), tuple(data.normalize.std))
    elif data.normalize == "auto" and dataset.normalize is not None:
        constants = (tuple(dataset.normalize[0]), tuple(dataset.normalize[1]))
    if len(constants[0]) != channels or len(constants[1]) != channels:
        raise RecipeError(
            f"data.normalize has {len(constants[0])} means and {len(constants[1])} deviations, and "
            f"the images have {channels} channels."
        )
    if min(constants[1]) <= 0:
        raise DataError("All training images have one and the same colour: nothing to learn from.")
    return Prepared(dataset, dataset.counts(), *constants, mean, std)


def _load(data: Data) -> Dataset:
    """Load the data set by name."""
    if check_data_set(data.name) == "digits":
        from purenoise.data.digits import load_digits

        return load_digits(seed=data.split_seed)
    if data.name in ("cifar10", "cifar100"):
        from purenoise.data.cifar import load_cifar

        return load_cifar(data.name, data.root or "data")
    return _load_folder(data)


def _load_folder(data: Data) -> Dataset:
    from purenoise.data.folder import load_folder
    from purenoise.data.scan import scan_folder

    if data.root is None:
        raise RecipeError("data.name is folder, and data.root is not set.", "Give data=PATH.")
    scan = scan_folder(data.root)
    size = data.image_size
    if size is None:
        sizes = {image.size for image in scan.images}
        small = len(sizes) == 1 and max(next(iter(sizes))) <= SIDE
        size = None if small else SIDE
    return load_folder(
        data.root,
        image_size=size,
        channels=data.channels,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        split_seed=data.split_seed,
        memory_limit=data.memory_mib << 20,
        scan=scan,
    )


def _long_tailed(dataset: Dataset, data: Data) -> Dataset:
    """Cut the training set down to the profile that the recipe asks for."""
    wanted, labels = data.imbalance, dataset.train.labels
    if wanted.subset not in SUBSETS:
        indices = read_index_file(check_subset(wanted.subset), len(labels))
    elif wanted.type == "none":
        return dataset
    else:
        n_max = int(dataset.counts().min())
        counts = imbalanced_counts(wanted.type, n_max, dataset.n_classes, wanted.ratio)
        indices = long_tail_subset(labels, counts, wanted.subset, wanted.seed)
    return replace(
        dataset, train=dataset.train.subset(indices), subset_sha256=subset_sha256(indices)
    )


def _hold_out(dataset: Dataset, data: Data) -> Dataset:
    """Set validation images aside, class by class, leaving each class one training image."""
    if data.val_fraction == 0 or dataset.val is not None:
        return dataset
    generator = np.random.default_rng([data.split_seed, 1])
    val = []
    for c in range(dataset.n_classes):
        index = generator.permutation(np.flatnonzero(dataset.train.labels == c))
        val.append(index[: min(round(data.val_fraction * len(index)), len(index) - 1)])
    held = np.sort(np.concatenate(val)).astype(np.int64)
    kept = np.setdiff1d(np.arange(len(dataset.train)), held).astype(np.int64)
    return replace(dataset, train=dataset.train.subset(kept), val=dataset.train.subset(held))


def _chunks(split: Split) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(split), CHUNK):
        yield split.images.load(np.arange(start, min(start + CHUNK, len(split)), dtype=np.int64))
