"""Load a folder of images as a data set: one size, one number of channels, honest splits.

Differs from ``ImageFolder`` plus ``random_split``, the habit of the field: the split is stratified,
keeps identical files on one side, leaves every class at least one training image, and says which
classes have no test image, because their accuracy is not zero but unknown. It depends on what is in
the files and not on their names: after a renaming no training image turns up among the test images.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purenoise.data.decode import load_image
from purenoise.data.files import FileImages
from purenoise.data.pixels import DamagedRowsWarning
from purenoise.data.scan import FolderScan, ImageFile, scan_folder, some_names
from purenoise.data.target import Keep, Target
from purenoise.data.types import Dataset, Images, MemoryImages, Split
from purenoise.errors import DataError

__all__ = ["FileImages", "load_folder", "load_image", "stratified_draw"]

Files = list[ImageFile]


def load_folder(
    root: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    val_fraction: float = 0.0,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    on_bad: str = "skip",
    memory_limit: int = 1 << 30,
    scan: FolderScan | None = None,
    usual_side: int | None = None,
) -> Dataset:
    """Load a folder of images, with or without ``train/``, ``val/`` and ``test/``.

    Images of another size are scaled, proportions kept, until they just cover height and width, and
    the rest is cut off equally on both sides. Training images are ordered by class and content, the
    others by path, so that training does not depend on names.

    Args:
        root: The folder; `scan_folder` says what it may look like.
        image_size: Side, or (height, width), in pixels. None: the images' own size if all have one,
            otherwise a square, as `usual_side` says.
        channels: 1 or 3. None: 1 if all images are grey.
        val_fraction: Part set aside for validation if there is no ``val/``: of all images, or of
            ``train/``. In [0, 1).
        test_fraction: Part of each class set aside for testing if there is no ``test/``. In (0, 1).
        split_seed: Seed of that choice.
        on_bad: ``skip`` files that cannot be used, with a note, or ``error``.
        memory_limit: Bytes; larger sets are read from the disk each time. While a set that fits is
            loaded, it may take twice its size.
        scan: What `scan_folder` returned for ``root``, to save looking twice. If it kept the pixels
            in the shape that is asked for, they are not decoded again.
        usual_side: Side of the square; images that all have one size no larger than this keep it.
            None: the median shorter side, a multiple of 8, at most 224.

    Returns:
        The data set; `Dataset.notes` says what was skipped, drawn, resized or looks wrong.

    Raises:
        DataError: An argument is out of range, the folder cannot be used, a class has no training
            image, or (``on_bad="error"``) a file cannot be used.
    """
    _check_arguments(channels, val_fraction, test_fraction, split_seed, on_bad, memory_limit)
    target = Target(image_size, channels, usual_side)
    if scan is None:
        scan = scan_folder(root, Keep(target, memory_limit=memory_limit))
    else:
        scan = _checked_scan(scan, root)
    if scan.unusable and on_bad == "error":
        raise DataError(_unusable(scan), "Mend or remove them, or load with on_bad='skip'.")
    _check_classes(scan)
    shape = target.shape((image.size, image.grey) for image in scan.images)
    assert shape is not None  # every class has an image
    files, drawn = _split_files(scan, val_fraction, test_fraction, split_seed)
    in_memory = len(scan.images) * int(np.prod(shape)) <= memory_limit
    number = {image.path: i for i, image in enumerate(scan.images)}
    splits = {
        name: _as_split(scan, part, [number[file.path] for file in part], shape, in_memory)
        for name, part in files.items()
        if part
    }
    return Dataset(
        name=scan.root.name,
        class_names=scan.class_names,
        train=splits["train"],
        test=splits.get("test") or _as_split(scan, [], [], shape, in_memory),
        val=splits.get("val"),
        fingerprint=_fingerprint(scan.class_names, files),
        notes=(
            *_scan_notes(scan),
            *drawn,
            *_empty_notes(scan, files),
            *_size_notes(scan, shape[1:]),
            *scan.notes,
        ),
    )


def stratified_draw(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    wanted: NDArray[np.int64],
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw about ``wanted[c]`` images of each class c, whole groups only, never a whole class.

    Groups are tried in random order and taken if no class gets more than is wanted of it. A class
    whose groups are all larger than that gets its smallest group that leaves an image behind.

    Args:
        labels: int64, shape (N,), values 0..C-1.
        groups: int64, shape (N,); images with one value (identical files) stay together.
        wanted: int64, shape (C,); classes with 0 are not drawn from.
        generator: Source of the order.

    Returns:
        bool, shape (N,): which images are drawn. At least one image of each class is not.
    """
    members = _members(labels, groups)
    numbers = list(members)
    order = [numbers[i] for i in generator.permutation(len(numbers))]
    left = Counter(labels.tolist())
    missing = dict(enumerate(wanted.tolist()))
    taken: set[int] = set()

    def take(group: int, *, overshoot: bool) -> None:
        sizes = members[group]
        fits = all(n <= missing[c] or (overshoot and wanted[c] > 0) for c, n in sizes.items())
        if fits and all(n < left[c] for c, n in sizes.items()):
            taken.add(group)
            left.subtract(sizes)
            for label, n in sizes.items():
                missing[label] -= n

    for group in order:
        take(group, overshoot=False)
    for group in sorted(order, key=lambda g: members[g].total()):
        if any(0 < missing[c] == wanted[c] for c in members[group]):
            take(group, overshoot=True)
    return np.isin(groups, list(taken))


