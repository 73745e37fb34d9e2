"""Walk a folder of images without opening a file: splits, classes, paths, sizes and times.

Links are never followed out of the folder, nor to folders within it: a class that is a link stops
everything by name, and a file that is a link to nothing, to a folder or to the outside is listed
as unusable with that reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purenoise.data.decode import UnusableImageError, is_image, path_inside
from purenoise.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True, slots=True)
class UnusableFile:
    """One file or link that cannot be used, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The files below the class folders of a folder, none of them opened.

    Args:
        root: The folder, absolute.
        splits: Splits that the folder has (``train`` first), or empty for one tree of classes.
        class_names: Names of all class folders, sorted.
        folders: Split (or empty) and class of each class folder.
        paths: POSIX paths of the files relative to ``root``, sorted.
        folder: Which of ``folders`` each file lies in, int32 of shape (N,).
        stats: Bytes and time of modification in ns of each file, int64 of shape (N, 2).
        unusable: What may not be read or lies in no class folder.
        empty_folders: Class folders without any file, as paths relative to the root.
        ignored_folders: Folders beside the splits, which are not read.
    """

    root: Path
    splits: tuple[str, ...]
    class_names: tuple[str, ...]
    folders: tuple[tuple[str, str], ...]
    paths: list[str]
    folder: NDArray[np.int32]
    stats: NDArray[np.int64]
    unusable: tuple[UnusableFile, ...]
    empty_folders: tuple[str, ...]
    ignored_folders: tuple[str, ...]


def list_folder(root: str | Path) -> Listing:
    """List the files of a folder of images, in either layout that `scan_folder` reads.

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
    found: list[tuple[str, int, int, int]] = []  # path, number of the folder, bytes, time
    unusable = [UnusableFile(path, "lies in no class folder") for path in loose]
    empty = []
    for number, (_, folder) in enumerate(folders):
        before = len(found) + len(unusable)
        _walk(root, folder, number, found, unusable)
        if len(found) + len(unusable) == before:
            empty.append(folder)
    if not found and len(unusable) == len(loose):
        raise DataError(f"The class folders in '{root}' hold no images.", "Put images into them.")
    found.sort()
    return Listing(
        root=root,
        splits=tuple(split for split in tops if split),
        class_names=class_names,
        folders=tuple((split, path.rpartition("/")[2]) for split, path in folders),
        paths=[path for path, *_ in found],
        folder=np.array([number for _, number, *_ in found], np.int32),
        stats=np.array([file[2:] for file in found], np.int64).reshape(-1, 2),
        unusable=tuple(unusable),
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


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder of that name is left out: hidden, or known junk.

    Example:
        >>> is_passed_over("._img 1.png"), is_passed_over("__MACOSX"), is_passed_over("1.png")
        (True, True, False)
    """
    return name.startswith(".") or name.casefold() in JUNK


def _checked_root(root: str | Path) -> Path:
    """Return the folder as an absolute path."""
    path = Path(os.path.expanduser(root))
    if path.is_file():
        raise DataError(f"'{path}' is a file, not a folder of images.", "Give its folder.")
    if not path.is_dir():
        raise DataError(f"There is no folder '{path}'.", "Check the path of the images.")
    return path.resolve()


def _split_folders(root: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return split -> folder (``{"": ""}``: one tree of classes) and the folders passed over."""
    folders = [name for name in _below(root, "") if (root / name).is_dir()]
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
    return "train" in found and any((train / name).is_dir() for name in _below(train, ""))


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


def _walk(
    root: Path,
    top: str,
    number: int,
    found: list[tuple[str, int, int, int]],
    unusable: list[UnusableFile],
) -> None:
    """Add all files below ``top``, at any depth, and what may not be read, with the reason."""
    folders = [top]
    while folders:
        folder = folders.pop()
        for entry in _visible(root / folder):
            path = f"{folder}/{entry.name}"
            try:
                info = _stat(root, path, entry)
            except UnusableImageError as error:
                readable = path.encode("utf-8", "backslashreplace").decode()
                unusable.append(UnusableFile(readable, str(error)))
                continue
            if stat.S_ISDIR(info.st_mode):
                folders.append(path)
            else:
                found.append((path, number, info.st_size, info.st_mtime_ns))


def _stat(root: Path, path: str, entry: os.DirEntry[str]) -> os.stat_result:
    """Return the status of a file or folder that lies inside ``root``, as `path_inside` sees it.

    Folders on the way down are no links, so only what is a link itself has to be resolved.
    """
    if entry.is_symlink() or not path.isascii():
        path_inside(root, path)
    try:
        info = entry.stat()
    except OSError:
        raise UnusableImageError("missing") from None
    if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
        raise UnusableImageError("neither a file nor a folder")
    return info


def _below(root: Path, folder: str) -> list[str]:
    """Return what lies directly in a folder, as paths relative to ``root``."""
    prefix = f"{folder}/" if folder else ""
    return [prefix + entry.name for entry in _visible(root / folder)]


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, sorted by name, without hidden files and known junk."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"The folder '{folder}' cannot be read: {error.strerror}.") from error
    return [entry for entry in found if not is_passed_over(entry.name)]


def _loose_images(root: Path, top: str) -> list[str]:
    """Return the images that lie beside the class folders of ``top``, in none of them."""
    return [path for path in _below(root, top) if is_image(root / path)]
