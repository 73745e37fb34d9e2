"""Any of torchvision's data sets for classification, by its name.

Differs from using them by hand: their splits have one set of names here (train, val, test), nothing
is fetched unless ``data.download=true``, every failure says where files belong, and labels are
those that indexing gives, wherever the data set keeps them.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from purenoise.data.cifar import quiet
from purenoise.data.fetching import archives_in, aside, patient, reason
from purenoise.data.items import Items, checked_labels, item_dataset
from purenoise.data.target import Target
from purenoise.data.torchvision_names import SPLITS, check_torchvision_set
from purenoise.data.types import Dataset
from purenoise.errors import DataError

# Letters, digits and signs, which are others when they are mirrored.
NOT_MIRRORED = frozenset(
    {"EMNIST", "GTSRB", "KMNIST", "MNIST", "QMNIST", "RenderedSST2", "SEMEION", "SVHN", "USPS"}
)
PROBED = 16  # labels that are compared with those that indexing gives
LABELS = ("targets", "labels", "_labels", "y")  # where data sets keep all of them
BROKEN = (RuntimeError, OSError, HTTPException, ValueError, KeyError, IndexError, EOFError,
          ImportError, TypeError, pickle.UnpicklingError, tarfile.TarError, zipfile.BadZipFile,
          zlib.error, lzma.LZMAError, struct.error, ParseError)  # fmt: skip


def load_torchvision_set(
    name: str, root: str | Path, target: Target, *, download: bool = False, **options: Any
) -> Dataset:
    """Load one of torchvision's data sets for classification.

    Args:
        name: Such as ``SVHN``.
        root: Folder in which it lies, or to which it is fetched, in torchvision's layout.
        target: The shape that is asked for.
        download: Whether to fetch what is missing.
        **options: As `purenoise.data.items.item_dataset` takes them.

    Raises:
        DataError: Its files are missing or damaged, or cannot be fetched.
        RecipeError: There is no such set, or it is not for classification.
    """
    check_torchvision_set(name)
    folder = Path(os.path.expanduser(root))
    parts = {split: _open(name, split, folder, download) for split in SPLITS[name]}
    names = _class_names(parts["train"])
    items: dict[str, Items] = {}
    for split, data in parts.items():
        labels = _labels(data)
        if names is None:
            names = tuple(map(str, range(int(labels.max(initial=0)) + 1)))
        labels = checked_labels(labels, len(names), f"the {split} images of torchvision:{name}")
        items[split] = Items(_reader(data), labels)
    assert names is not None
    dataset = item_dataset(f"torchvision:{name}", names, items, target, **options)
    return replace(dataset, mirror_safe=name not in NOT_MIRRORED)


def _open(name: str, split: str, root: Path, download: bool) -> Any:
    """Return torchvision's own data set of one split."""
    import torchvision.datasets as sets  # slow to import

    kind = getattr(sets, name)
    options = dict(SPLITS[name][split])
    can = _can_download(kind)

    def read(folder: Path, **more: bool) -> Any:
        with quiet(), patient():
            return kind(str(folder), **options, **more)

    try:
        if can and download:
            _fetch(read, root)
        return read(root, **({"download": False} if can else {}))
    except BROKEN as error:
        if not can:
            hint = f"torchvision does not fetch {name}: put its files there by hand."
        elif download:
            hint = "Is there a network? Else put the files there by hand, as torchvision lays them."
        else:
            hint = "Give data.root, where they lie, or data.download=true to fetch them."
        raise DataError(
            f"The {split} images of torchvision:{name} are not in '{root}' or cannot be read: "
            f"{reason(error)}.",
            hint,
        ) from error


def _fetch(read: Callable[..., Any], root: Path) -> None:
    """Fetch a split that is not in its folder, so that nothing broken off is left there.

    Raises:
        Exception: One of `BROKEN`, if it cannot be had.
    """
    with contextlib.suppress(*BROKEN):
        read(root, download=False)
        return
    archives = archives_in(root)
    try:
        with aside(root) as folder:
            read(folder, download=True)
    except BROKEN:
        if not archives:
            raise
        with aside(root, archives) as folder:  # what was put there by hand needs no network
            read(folder, download=True)


def _can_download(kind: Any) -> bool:
    """Return whether a data set's class takes ``download=``, itself or through its base."""
    import inspect

    seen = [inspect.signature(base.__init__).parameters for base in kind.__mro__[:-1]]
    takes = ["download" in parameters for parameters in seen]
    passes = any(p.kind is p.VAR_KEYWORD for p in seen[0].values())
    return takes[0] or (passes and kind.__name__ != "ImageNet" and any(takes))


def _class_names(data: Any) -> tuple[str, ...] | None:
    """Return the names of the classes, if the data set says them."""
    names = getattr(data, "classes", None) or getattr(data, "categories", None)
    if not isinstance(names, Sequence) or isinstance(names, str) or len(names) < 2:
        return None
    plain = [str(n if isinstance(n, str) else n[0]) for n in names if n]
    return tuple(plain) if len(set(plain)) == len(names) else None


def _labels(data: Any) -> NDArray[np.int64]:
    """Return all labels: those that are kept, if indexing gives the same, else by indexing."""
    n = len(data)
    probes = np.unique(np.linspace(0, n - 1, min(n, PROBED)).astype(np.int64)).tolist()
    true = [int(data[i][1]) for i in probes]
    for key in LABELS:
        values = getattr(data, key, None)
        if values is None or len(values) != n:
            continue
        kept = np.asarray(values)
        if kept.ndim == 1 and kept.dtype.kind in "iu" and kept[probes].tolist() == true:
            return kept.astype(np.int64)
    return np.array([int(data[i][1]) for i in range(n)], np.int64)


def _reader(data: Any) -> Any:
    """Return a function that gives image ``i`` of a data set."""

    def read(i: int) -> Image.Image:
        image = data[i][0]
        return image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))

    return read
