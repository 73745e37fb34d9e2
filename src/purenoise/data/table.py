"""What is known of each file of a folder, in columns: as small as it can be, and quick to load.

A million files take about 80 MB and their paths; as a file (the arrays of an ``.npz``, read without
pickle, so that no code can come with it) about 120 MB, loaded in a second.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
UNKNOWN, USABLE, UNUSABLE = 0, 1, 2
COLUMNS = np.dtype(
    [
        ("size", "<i8"),  # bytes and time of the file that the rest was learnt from
        ("mtime", "<i8"),
        ("state", "u1"),
        ("text", "<i4"),  # number of the remarks, or of the reason why it is unusable
        ("height", "<i4"),
        ("width", "<i4"),
        ("grey", "?"),
        ("sha256", "u1", (32,)),
        ("row", "<i8"),  # where the pixels are kept; -1: nowhere
        ("crc", "<u4"),
    ]
)
NEVER = -1  # a time of modification that no file has, so that it is looked at again


@dataclass(frozen=True, slots=True)
class Facts:
    """What was learnt by decoding one file, whatever class it lies in.

    Args:
        stat: Bytes and time of modification in ns of what was read (``NEVER``: to be read again).
        reason: Why it is unusable; empty for a usable image, to which the rest belongs.
        size: Height and width, upright.
        grey: Whether it has one channel.
        sha256: Of the file's bytes.
        remarks: What happens to the image when it is loaded.
    """

    stat: tuple[int, int]
    reason: str = ""
    size: tuple[int, int] = (0, 0)
    grey: bool = False
    sha256: bytes = bytes(32)
    remarks: tuple[str, ...] = ()


class Table:
    """The files of a folder and what is known of them.

    Args:
        paths: Relative to the folder.
        stats: Bytes and time of modification of each, int64 of shape (N, 2); None: unknown.
    """

    def __init__(self, paths: Sequence[str], stats: NDArray[np.int64] | None = None) -> None:
        self.paths = paths
        self.columns = np.zeros(len(paths), COLUMNS)
        self.columns["row"] = -1
        if stats is not None:
            self.columns["size"], self.columns["mtime"] = stats.T
        self.texts: list[tuple[str, ...]] = []
        self._numbers: dict[tuple[str, ...], int] = {}

    def missing(self) -> NDArray[np.int64]:
        """Return the numbers of the files of which nothing is known."""
        return np.flatnonzero(self.columns["state"] == UNKNOWN)

    def usable(self) -> NDArray[np.int64]:
        """Return the numbers of the files that are usable images."""
        return np.flatnonzero(self.columns["state"] == USABLE)

    def put(self, i: int, facts: Facts, row: int = -1, crc: int = 0) -> None:
        """Write down what was learnt of file ``i`` and where its pixels are kept."""
        text = self._number((facts.reason,) if facts.reason else facts.remarks)
        state = UNUSABLE if facts.reason else USABLE
        digest = np.frombuffer(facts.sha256, np.uint8)
        self.columns[i] = (*facts.stat, state, text, *facts.size, facts.grey, digest, row, crc)

    def take_known(self, other: Table) -> None:
        """Take over what another table knows of files of the same path, size and time."""
        if not len(other.paths) or not len(self.paths):
            return
        if other.paths == self.paths:
            place = np.arange(len(self.paths))
        else:
            number = {path: i for i, path in enumerate(other.paths)}
            place = np.array([number.get(path, -1) for path in self.paths], np.int64)
        found = other.columns[place]
        same = (place >= 0) & (found["state"] != UNKNOWN)
        for name in ("size", "mtime"):
            same &= found[name] == self.columns[name]
        numbers = np.array([self._number(text) for text in other.texts], np.int32)
        self.columns[same] = found[same]
        self.columns["text"][same] = numbers[found["text"][same]]

    def forget_rows(self, keep: NDArray[np.bool_]) -> None:
        """Forget the usable files whose pixels are not kept, except where ``keep`` holds."""
        gone = (self.columns["state"] == USABLE) & ~keep
        self.columns["state"][gone] = UNKNOWN
        self.columns["row"][gone] = -1

    def _number(self, text: tuple[str, ...]) -> int:
        """Return the number of a text, a new one if need be."""
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number


def save_table(table: Table, path: Path, head: dict[str, Any]) -> None:
    """Write what is known to a file that appears whole or not at all.

    Args:
        table: Files of which nothing is known are left out.
        path: The file.
        head: Further plain values.
    """
    known = table.columns["state"] != UNKNOWN
    names = [table.paths[i] for i in np.flatnonzero(known).tolist()]
    head = {**head, "version": VERSION, "texts": table.texts}
    handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            np.savez(
                file,
                head=np.frombuffer(json.dumps(head).encode(), np.uint8),
                paths=np.frombuffer("\0".join(names).encode(), np.uint8),
                columns=table.columns[known],
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load_table(path: Path) -> tuple[Table, dict[str, Any]]:
    """Read a file that `save_table` wrote.

    Returns:
        The table and the further values.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged, of another version, or not such a file.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            if head["version"] != VERSION:
                raise ValueError(f"an index of version {head['version']}")
            names = arrays["paths"].tobytes().decode()
            columns = arrays["columns"]
        table = Table(names.split("\0") if len(columns) else [])
        table.columns = columns
        for text in head["texts"]:
            table._number(tuple(map(str, text)))
        _check(table, len(head["texts"]))
    except FileNotFoundError:
        raise
    except Exception as error:  # anything at all may be wrong with these bytes
        raise ValueError(f"no index that can be read ({error})") from error
    return table, head


def _check(table: Table, n_texts: int) -> None:
    """Refuse columns that this version cannot have written."""
    columns = table.columns
    if columns.dtype != COLUMNS or columns.shape != (len(table.paths),):
        raise ValueError("other columns")
    text, image = columns["text"], columns["state"] == USABLE
    if len(table.texts) != n_texts or ((text < 0) | (text >= n_texts)).any():
        raise ValueError("texts that do not fit")
    if (columns["state"] > UNUSABLE).any() or (columns["row"] < -1).any():
        raise ValueError("values out of range")
    if (columns["height"][image] < 1).any() or (columns["width"][image] < 1).any():
        raise ValueError("sizes out of range")
