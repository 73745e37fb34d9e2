"""Decoded images in a file: rows of one size, read by number, each checked by its CRC-32.

Rows are read by ``pread`` and not mapped: memory stays bounded by what is asked for, and a file
that was cut short gives a row that is missing instead of a signal that ends the process.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from purenoise.data.decode import in_threads

DAMAGED = "damaged"  # beside the pixels: numbers of the rows that turned out to be damaged
PIECE = 4 << 20  # bytes that one thread reads at a time

OWN_ONLY = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
READ_ONLY = os.O_RDONLY | OWN_ONLY
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | OWN_ONLY


class DamagedRowsWarning(UserWarning):
    """Decoded images that were kept are damaged or missing, and are decoded again."""


class PixelFile:
    """A file of rows; opened when it is first read, and once more after a pickle.

    An open file can still be read after it was removed, as happens when rows move to a new one.

    Args:
        path: The file.
        shape: Channels, height and width of each image.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape = path, shape
        self.row_bytes = int(np.prod(shape))
        self._file: int | None = None
        self._warned = False
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def n_rows(self) -> int:
        """Return how many whole rows the file has; 0 if it cannot be opened."""
        try:
            return os.fstat(self._open()).st_size // self.row_bytes
        except OSError:
            return 0

    def read(
        self, rows: NDArray[np.int64], crcs: NDArray[np.uint32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read rows.

        Args:
            rows: int64, shape (B,); negative numbers are rows that were never kept.
            crcs: uint32, shape (B,): what the rows must have.

        Returns:
            uint8 of shape (B, C, H, W) and bool of shape (B,): which of them are good.
        """
        images = np.empty((len(rows), *self.shape), np.uint8)  # (B, C, H, W)
        good = np.zeros(len(rows), np.bool_)
        try:
            file = self._open()
        except OSError:
            return images, good
        flat = images.reshape(len(rows), self.row_bytes)  # of no row, too
        order = np.argsort(rows, kind="stable")  # as they lie on the disk
        step = max(1, PIECE // self.row_bytes)

        def read_piece(start: int) -> None:
            for k in order[start : start + step].tolist():
                good[k] = rows[k] >= 0 and self._read_one(file, int(rows[k]), flat[k], int(crcs[k]))

        in_threads(read_piece, range(0, len(rows), step))
        return images, good

    def report(self, rows: list[int]) -> None:
        """Note down rows that are damaged, to be decoded anew at the next scan; warn once."""
        with self._lock:
            first, self._warned = not self._warned, True
        try:
            with open(os.open(self.path.parent / DAMAGED, APPEND, 0o600), "ab") as file:
                file.write("".join(f"{row}\n" for row in rows).encode())
        except OSError:
            pass  # a cache that may only be read, or is gone: they stay slow
        if first:
            warnings.warn(
                f"Decoded images kept in '{self.path.parent}' are damaged or missing: they are "
                "decoded from their files.",
                DamagedRowsWarning,
                stacklevel=2,
            )

    def _open(self) -> int:
        with self._lock:
            if self._file is None:
                self._file = os.open(self.path, READ_ONLY)
                weakref.finalize(self, os.close, self._file)
            return self._file

    def _read_one(self, file: int, row: int, into: NDArray[np.uint8], crc: int) -> bool:
        """Read one row and return whether it is whole."""
        try:
            data = os.pread(file, self.row_bytes, row * self.row_bytes)
        except (OSError, OverflowError):
            return False
        if len(data) != self.row_bytes or zlib.crc32(data) != crc:
            return False
        into[:] = np.frombuffer(data, np.uint8)
        return True


@dataclass(frozen=True)
class KeptRows:
    """The rows of some images in a file of pixels.

    Args:
        file: The file.
        rows: int64, shape (N,); -1 for an image that is not kept.
        crcs: uint32, shape (N,).
    """

    file: PixelFile
    rows: NDArray[np.int64]
    crcs: NDArray[np.uint32]

    def select(self, indices: NDArray[np.int64]) -> KeptRows:
        """Return the rows of the images at ``indices``."""
        return KeptRows(self.file, self.rows[indices], self.crcs[indices])

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the images at ``indices``, and the places of those that must be decoded."""
        rows = self.rows[indices]
        images, good = self.file.read(rows, self.crcs[indices])
        damaged = rows[~good & (rows >= 0)]
        if len(damaged):
            self.file.report(np.unique(damaged).tolist())
        return images, np.flatnonzero(~good)
