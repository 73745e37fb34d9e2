"""Load images that lists name: `path label` lines for train, test and perhaps val.

Short lists are examined as a folder is: every file is decoded once, into the cache, so that broken
and identical files are known before training and statistics are exact. Long ones (``LONG``) must
start quickly: every file is looked up, none but a sample is opened, and images are decoded when
training asks for them. The published sets are of that kind at their usual size, where decoding all
of them once would take hours and tens of gigabytes.

Differs from the readers that the field copies from each other: see `listfile`; and identical paths
in train and test stop everything.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from purenoise.data.decode import read_header
from purenoise.data.files import FileImages
from purenoise.data.folder import load_folder
from purenoise.data.holdout import aside_note, set_aside
from purenoise.data.known import KNOWN, count_notes
from purenoise.data.listfile import (
    Faults,
    ListedImages,
    check_files,
    check_labels,
    check_repeats,
    class_names,
    read_list,
)
from purenoise.data.listing import Listing
from purenoise.data.scan import FolderScan, scan_listing
from purenoise.data.target import Keep, Target
from purenoise.data.types import SAMPLE, Dataset, Split
from purenoise.errors import DataError

LONG = 20_000  # images from which on they are decoded later
LOOKED_AT = 1000  # headers of a long list from which the shape is taken
SPLITS = ("train", "val", "test")

Lists = Mapping[str, ListedImages]


class ListedSet:
    """Lists that were read and checked, with their folder of images.

    Args:
        name: ``list`` or a known set.
        root: Folder of the images, absolute and without links.
        lists: By split; ``train`` is there.
        names: Names of the classes; None: those of their folders.

    Raises:
        DataError: Naming all that is wrong with all lists.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        lists: Lists,
        names: tuple[str, ...] | None = None,
        faults: Faults | None = None,
    ) -> None:
        faults = faults or Faults()
        self.name, self.root, self.lists = name, root, lists
        n_classes = check_labels(lists, faults)
        check_repeats(lists, faults)
        self.stats = {split: check_files(root, part, faults) for split, part in lists.items()}
        faults.raise_any(
            f"The list{'s' * (len(lists) > 1)} of images in '{root}' "
            f"ha{'ve' if len(lists) > 1 else 's'}",
            "Mend the lists, or data.root if the files are elsewhere: nothing was trained.",
        )
        train = lists["train"]
        self.class_names = names or class_names(train.paths, train.labels, n_classes)
        if n_classes < 2:
            raise DataError(
                f"{train.file} names {n_classes} class{'es' * (n_classes != 1)}.",
                "At least two are needed, numbered from 0.",
            )

    def __len__(self) -> int:
        return sum(len(part.paths) for part in self.lists.values())

    def is_long(self, decode: str) -> bool:
        """Return whether images are decoded when they are asked for."""
        return decode == "later" or (decode == "auto" and len(self) > LONG)

    def scan(self, keep: Keep) -> FolderScan:
        """Decode every image once, keeping the pixels."""
        return scan_listing(self._listing(), keep, "list")

    def load_scanned(
        self, scan: FolderScan, target: Target, *, val_fraction: float, test_fraction: float,
        split_seed: int, memory_limit: int,
    ) -> Dataset:  # fmt: skip
        """Return the data set of a scan, as `load_folder` does."""
        dataset = load_folder(
            self.root, image_size=target.image_size, channels=target.channels,
            val_fraction=val_fraction if "val" not in self.lists else 0.0,
            test_fraction=test_fraction, split_seed=split_seed, memory_limit=memory_limit,
            scan=scan, usual_side=target.usual_side,
        )  # fmt: skip
        return self._finished(dataset)

    def load_later(self, target: Target, *, test_fraction: float, split_seed: int) -> Dataset:
        """Return the data set with images that are decoded when they are asked for."""
        train = self.lists["train"]
        shape = target.shape(self._some_headers(train))
        if shape is None:
            raise DataError(
                f"None of the first images of {train.file} that were looked at can be opened.",
                "See whether data.root holds images; data.decode=ahead examines every file.",
            )
        splits = {split: self._split(part, shape) for split, part in self.lists.items()}
        notes = [
            f"{len(self):,} images are decoded as training asks for them, and statistics come from "
            f"at most {SAMPLE:,}; data.decode=ahead decodes all of them once before, and keeps "
            "them."
        ]
        if "test" not in splits:
            whole = splits["train"]
            aside = set_aside(whole.labels, len(self.class_names), test_fraction, split_seed)
            splits["test"] = whole.subset(np.flatnonzero(aside))
            splits["train"] = whole.subset(np.flatnonzero(~aside))
            notes.append(aside_note(int(aside.sum()), test_fraction, split_seed))
        return self._finished(
            Dataset(
                name=self.name,
                class_names=self.class_names,
                train=splits["train"],
                test=splits["test"],
                val=splits.get("val"),
                fingerprint=self.fingerprint(),
                notes=tuple(notes),
                sampled=True,
            )
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 over classes, and over path, label and size of each image."""
        digest = hashlib.sha256(repr((self.class_names, [*self.lists])).encode())
        for split, part in self.lists.items():
            digest.update(part.labels.tobytes() + self.stats[split][:, 0].tobytes())
            digest.update("\0".join(part.paths).encode())
        return digest.hexdigest()

    def _finished(self, dataset: Dataset) -> Dataset:
        known = KNOWN.get(self.name)
        dataset = replace(dataset, name=self.name, normalize=known.normalize if known else None)
        if known and dataset.image_shape[0] != len(known.normalize[0]):
            dataset = replace(dataset, normalize=None)
        return replace(dataset, notes=(*count_notes(self.name, dataset), *dataset.notes))

    def _split(self, part: ListedImages, shape: tuple[int, int, int]) -> Split:
        paths = tuple(part.paths)
        return Split(FileImages(self.root, paths, shape), part.labels, paths)

    def _some_headers(self, part: ListedImages) -> list[tuple[tuple[int, int], bool]]:
        """Return size and greyness of some images, evenly spread over the list."""
        n = len(part.paths)
        chosen = np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(np.int64)).tolist()
        found = (read_header(self.root / part.paths[i]) for i in chosen)
        return [header for header in found if header is not None]

    def _listing(self) -> Listing:
        """Return all files in the order of their paths."""
        n_classes = len(self.class_names)
        splits = [split for split in SPLITS if split in self.lists]
        paths = [path for split in splits for path in self.lists[split].paths]
        folder = np.concatenate(
            [k * n_classes + self.lists[split].labels for k, split in enumerate(splits)]
        )
        stats = np.concatenate([self.stats[split] for split in splits])
        order = sorted(range(len(paths)), key=paths.__getitem__)
        single = splits == ["train"]  # then splits are drawn, as in one tree of classes
        return Listing(
            root=self.root, splits=() if single else tuple(splits), class_names=self.class_names,
            folders=tuple(
                ("" if single else split, name) for split in splits for name in self.class_names
            ),
            paths=[paths[i] for i in order], folder=folder[order].astype(np.int32),
            stats=stats[order], unusable=(), empty_folders=(), ignored_folders=(),
        )  # fmt: skip


def read_lists(
    name: str, root: str | None, train: str | None, val: str | None, test: str | None
) -> ListedSet:
    """Read the lists of a data set, and look up every file.

    Args:
        name: ``list`` or a known set, which has usual names for its lists.
        root: Folder of the images; None: that of the training list.
        train: Training list, a path as it is or relative to ``root``. None: the usual name.
        val: Validation list. None: the usual name if that file is there.
        test: Test list. None: likewise; without one, training images are set aside.

    Raises:
        DataError: Naming all that is wrong.
    """
    usual = KNOWN[name].lists if name in KNOWN else {}
    first = train or usual.get("train")
    if first is None:
        raise DataError("There is no training list.", "Give data=LIST.txt, or data.train_list=...")
    folder = _folder(root, first)
    places = {"train": folder / first if train is None else find_list(first, folder)}
    for split, given in (("val", val), ("test", test)):
        place = folder / usual[split] if split in usual else None
        if given is not None:
            places[split] = find_list(given, folder)
        elif place is not None and place.is_file():
            places[split] = place
        elif place is not None and split == "test":
            raise DataError(
                f"{KNOWN[name].title} has a test list, and '{place}' is not there.",
                "Put it there, or give data.test_list=...",
            )
    faults = Faults()
    return ListedSet(
        name, folder, {split: read_list(path, faults) for split, path in places.items()},
        faults=faults,
    )  # fmt: skip


def find_list(given: str, root: Path) -> Path:
    """Return where a list lies: as its path stands, or else in the folder of images."""
    path = Path(os.path.expanduser(given))
    return root / path if not path.is_file() and (root / path).is_file() else path


def _folder(root: str | None, train: str) -> Path:
    """Return the folder of images, absolute and without links."""
    folder = Path(os.path.expanduser(root)) if root else Path(os.path.expanduser(train)).parent
    if not folder.is_dir():
        raise DataError(
            f"There is no folder '{folder}'.", "Give data.root, the folder that paths start from."
        )
    return folder.resolve()
