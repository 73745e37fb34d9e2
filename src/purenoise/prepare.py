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

from purenoise.data.types import Dataset, Split
from purenoise.datasection import Data, Normalize
from purenoise.errors import DataError, RecipeError, RunError
from purenoise.longtail import (
    SUBSETS,
    imbalanced_counts,
    long_tail_subset,
    read_index_file,
    subset_sha256,
)
from purenoise.names import check_data_set, check_subset
from purenoise.noise import pixel_statistics
from purenoise.noisesection import PHOTOGRAPHS

if TYPE_CHECKING:
    from purenoise.data.cacheroot import CacheChoice
    from purenoise.data.scan import FolderScan
    from purenoise.recipe import Recipe

SIDE = 64  # of folder images, unless the recipe says otherwise
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


def prepare(data: Data, scan: FolderScan | None = None) -> Prepared:
    """Load the images, make the training set long-tailed and measure its pixels.

    Args:
        data: The data section of a recipe.
        scan: What `scan_data` returned for it, to save looking twice.

    Raises:
        DataError: If the data cannot be used (what and why).
        RecipeError: If the recipe asks for what the data cannot give.
    """
    return prepare_dataset(_long_tailed(_load(data, scan), data), data)


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


def _adapted(dataset: Dataset, data: Data) -> Dataset:
    """Bring images to the size and channels that the recipe asks for, if loading has not."""
    from purenoise.data.adapted import adapt

    channels, *own = dataset.image_shape
    size = (data.image_size,) * 2 if isinstance(data.image_size, int) else data.image_size
    height, width = size or own
    return adapt(dataset, (data.channels or channels, height, width), data.memory_mib << 20)


def scan_data(data: Data, *, insists: bool = True) -> FolderScan | None:
    """Look at every file of the folder that a recipe names, keeping decoded images as it says.

    Args:
        data: The data section of a recipe.
        insists: Whether it is an error if decoded images cannot be kept in a place that the recipe
            names; otherwise they are not kept.

    Returns:
        What is there; None if the recipe names no folder.

    Raises:
        DataError: If the folder cannot be used, or decoded images cannot be kept where the recipe
            says.
        RecipeError: If the recipe asks for a folder and names none.
    """
    from purenoise.data.scan import scan_folder
    from purenoise.data.target import Keep, Target

    if data.name != "folder":
        return None
    if data.root is None:
        raise RecipeError("data.name is folder, and data.root is not set.", "Give data=PATH.")
    target = Target(data.image_size, data.channels, SIDE)
    choice, notes = _cache_choice(data)
    if choice is not None and not insists:
        choice = replace(choice, required=False)
    scan = scan_folder(data.root, Keep(target, choice, data.memory_mib << 20))
    return replace(scan, notes=(*notes, *scan.notes))


def _cache_choice(data: Data) -> tuple[CacheChoice | None, list[str]]:
    """Return where decoded images are to be kept (None: nowhere), and a note if they cannot be."""
    from purenoise.data.cacheroot import MIB, CacheChoice, NoCacheError, default_root

    if data.cache == "off":
        return None, []
    if data.cache != "auto":
        root = Path(os.path.abspath(os.path.expanduser(data.cache)))
        return CacheChoice(root, data.cache_mib * MIB, required=True), []
    try:
        return CacheChoice(default_root(), data.cache_mib * MIB), []
    except NoCacheError as error:
        return None, [f"Decoded images are not kept: {error}."]


def absolute_root(data: Data) -> Data:
    """Return the data section with the whole path of its folder of images, if there is that folder.

    So a run can be evaluated from anywhere, and ``grey``, ``grey/`` and ``/data/grey`` are one. A
    folder for decoded images gets its whole path as well.
    """
    if data.cache not in ("auto", "off"):
        data = data.model_copy(update={"cache": os.path.abspath(os.path.expanduser(data.cache))})
    path = os.path.expanduser(data.root or "")
    if data.name != "folder" or not path or not Path(path).is_dir():
        return data  # loading refuses a folder that is missing in the user's own words
    return data.model_copy(update={"root": os.path.realpath(path)})


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
    where = f"the images in '{data.root}'" if data.name == "folder" else f"the data, {data.name},"
    raise RunError(
        f"The data are not those that {run} was begun with: {where} have changed since.",
        "Put the data back as they were, or train anew with out=FOLDER.",
    )


def check_folder_unchanged(kept: Mapping[str, Any], data: Data, run: str | Path) -> None:
    """Do `check_unchanged` for a folder of images, if it is still there, decoding nothing twice.

    Raises:
        DataError: If the folder can no longer be used.
        RunError: If its images have changed.
    """
    if data.name == "folder" and data.root is not None and Path(data.root).is_dir():
        data = data.model_copy(update={"memory_mib": 0})
        there = _load_folder(data, scan_data(data, insists=False))
        check_unchanged(kept, _long_tailed(there, data), data, run)


def _load(data: Data, scan: FolderScan | None) -> Dataset:
    """Load the data set by name."""
    if check_data_set(data.name) == "digits":
        from purenoise.data.digits import load_digits

        return load_digits(seed=data.split_seed)
    if data.name in ("cifar10", "cifar100"):
        from purenoise.data.cifar import load_cifar

        return load_cifar(data.name, data.root or "data")
    return _load_folder(data, scan)


def _load_folder(data: Data, scan: FolderScan | None = None) -> Dataset:
    from purenoise.data.folder import load_folder

    scan = scan or scan_data(data)
    assert scan is not None
    assert data.root is not None
    return load_folder(
        data.root,
        image_size=data.image_size,
        channels=data.channels,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        split_seed=data.split_seed,
        memory_limit=data.memory_mib << 20,
        scan=scan,
        usual_side=SIDE,
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


def _fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256 over classes, labels and pixels of all splits."""
    digest = hashlib.sha256(repr((dataset.class_names, dataset.image_shape)).encode())
    for name in ("train", "val", "test"):
        split = getattr(dataset, name)
        if split is not None:
            digest.update(f"{name} {len(split)}".encode() + split.labels.tobytes())
            for chunk in _chunks(split):
                digest.update(chunk.tobytes())
    return digest.hexdigest()


def _chunks(split: Split) -> Iterator[NDArray[np.uint8]]:
    """Yield all images of a split in pieces of bounded size."""
    step = max(1, min(CHUNK, CHUNK_BYTES // int(np.prod(split.images.shape))))
    for start in range(0, len(split), step):
        yield split.images.load(np.arange(start, min(start + step, len(split)), dtype=np.int64))