def _members(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> dict[int, Counter[int]]:
    """Return how many images of which class each group has."""
    members: dict[int, Counter[int]] = defaultdict(Counter)
    for label, group in zip(labels.tolist(), groups.tolist(), strict=True):
        members[group][label] += 1
    return members


def _check_arguments(
    channels: int | None, val: float, test: float, seed: int, on_bad: str, memory_limit: int
) -> None:
    """Refuse arguments out of range, all of them at once."""
    rules = {
        f"channels is {channels}, not 1 or 3": channels in (None, 1, 3),
        f"val_fraction is {val}, not in [0, 1)": 0 <= val < 1,
        f"test_fraction is {test}, not in (0, 1)": 0 < test < 1,
        f"val_fraction + test_fraction is {val + test}, which leaves nothing": val + test < 1,
        f"split_seed is {seed}, not 0 or more": seed >= 0,
        f"on_bad is {on_bad!r}, not 'skip' or 'error'": on_bad in ("skip", "error"),
        f"memory_limit is {memory_limit}, not 0 or more": memory_limit >= 0,
    }
    faults = [fault for fault, holds in rules.items() if not holds]
    if faults:
        raise DataError(f"{'; '.join(faults)}.", "Change the arguments.")


def _checked_scan(scan: FolderScan, root: str | Path) -> FolderScan:
    """Return ``scan`` if it is one of ``root``."""
    if Path(os.path.expanduser(root)).resolve() != scan.root:
        raise DataError(f"The scan is of '{scan.root}', not of '{root}'.", "Scan that folder.")
    return scan


def _check_classes(scan: FolderScan) -> None:
    """Refuse classes without any training image."""
    split = "train" if scan.splits else ""
    bare = [name for name, n in scan.counts(split).items() if n == 0]
    if bare:
        where = f"'{scan.root / 'train'}'" if scan.splits else f"'{scan.root}'"
        bad = f" {_unusable(scan)}" if scan.unusable else ""
        raise DataError(
            f"No training image in {where} for {some_names(bare, len(bare))}.{bad}",
            "Add images to these classes, or remove their folders (from test and val too).",
        )


def _unusable(scan: FolderScan, most: int | None = None) -> str:
    """Say which files cannot be used, and why, the first ``most`` of them."""
    files = scan.unusable[:most]
    listed = ", ".join(f"{file.path!r} ({file.reason})" for file in files)
    more = len(scan.unusable) - len(files)
    count = "1 file" if len(scan.unusable) == 1 else f"{len(scan.unusable)} files"
    return f"{count} cannot be used: {listed}{f' and {more} more' * (more > 0)}."


def _split_files(
    scan: FolderScan, val_fraction: float, test_fraction: float, seed: int
) -> tuple[dict[str, Files], list[str]]:
    """Return the files of each split, and a note for each split that was drawn."""
    parts = {name: [i for i in scan.images if i.split == name] for name in scan.splits}
    parts = parts or {"train": list(scan.images)}
    generator = np.random.default_rng(seed)
    total = Counter(image.label for image in parts["train"])
    notes = []
    for name, fraction in (("test", test_fraction), ("val", val_fraction)):
        if name in parts or fraction == 0:
            continue
        wanted = [_n_wanted(total[label], fraction) for label in scan.class_names]
        parts["train"], parts[name] = _draw(parts["train"], scan.class_names, wanted, generator)
        notes.append(
            f"There is no {name} {scan.kind}: {len(parts[name])} images were set aside "
            f"({fraction:.0%} of each class, seed {seed})."
        )
    for name, files in parts.items():
        files.sort(key=lambda i: (i.label, i.sha256, i.path) if name == "train" else (i.path,))
    return parts, notes


def _n_wanted(n: int, fraction: float) -> int:
    """Return how many of ``n`` images to set aside: at least one, never all."""
    return min(max(int(n * fraction + 0.5), 1), n - 1)


def _draw(
    files: Files, class_names: Sequence[str], wanted: list[int], generator: np.random.Generator
) -> tuple[Files, Files]:
    """Return the files that stay and those that are set aside, whatever their names."""
    files = sorted(files, key=lambda file: (file.sha256, file.label))
    _, groups = np.unique([file.sha256 for file in files], return_inverse=True)
    drawn = stratified_draw(
        _labels(files, class_names), groups, np.array(wanted, np.int64), generator
    )
    pairs = list(zip(files, drawn, strict=True))
    return [file for file, out in pairs if not out], [file for file, out in pairs if out]


def _labels(files: Files, class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return the class numbers of files, int64 of shape (N,)."""
    number = {name: i for i, name in enumerate(class_names)}
    return np.array([number[file.label] for file in files], np.int64)


def _fingerprint(class_names: Sequence[str], files: dict[str, Files]) -> str:
    """Return the SHA-256 over classes and the split, class and content of each image."""
    images = sorted((name, i.label, i.sha256) for name, part in files.items() for i in part)
    return hashlib.sha256(json.dumps([class_names, images]).encode()).hexdigest()


def _as_split(
    scan: FolderScan,
    files: Files,
    numbers: list[int],
    shape: tuple[int, int, int],
    in_memory: bool,
) -> Split:
    """Return files as a split: in memory or on disk, decoded already or later by the same code."""
    paths = tuple(file.path for file in files)
    places = np.array(numbers, np.int64)
    kept = scan.kept if scan.kept is not None and scan.kept.shape == shape else None
    rows = kept.rows.select(places) if kept is not None and kept.rows is not None else None
    images: Images = FileImages(scan.root, paths, shape, rows)
    if in_memory and kept is not None and kept.array is not None and kept.places is not None:
        images = MemoryImages(kept.array[kept.places[places]])
    elif in_memory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; broken files raise
            warnings.simplefilter("always", DamagedRowsWarning)
            images = MemoryImages(images.load(np.arange(len(paths))))
    return Split(images, _labels(files, scan.class_names), paths)


def _scan_notes(scan: FolderScan) -> list[str]:
    """Say what a user should know about the files themselves."""
    notes = [f"Skipped: {_unusable(scan, most=5)}"] if scan.unusable else []
    if scan.ignored_folders:
        notes.append(f"Folders beside train were not read: {some_names(scan.ignored_folders)}.")
    joined = _joined_folders(scan)
    if joined:
        notes.append(
            f"Deeper folders were joined into the class that they lie in: {some_names(joined)}. "
            "Classes lie directly in the folder, or in train, val and test."
        )
    for groups, what in ((scan.conflicts, "classes"), (scan.leaks, "splits")):
        if groups:
            pairs = [" = ".join(image.path for image in group) for group in groups]
            notes.append(
                f"Identical images in different {what}: {len(groups)}, such as {some_names(pairs)}."
            )
    remarks = Counter(remark for image in scan.images for remark in image.remarks)
    return notes + [f"Images with {remark}: {n}." for remark, n in remarks.items()]


def _joined_folders(scan: FolderScan) -> list[str]:
    """Return the folders with images that lie deeper than a class folder."""
    if scan.kind != "folder":  # a list says itself what is in which class
        return []
    folders = {image.path.rpartition("/")[0]: 2 if image.split else 1 for image in scan.images}
    return sorted(path for path, depth in folders.items() if path.count("/") >= depth)


def _empty_notes(scan: FolderScan, files: dict[str, Files]) -> list[str]:
    """Name the classes that a split other than train has no image of."""
    notes = []
    for split in [name for name in ("val", "test") if name in files]:
        found = {file.label for file in files[split]}
        bare = [name for name in scan.class_names if name not in found]
        if bare:
            names = some_names(bare, len(bare))
            notes.append(f"No {split} image for {names}: figures for these classes are n/a.")
    return notes


def _size_notes(scan: FolderScan, size: tuple[int, int]) -> list[str]:
    """Say how many images are brought to another size."""
    n = sum(image.size != size for image in scan.images)
    resized = f"{n} of {len(scan.images)} images are scaled and cut to {size[0]} x {size[1]} pixels"
    return [f"{resized} (height x width)."] if n else []
