"""Images and labels as NumPy arrays: from Python, or from a file in MedMNIST's layout.

Differs from the habit of reading whatever an ``.npz`` holds: what its members would take is read
from their headers first, pickles are refused, and every fault is told at once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from purenoise.data.items import Items, checked_labels, item_dataset
from purenoise.data.npzfile import ArchiveError, ObjectsError, TooLargeError, read_npz
from purenoise.data.target import Target
from purenoise.data.types import Dataset
from purenoise.errors import DataError

SPLITS = ("train", "val", "test")


class ArrayData:
    """Images and labels in memory, as a data set for `purenoise.train`.

    Args:
        x_train: uint8, shape (N, H, W), (N, H, W, C) or (N, C, H, W); C is 1 or 3.
        y_train: Labels: whole numbers from 0 on without gaps, or names; shape (N,) or (N, 1).
        x_test: Test images; None: a part of each class is set aside.
        y_test: Theirs.
        x_val: Validation images.
        y_val: Theirs.
        class_names: One per class. None: the names that labels are, or their numbers.

    Raises:
        DataError: Shapes, types or labels do not fit; all faults are named.

    Example:
        >>> x = np.zeros((6, 8, 8), np.uint8)
        >>> ArrayData(x, ["cat", "cat", "cat", "cat", "dog", "dog"]).class_names
        ('cat', 'dog')
    """

    def __init__(
        self,
        x_train: ArrayLike,
        y_train: ArrayLike,
        x_test: ArrayLike | None = None,
        y_test: ArrayLike | None = None,
        x_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        given = {"train": (x_train, y_train), "val": (x_val, y_val), "test": (x_test, y_test)}
        faults: list[str] = []
        images: dict[str, NDArray[np.uint8]] = {}
        labels: dict[str, NDArray[Any]] = {}
        for split, (x, y) in given.items():
            if (x is None) != (y is None):
                faults.append(f"{split} has {'labels' if x is None else 'images'} only")
            elif x is not None:
                images[split] = _images(np.asarray(x), split, faults)
                labels[split] = _flat(np.asarray(y), split, len(images[split]), faults)
        if faults:
            raise DataError(
                f"The arrays cannot be used: {'; '.join(faults)}.",
                "Images are uint8 of shape (N, H, W), (N, H, W, C) or (N, C, H, W), with a label "
                "each.",
            )
        self.class_names = _names(labels["train"], class_names)
        self.images = images
        self.labels = {split: self._numbers(split, y) for split, y in labels.items()}

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split}: {len(y)}" for split, y in self.labels.items())
        return f"ArrayData({len(self.class_names)} classes, {sizes})"

    def sha256(self) -> str:
        """Return the SHA-256 over class names, shapes, images and labels, 64 hex digits."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for split, x in self.images.items():
            digest.update(f"{split} {x.shape}".encode() + self.labels[split].tobytes())
            digest.update(np.ascontiguousarray(x).data)
        return digest.hexdigest()

    def dataset(self, name: str, target: Target, **options: Any) -> Dataset:
        """Return them as a data set (:func:`purenoise.data.items.item_dataset`)."""
        parts = {
            split: Items(_reader(x), self.labels[split])
            for split, x in self.images.items()
            if len(x)
        }
        return item_dataset(name, self.class_names, parts, target, **options)

    def _numbers(self, split: str, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return labels as class numbers."""
        if values.dtype.kind in "iu":
            return checked_labels(values, len(self.class_names), split)
        number = {name: i for i, name in enumerate(self.class_names)}
        strange = sorted({str(v) for v in values.tolist()} - set(number))
        if strange:
            raise DataError(f"Labels of {split} are no classes of the training images: {strange}.")
        return np.array([number[str(v)] for v in values.tolist()], np.int64)


def load_npz(file: str | Path, target: Target, *, memory_limit: int, **options: Any) -> Dataset:
    """Load a file in MedMNIST's layout: ``train_images``, ``train_labels``, ``val_*``, ``test_*``.

    Args:
        file: An ``.npz``; images uint8 of shape (N, H, W) or (N, H, W, 3), labels (N,) or (N, 1).
        target: The shape that is asked for.
        memory_limit: Bytes that its arrays may take together.
        **options: As `purenoise.data.items.item_dataset` takes them.

    Raises:
        DataError: It is missing, damaged, of another layout, or too large.
    """
    path = Path(os.path.expanduser(file))
    arrays = _read_npz(path, memory_limit)
    pairs: dict[str, Any] = {}
    for split in SPLITS:
        pairs[f"x_{split}"] = arrays.get(f"{split}_images")
        pairs[f"y_{split}"] = arrays.get(f"{split}_labels")
        if split != "train" and pairs[f"x_{split}"] is not None and not len(pairs[f"x_{split}"]):
            pairs[f"x_{split}"] = pairs[f"y_{split}"] = None
    return ArrayData(**pairs).dataset(path.stem, target, memory_limit=memory_limit, **options)


def _read_npz(path: Path, memory_limit: int) -> Mapping[str, NDArray[Any]]:
    """Read the arrays of the layout, once their headers say that they fit."""
    wanted = [f"{split}_{what}" for split in SPLITS for what in ("images", "labels")]

    def choose(names: list[str]) -> list[str]:
        absent = [name for name in wanted[:2] if name not in names]
        if absent:
            raise DataError(
                f"'{path}' has no {' and no '.join(absent)}; it has "
                f"{', '.join(names) or 'no arrays'}.",
                "MedMNIST's layout is train_images, train_labels, test_images, test_labels.",
            )
        return [name for name in wanted if name in names]

    try:
        return read_npz(path, choose, memory_limit)
    except FileNotFoundError:
        raise DataError(f"There is no file '{path}'.", "Check data.root.") from None
    except TooLargeError as error:
        raise DataError(
            f"The arrays in '{path}' take {error.args[0] / 2**20:,.0f} MiB, and data.memory_mib "
            f"allows {memory_limit / 2**20:,.0f}.",
            "Raise data.memory_mib.",
        ) from None
    except ObjectsError as error:
        raise DataError(
            f"{error} in '{path}' holds Python objects, which are not read: they can run code.",
            "Save images as uint8 and labels as whole numbers.",
        ) from None
    except ArchiveError as error:
        raise DataError(f"'{path}' is no .npz file that can be read ({error}).") from error


def _images(x: NDArray[Any], split: str, faults: list[str]) -> NDArray[np.uint8]:
    """Return images as uint8 of shape (N, H, W) or (N, H, W, 3)."""
    if x.dtype != np.uint8:
        faults.append(f"the images of {split} are {x.dtype}, not uint8 (values 0 to 255)")
    if x.ndim == 4 and x.shape[3] not in (1, 3) and x.shape[1] in (1, 3):
        x = x.transpose(0, 2, 3, 1)  # (N, H, W, C)
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)) or 0 in x.shape[1:]:
        faults.append(f"the images of {split} have the shape {x.shape}")
    elif not len(x) and split == "train":
        faults.append("there are no training images")
    return x


def _flat(y: NDArray[Any], split: str, n: int, faults: list[str]) -> NDArray[Any]:
    """Return labels of shape (N,)."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        faults.append(f"the labels of {split} have the shape {y.shape}: several labels per image")
    elif y.shape != (n,):
        faults.append(f"{split} has {n} images and labels of shape {y.shape}")
    elif y.dtype.kind not in "iuUT" and not all(isinstance(v, str) for v in y.tolist()):
        faults.append(f"the labels of {split} are {y.dtype}, neither whole numbers nor names")
    return y


def _names(labels: NDArray[Any], given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the classes."""
    if given is not None:
        names = tuple(map(str, given))
        if len(set(names)) < len(names):
            raise DataError("Two classes have one name in class_names.")
        return names
    if labels.dtype.kind in "iu":
        if int(labels.min(initial=0)) < 0:
            raise DataError(f"A label of train is {labels.min()}; labels begin at 0.")
        most = int(labels.max(initial=0))
        if most >= max(1000, 100 * len(labels)):
            raise DataError(f"A label of train is {most}, with {len(labels)} images.")
        return tuple(map(str, range(most + 1)))
    return tuple(sorted({str(v) for v in labels.tolist()}))


def _reader(x: NDArray[np.uint8]) -> Any:
    """Return a function that gives image ``i`` of an array."""
    return lambda i: Image.fromarray(np.ascontiguousarray(x[i]))
