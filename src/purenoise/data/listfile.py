"""Read lists of images, lines ``path label``, and find all that is wrong with them before training.

This is the format in which ImageNet-LT, Places-LT and iNaturalist 2018 are published. Their own
readers open whatever path a line holds and fail on the first bad one in mid-epoch; here a path may
not leave the folder of images, and every fault of all lists is counted, with the first few line
numbers, before an image is opened.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purenoise.data.decode import UnusableImageError, path_inside
from purenoise.errors import DataError
from purenoise.smallfile import MIB, read_small

MOST_BYTES = 256 * MIB  # of one list; the longest published one has 40 MB
MOST_CLASSES = 1_000_000
SHOWN = 3  # faults of one kind that are written out
_DRIVE = re.compile(r"[A-Za-z]:")
_SEPARATORS = (",", ";")
_SEPARATED = re.compile(r"[,;][+-]?[0-9]+$")


@dataclass(frozen=True)
class ListedImages:
    """What one list says.

    Args:
        file: The list's name, for messages.
        paths: POSIX paths relative to the folder of images.
        labels: int64, shape (N,).
        lines: int64, shape (N,): the line of each, from 1 on.
    """

    file: str
    paths: list[str]
    labels: NDArray[np.int64]
    lines: NDArray[np.int64]

    def line(self, i: int) -> str:
        """Return where image ``i`` stands, for a message."""
        return f"{self.file} line {self.lines[i]} {self.paths[i][:200]!r}"


class Faults:
    """Faults by kind: all of them are counted, the first few are written out."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()
        self._hints: dict[str, None] = {}

    def add(self, kind: str, where: str, hint: str = "") -> None:
        """Note a fault of a kind, such as ``missing files``, and what to do about this kind."""
        if hint:
            self._hints[hint] = None
        self._counts[kind] += 1
        if self._counts[kind] <= SHOWN:
            self._found.setdefault(kind, []).append(where)

    def raise_any(self, what: str, hint: str) -> None:
        """Raise one error that holds them all, if there are any.

        Raises:
            DataError: If there are.
        """
        if not self._counts:
            return
        rows = []
        for kind, shown in self._found.items():
            more = self._counts[kind] - len(shown)
            tail = f"; and {more:,} more" if more else ""
            rows.append(f"  - {kind}: {self._counts[kind]:,}: {'; '.join(shown)}{tail}")
        n = self._counts.total()
        told = " ".join([*self._hints, hint])
        raise DataError(f"{what} {n:,} fault{'s' * (n > 1)}:\n" + "\n".join(rows), told)


def read_list(path: Path, faults: Faults) -> ListedImages:
    """Read one list; lines that cannot be used are told in ``faults``.

    Args:
        path: The list: UTF-8, one image a line, its path and its label between spaces or tabs (a
            path may hold spaces itself), empty lines passed over.
        faults: Receives them.

    Raises:
        DataError: There is no such file, or it is no list at all.
    """
    try:
        content = read_small(path, MOST_BYTES)
    except OSError as error:
        hint = "Give the list's path: as it is, or relative to data.root."
        raise DataError(f"The list '{path}' cannot be read: {error.strerror}.", hint) from error
    if b"\0" in content[:4096]:
        raise DataError(f"'{path}' is no text file.", "A list has lines such as `cat/1.jpg 0`.")
    name = path.name
    paths, labels, lines = [], [], []
    for number, raw in enumerate(io.BytesIO(content.removeprefix(b"\xef\xbb\xbf")), 1):
        try:
            text = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            faults.add("lines that are not UTF-8", f"{name} line {number}")
            continue
        if not text:
            continue
        found = _read_line(text, f"{name} line {number}", faults)
        if found is not None:
            paths.append(found[0])
            labels.append(found[1])
            lines.append(number)
    return ListedImages(name, paths, np.array(labels, np.int64), np.array(lines, np.int64))


def _read_line(text: str, where: str, faults: Faults) -> tuple[str, int] | None:
    """Return path and label of a line, or None if it has a fault."""
    path, _, label = text.replace("\t", " ").rpartition(" ")
    path = path.rstrip()
    if path.endswith(_SEPARATORS) or (not label.isdecimal() and _SEPARATED.search(label)):
        faults.add("lines with a comma or semicolon before the label", f"{where} {text[:80]!r}",
                   "Between path and label stands a space or a tab: `cat/1.jpg 0`.")  # fmt: skip
        return None
    if not path:
        faults.add("lines that are not `path label`", f"{where} {text[:80]!r}")
        return None
    number = int(label) if re.fullmatch(r"[+-]?[0-9]{1,9}", label) else None
    if number is None or not 0 <= number < MOST_CLASSES:
        faults.add("labels that are not whole numbers from 0 on", f"{where} {label[:40]!r}")
        return None
    if path.startswith("/") or _DRIVE.match(path) or "\\" in path:
        faults.add("paths that are not relative, with /", f"{where} {path[:120]!r}")
        return None
    if ".." in path.split("/"):
        faults.add("paths with ..", f"{where} {path[:120]!r}")
        return None
    if not path.isprintable():
        faults.add("paths with control characters", f"{where} {path[:120]!r}")
        return None
    if "./" in path or "//" in path:
        path = posixpath.normpath(path)
    return path, number


