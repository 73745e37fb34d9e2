"""Look at a folder of images before training: what is there, and what is wrong with it.

Two layouts are read: ``train/ [val/] test/``, each with one folder per class, and one tree of class
folders. Unlike ``torchvision.datasets.ImageFolder``, which trusts file endings and fails in the
middle of an epoch, every file is decoded here once, so that all unusable files are known, with
their reasons, before anything is trained.
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from purenoise.data.decode import UnusableImageError, decode, in_threads, is_image, path_inside
from purenoise.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True)
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
class UnusableFile:
    """One file or link that cannot be used, with the reason."""

    path: str
    reason: str


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
    """

    root: Path
    splits: tuple[str, ...]
    class_names: tuple[str, ...]
    images: tuple[ImageFile, ...]
    unusable: tuple[UnusableFile, ...]
    empty_folders: tuple[str, ...] = ()
    ignored_folders: tuple[str, ...] = ()

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


def scan_folder(root: str | Path) -> FolderScan:
    """Look at every file of a folder of images, decoding each one.

    Args:
        root: Folder with ``train/``, ``test/`` and perhaps ``val/`` (or ``valid/``,
            ``validation/``) that hold class folders, or with the class folders themselves. Files
            may lie at any depth below a class folder. Hidden files and known junk are passed over.

    Returns:
        All images, all unusable files with their reasons, and the folders without files.

    Raises:
        DataError: The folder is missing, a file, or empty; it has no class folders, or only one, or
            class folders that are links; or splits and class folders cannot be told apart.
    """
    root = _checked_root(root)
    tops, ignored = _split_folders(root)
    folders = [(split, path) for split, top in tops.items() for path in _class_folders(root, top)]
    loose = [path for top in tops.values() for path in _loose_images(root, top)]
    class_names = tuple(sorted({path.rpartition("/")[2] for _, path in folders}))
    _check_classes(root, class_names, loose)
    files, unusable, empty = _list_files(root, folders)
    if not files and not unusable:
        raise DataError(f"The class folders in '{root}' hold no images.", "Put images into them.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata; what matters raises, or is checked
        sample = [root / path for path, _, _ in files[:: len(files) // 9 + 1]]
        found = in_threads(lambda item: _examine(root, *item), files, sample)
    unusable += [file for file in found if isinstance(file, UnusableFile)]
    unusable += [UnusableFile(path, "lies in no class folder") for path in loose]
    return FolderScan(
        root=root,
        splits=tuple(split for split in tops if split),
        class_names=class_names,
        images=tuple(file for file in found if isinstance(file, ImageFile)),
        unusable=tuple(sorted(unusable, key=lambda file: file.path)),
        empty_folders=tuple(sorted(empty)),
        ignored_folders=ignored,
    )


def some_names(names: Iterable[str], most: int = 5) -> str:
    """Return names in quotes, at most ``most`` of them, for a sentence.

    Example:
        >>> some_names(["cat", "dog", "eel"], most=2)
        "'cat', 'dog' and 1 more"
    """
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(repr(name) for name in known[:most]) + more


def _checked_root(root: str | Path) -> Path:
    """Return the folder as an absolute path."""
    path = Path(root).expanduser()
    if path.is_file():
        raise DataError(f"'{path}' is a file, not a folder of images.", "Give its folder.")
    if not path.is_dir():
        raise DataError(f"There is no folder '{path}'.", "Check the path of the images.")
    return path.resolve()


def _split_folders(root: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return split -> folder (``{"": ""}``: one tree of classes) and the folders passed over."""
    folders = [name for name in _visible(root) if (root / name).is_dir()]
    known = [name for name in folders if name.casefold() in SPLIT_NAMES]
    others = tuple(name for name in folders if name not in known)
    found = {SPLIT_NAMES[name.casefold()]: name for name in known}
    if not known or (others and not _is_split(root, found)):
        return {"": ""}, ()
    if len(found) < len(known):
        raise DataError(
            f"{some_names(known)} in '{root}' are two folders for one split.", "Keep one."
        )
    if "train" not in found:
        raise DataError(f"{some_names(known)} in '{root}' have no 'train' beside them.", "Add it.")
    if others and len(found) == 1:
        raise DataError(
            f"'{root}' holds {found['train']!r} beside {some_names(others)}: splits, or classes?",
            "Rename the folder, or move those beside it away.",
        )
    return {split: found[split] for split in ("train", "val", "test") if split in found}, others


def _is_split(root: Path, found: dict[str, str]) -> bool:
    """Return whether ``train`` holds folders, rather than being a class of that name."""
    train = root / found.get("train", "\0")
    return "train" in found and any((train / name).is_dir() for name in _visible(train))


def _class_folders(root: Path, top: str) -> list[str]:
    """Return the class folders in ``top`` as paths relative to ``root``."""
    paths = [path for path in _below(root, top) if not (root / path).is_file()]
    refused = []
    for path in [top, *paths] if top else paths:
        try:
            path_inside(root, path)
        except UnusableImageError as error:
            refused.append(f"{path!r} ({error})")
    if refused:
        raise DataError(
            f"Folders in '{root}' cannot be read: {', '.join(refused)}.",
            "Put the folders themselves there, under plain names.",
        )
    return paths


def _check_classes(root: Path, class_names: tuple[str, ...], loose: list[str]) -> None:
    """Refuse a folder without at least two class folders."""
    if len(class_names) > 1:
        return
    shape = "Make one folder per class: FOLDER/<class>/<image> or FOLDER/train/<class>/<image>."
    if class_names:
        raise DataError(f"'{root}' has only one class folder, {class_names[0]!r}.", shape)
    if loose:
        raise DataError(f"Images lie directly in '{root}', in no class folder.", shape)
    raise DataError(f"'{root}' holds no class folders and no images.", shape)


def _list_files(
    root: Path, folders: list[tuple[str, str]]
) -> tuple[list[tuple[str, str, str]], list[UnusableFile], list[str]]:
    """Return (path, split, class) of all files, what may not be read, and folders without files."""
    files, unusable, empty = [], [], []
    for split, folder in folders:
        paths, refused = _walk(root, folder)
        files += [(path, split, folder.rpartition("/")[2]) for path in paths]
        unusable += refused
        if not paths and not refused:
            empty.append(folder)
    return sorted(files), unusable, empty


def _walk(root: Path, top: str) -> tuple[list[str], list[UnusableFile]]:
    """Return all files below ``top``, at any depth, and what may not be read, with the reason."""
    files: list[str] = []
    refused: list[UnusableFile] = []
    folders = [top]
    while folders:
        for path in _below(root, folders.pop()):
            try:
                (folders if path_inside(root, path).is_dir() else files).append(path)
            except UnusableImageError as error:
                readable = path.encode("utf-8", "backslashreplace").decode()
                refused.append(UnusableFile(readable, str(error)))
    return files, refused


def _below(root: Path, folder: str) -> list[str]:
    """Return what lies directly in a folder, as paths relative to ``root``."""
    prefix = f"{folder}/" if folder else ""
    return [prefix + name for name in _visible(root / folder)]


def _visible(folder: Path) -> list[str]:
    """Return the sorted names in a folder without hidden files and known junk."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"The folder '{folder}' cannot be read: {error.strerror}.") from error
    return [n for n in names if not n.startswith(".") and n.casefold() not in JUNK]


def _examine(root: Path, path: str, split: str, label: str) -> ImageFile | UnusableFile:
    """Decode one file and describe it, or say why it cannot be used."""
    try:
        with open(root / path, "rb") as file:
            image, remarks = decode(file)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except UnusableImageError as error:
        return UnusableFile(path, str(error))
    except OSError as error:
        return UnusableFile(path, f"cannot be read ({error.strerror})")
    size = (image.height, image.width)
    return ImageFile(path, split, label, size, image.mode == "L", sha256, remarks)


def _loose_images(root: Path, top: str) -> list[str]:
    """Return the images that lie beside the class folders of ``top``, in none of them."""
    return [path for path in _below(root, top) if is_image(root / path)]
