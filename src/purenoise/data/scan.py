"""Look at a folder of images before training: what is there, and what is wrong with it.

Two layouts are read: ``train/ [val/] test/``, each with one folder per class, and one tree of class
folders. Unlike ``torchvision.datasets.ImageFolder``, which trusts file endings and fails in the
middle of an epoch, every file is decoded here once, so that all unusable files are known, with
their reasons, before anything is trained.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from purenoise.data.examine import Kept, examine_files
from purenoise.data.listing import Listing, UnusableFile, list_folder, some_names
from purenoise.data.table import Table
from purenoise.data.target import Keep

__all__ = ["FolderScan", "ImageFile", "UnusableFile", "scan_folder", "some_names"]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One usable image of a folder.

    Args:
        path: POSIX path relative to the folder.
        split: ``train``, ``val``, ``test``, or empty if the folder has no splits.
        label: Name of the class folder.
        size: Height and width in pixels, after the rotation that EXIF asks for.
        grey: Whether the file has one channel (with or without transparency).
        sha256: Hash of the file's bytes.
        remarks: What happens to the image when it is loaded, such as ``decode.ANIMATED``.
    """

    path: str
    split: str
    label: str
    size: tuple[int, int]
    grey: bool
    sha256: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderScan:
    """What a folder of images holds.

    Args:
        root: The folder, absolute.
        splits: Splits that the folder has (``train`` first), or empty for one tree of classes.
        class_names: Names of all class folders, sorted, as ``ImageFolder`` sorts them.
        images: Usable images, sorted by path.
        unusable: Files that cannot be used, sorted by path.
        empty_folders: Class folders without any file, as paths relative to the root.
        ignored_folders: Folders beside the splits, which are not read.
        notes: How decoded images are kept, one sentence each.
        kept: Where they are kept; None: nowhere.
        kind: What says which image is in which split: ``folder`` or ``list``.
    """

    root: Path
    splits: tuple[str, ...]
    class_names: tuple[str, ...]
    images: tuple[ImageFile, ...]
    unusable: tuple[UnusableFile, ...]
    empty_folders: tuple[str, ...] = ()
    ignored_folders: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    kept: Kept | None = field(default=None, compare=False, repr=False)
    kind: str = "folder"

    def counts(self, split: str = "") -> dict[str, int]:
        """Return the number of usable images per class in ``split`` (empty: in all of them)."""
        found = Counter(i.label for i in self.images if split in ("", i.split))
        return {name: found[name] for name in self.class_names}

    def absent(self, split: str) -> tuple[str, ...]:
        """Return the classes without a usable image in ``split``; none if it is not a folder."""
        if split not in self.splits:
            return ()
        return tuple(name for name, n in self.counts(split).items() if n == 0)

    @functools.cached_property
    def duplicates(self) -> tuple[tuple[ImageFile, ...], ...]:
        """Groups of two or more files with identical bytes."""
        groups: dict[str, list[ImageFile]] = defaultdict(list)
        for image in self.images:
            groups[image.sha256].append(image)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    @property
    def conflicts(self) -> tuple[tuple[ImageFile, ...], ...]:
        """Groups of identical files that lie in folders of different classes."""
        return tuple(g for g in self.duplicates if len({i.label for i in g}) > 1)

    @property
    def leaks(self) -> tuple[tuple[ImageFile, ...], ...]:
        """Groups of identical files that lie in different splits."""
        return tuple(g for g in self.duplicates if len({i.split for i in g}) > 1)


def scan_folder(root: str | Path, keep: Keep | None = None) -> FolderScan:
    """Look at every file of a folder of images, decoding each one that is not kept already.

    A file is decoded once: if its pixels are kept, loading them does not decode it again. What is
    found takes about 300 bytes per file.

    Args:
        root: Folder with ``train/``, ``test/`` and perhaps ``val/`` (or ``valid/``,
            ``validation/``) that hold class folders, or with the class folders themselves. Files
            may lie at any depth below a class folder. Hidden files and known junk are passed over.
        keep: What becomes of the pixels; None: they are not kept.

    Returns:
        All images, all unusable files with their reasons, and the folders without files.

    Raises:
        DataError: The folder is missing, a file, or empty; it has no class folders, or only one, or
            class folders that are links; splits and class folders cannot be told apart; or decoded
            images cannot be kept in a place that was asked for.
    """
    return scan_listing(list_folder(root), keep or Keep())


def scan_listing(listing: Listing, keep: Keep, kind: str = "folder") -> FolderScan:
    """Look at every file of a listing, as `scan_folder` does.

    Args:
        listing: The files.
        keep: What becomes of the pixels.
        kind: What says which image is in which split: ``folder`` or ``list``.

    Raises:
        DataError: Decoded images cannot be kept in a place that was asked for.
    """
    table, kept, notes = examine_files(listing, keep)
    images, unusable = _as_files(listing, table)
    return FolderScan(
        root=listing.root,
        splits=listing.splits,
        class_names=listing.class_names,
        images=tuple(images),
        unusable=tuple(sorted([*unusable, *listing.unusable], key=lambda file: file.path)),
        empty_folders=listing.empty_folders,
        ignored_folders=listing.ignored_folders,
        notes=tuple(notes),
        kept=kept,
        kind=kind,
    )


def _as_files(listing: Listing, table: Table) -> tuple[list[ImageFile], list[UnusableFile]]:
    """Return the rows of a table as usable images, in order, and unusable files.

    Sizes, labels and remarks are objects that images share.
    """
    usable = table.usable().tolist()
    c = table.columns[usable]
    hashes = c["sha256"].tobytes().hex()
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    images = []
    columns = zip(
        usable, c["height"].tolist(), c["width"].tolist(), c["grey"].tolist(), c["text"].tolist(),
        strict=True,
    )  # fmt: skip
    for k, (i, height, width, grey, text) in enumerate(columns):
        size = sizes.setdefault((height, width), (height, width))
        sha256 = hashes[64 * k : 64 * k + 64]
        split, label = listing.folders[listing.folder[i]]
        remarks = table.texts[text]
        images.append(ImageFile(listing.paths[i], split, label, size, grey, sha256, remarks))
    others = set(range(len(table.paths))) - set(usable)
    texts = table.columns["text"]
    unusable = [UnusableFile(table.paths[i], table.texts[texts[i]][0]) for i in sorted(others)]
    return images, unusable
