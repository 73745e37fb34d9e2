"""From a recipe's data section to a long-tailed data set with its statistics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from purenoise.data.types import SAMPLE, Dataset, Split
from purenoise.datasection import Data, Normalize
from purenoise.datasources import absolute_root, is_there, load_data, reads_files, scan_data
from purenoise.errors import DataError, RecipeError, RunError
from purenoise.longtail import (
    SUBSETS,
    imbalanced_counts,
    long_tail_subset,
    read_index_file,
    subset_sha256,
)
from purenoise.names import SHORT_DATA, check_subset
from purenoise.noise import pixel_statistics
from purenoise.noisesection import PHOTOGRAPHS

if TYPE_CHECKING:
    from purenoise.data.arrays import ArrayData
    from purenoise.data.scan import FolderScan
    from purenoise.recipe import Recipe

CHUNK = 1000  # images, or fewer if they take more than
CHUNK_BYTES = 16 << 20


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

    def summary(self) -> dict[str, Any]:
        """Return what a run's files say about its data, as plain values."""
        d = self.dataset
        return {
            "data": d.name, "class_names": list(d.class_names), "counts": self.counts.tolist(),
            "image_shape": list(d.image_shape), "subset_sha256": d.subset_sha256,
            "fingerprint": d.fingerprint,
            "n_train": len(d.train), "n_val": len(d.val) if d.val else 0, "n_test": len(d.test),
            "normalize": [list(self.mean), list(self.std)],
            "noise": [list(self.noise_mean), list(self.noise_std)],
        }  # fmt: skip


def prepare(
    data: Data, scan: FolderScan | None = None, arrays: ArrayData | None = None
) -> Prepared:
    """Load the images, make the training set long-tailed and measure its pixels.

    Args:
        data: The data section of a recipe.
        scan: What `scan_data` returned for it, to save looking twice.
        arrays: The images, if they were given in Python.

    Raises:
        DataError: If the data cannot be used (what and why).
        RecipeError: If the recipe asks for what the data cannot give.
    """
    return prepare_dataset(_long_tailed(load_data(data, scan, arrays), data), data)


def prepare_dataset(dataset: Dataset, data: Data) -> Prepared:
    """Set validation images aside and measure the pixels of the training images that are left.

    Args:
        dataset: With the training images as they are to be.
        data: Says how many images validate, and by which constants images are normalised.

    Raises:
        DataError: If all training images have one colour.
        RecipeError: If the recipe asks for what the data cannot give.
    """
    dataset = _hold_out(dataset, data)
    if dataset.fingerprint is None:
        dataset = replace(dataset, fingerprint=_fingerprint(dataset))
    dataset = _adapted(dataset, data)
    channels = dataset.image_shape[0]
    noise_mean, noise_std = pixel_statistics(_chunks(_some(dataset.train, dataset.sampled)))
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


def _adapted(dataset: Dataset, data: Data) -> Dataset:
    """Bring images to the size and channels that the recipe asks for, if loading has not."""
    from purenoise.data.adapted import adapt

    channels, *own = dataset.image_shape
    size = (data.image_size,) * 2 if isinstance(data.image_size, int) else data.image_size
    height, width = size or own
    return adapt(dataset, (data.channels or channels, height, width), data.memory_mib << 20)


def placed(recipe: Recipe) -> Recipe:
    """Return the recipe with the whole paths of what it reads, and what it takes from weights."""
    from purenoise.modelinput import fit_recipe

    noise, path = recipe.noise, os.path.expanduser(recipe.noise.source or "")
    if noise.source not in (None, PHOTOGRAPHS) and Path(path).is_dir():
        noise = noise.model_copy(update={"source": os.path.realpath(path)})
    model = recipe.model
    if model.weights is not None:
        path = os.path.abspath(os.path.expanduser(model.weights))
        model = model.model_copy(update={"weights": path})
    update = {"data": absolute_root(recipe.data), "noise": noise, "model": model}
    return fit_recipe(recipe.model_copy(update=update))


def check_unchanged(kept: Mapping[str, Any], dataset: Dataset, data: Data, run: str | Path) -> None:
    """Refuse data that are not those of a run: its test images may be among the training images.

    Args:
        kept: ``fingerprint`` and ``subset_sha256`` of the run's data.
        dataset: What there is now.
        data: Where it comes from.
        run: The run's folder.

    Raises:
        RunError: If they differ.
    """
    if all(kept.get(key) == getattr(dataset, key) for key in ("fingerprint", "subset_sha256")):
        return
    where = f"the data, {data.name},"
    if data.name == "folder":
        where = f"the images in '{data.root}'"
    elif data.root is not None and data.name not in SHORT_DATA:
        where = f"the data, {data.name} in '{data.root}',"
    raise RunError(
        f"The data are not those that {run} was begun with: {where} have changed since.",
        "Put the data back as they were, or train anew with out=FOLDER.",
    )


def check_folder_unchanged(kept: Mapping[str, Any], data: Data, run: str | Path) -> None:
    """Do `check_unchanged` for images of one's own, if they are still there.

    Raises:
        DataError: If they can no longer be used.
        RunError: If they have changed.
    """
    if not is_there(data):
        return
    if reads_files(data):  # what was decoded is in the cache: nothing has to be held
        data = data.model_copy(update={"memory_mib": 0})
    scan = scan_data(data, insists=False)
    there = _hold_out(_long_tailed(load_data(data, scan), data), data)
    if there.fingerprint is None:
        there = replace(there, fingerprint=_fingerprint(there))
    check_unchanged(kept, there, data, run)


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


def _fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256 over classes, labels and pixels of all splits."""
    digest = hashlib.sha256(repr((dataset.class_names, dataset.image_shape)).encode())
    for name in ("train", "val", "test"):
        split = getattr(dataset, name)
        if split is not None:
            digest.update(f"{name} {len(split)}".encode() + split.labels.tobytes())
            for chunk in _chunks(_some(split, dataset.sampled)):
                digest.update(chunk.tobytes())
    return digest.hexdigest()


def _some(split: Split, sampled: bool) -> Split:
    """Return a split, or some of its images, always the same, if a sample is to do.

    The mean of 2,000 images is off by a forty-fifth of the deviation between images.
    """
    if not sampled or len(split) <= SAMPLE:
        return split
    chosen = np.random.default_rng(0).choice(len(split), SAMPLE, replace=False)
    return split.subset(np.sort(chosen).astype(np.int64))


def _chunks(split: Split) -> Iterator[NDArray[np.uint8]]:
    """Yield all images of a split in pieces of bounded size."""
    step = max(1, min(CHUNK, CHUNK_BYTES // int(np.prod(split.images.shape))))
    for start in range(0, len(split), step):
        yield split.images.load(np.arange(start, min(start + step, len(split)), dtype=np.int64))