def check_labels(lists: Mapping[str, ListedImages], faults: Faults) -> int:
    """Return the number of classes; gaps, and classes without a training image, are faults."""
    train = lists["train"].labels
    n_classes = int(max((part.labels.max(initial=-1) for part in lists.values()), default=-1)) + 1
    present = np.bincount(train, minlength=n_classes) > 0
    first: dict[int, str] = {}  # where a label stands first
    for part in lists.values():
        labels, places = np.unique(part.labels, return_index=True)
        for label, place in zip(labels.tolist(), places.tolist(), strict=True):
            if not present[label]:
                first.setdefault(label, part.line(place))
    least = min((int(part.labels.min()) for part in lists.values() if len(part.labels)), default=0)
    begins = "Do labels begin with 1? Here they begin with 0." if least == 1 else ""
    last = f"{lists['train'].file} goes up to {int(train.max(initial=-1))}"
    for label in np.flatnonzero(~present).tolist():
        where = first.get(label, last)
        faults.add("classes without a training image", f"class {label} ({where})", begins)
    return n_classes


def check_repeats(lists: Mapping[str, ListedImages], faults: Faults) -> None:
    """Find images that are listed twice, in one list or in two."""
    seen: dict[str, tuple[ListedImages, int]] = {}
    for part in lists.values():
        for i, path in enumerate(part.paths):
            first = seen.setdefault(path, (part, i))
            if first == (part, i) or (first[0] is part and first[1] == i):
                continue
            other, j = first
            kind = "images listed twice" if other is part else "images in two lists"
            if other.labels[j] != part.labels[i]:
                kind += ", with two labels"
            faults.add(kind, f"{part.line(i)} and {other.file} line {other.lines[j]}")


def check_files(root: Path, part: ListedImages, faults: Faults) -> NDArray[np.int64]:
    """Look at every file of a list without opening it: is it there, and inside the folder?

    A folder on the way is resolved once, whatever number of files it holds, so that a hundred
    thousand files take about a second.

    Args:
        root: The folder of images, absolute and without links.
        part: What the list says.
        faults: Receives what is missing or leads out of the folder.

    Returns:
        Bytes and time of modification in ns, int64 of shape (N, 2); of unusable ones zeros.
    """
    stats = np.zeros((len(part.paths), 2), np.int64)
    inside: dict[str, bool] = {}
    for i, path in enumerate(part.paths):
        folder = path.rpartition("/")[0]
        if folder not in inside:
            inside[folder] = Path(os.path.realpath(root / folder)).is_relative_to(root)
        if not inside[folder]:
            faults.add("links that lead out of the folder", part.line(i))
            continue
        try:
            info = os.lstat(f"{root}/{path}")
            if stat.S_ISLNK(info.st_mode):
                info = os.stat(path_inside(root, path))
        except UnusableImageError as error:
            faults.add("links that cannot be followed", f"{part.line(i)} ({error})")
        except OSError:
            faults.add("missing files", part.line(i))
        else:
            if not stat.S_ISREG(info.st_mode):
                faults.add("what is no file", part.line(i))
            stats[i] = info.st_size, info.st_mtime_ns
    return stats


def class_names(paths: Sequence[str], labels: NDArray[np.int64], n_classes: int) -> tuple[str, ...]:
    """Return names of classes: the folders of their images if each class has one, else numbers.

    What all folders have in common at their beginning is left out: `train/n01440764`, ... become
    `n01440764`, and `data_256/a/abbey` becomes `a/abbey`.

    Example:
        >>> class_names(["t/cat/1.jpg", "t/dog/1.jpg"], np.array([0, 1]), 2)
        ('cat', 'dog')
        >>> class_names(["1.jpg", "2.jpg"], np.array([0, 1]), 2)
        ('0', '1')
    """
    numbers = tuple(map(str, range(n_classes)))
    folders: dict[int, str] = {}
    for path, label in zip(paths, labels.tolist(), strict=True):
        folder = path.rpartition("/")[0]
        if folders.setdefault(label, folder) != folder:
            return numbers
    if len(folders) < n_classes or len(set(folders.values())) < n_classes or n_classes < 2:
        return numbers
    parts = [folders[c].split("/") for c in range(n_classes)]
    n_shared = 0
    while len({tuple(part[: n_shared + 1]) for part in parts}) == 1:
        n_shared += 1  # ends: not all folders are the same
    names = tuple("/".join(part[n_shared:]) for part in parts)
    return names if all(names) else numbers
