"""Decoded images on disk: each file is decoded once, and a later run reads rows of pixels.

A folder of the cache belongs to one folder of images, one shape and one decoder (ours, Pillow's and
its codecs' versions), so that its pixels are those that decoding would give, bit for bit. It holds
``pixels-<k>.bin``, rows that are appended and never overwritten, and ``index.npz``, which says of
each file (path, size, time of modification) what was learnt from it and which row it has. The index
is written whole, every 20 seconds and at the end: what a killed process had decoded by then is not
decoded again. A process that fills a folder holds its lock, and a second one waits, then finds it
filled; readers need no lock. When more than half of the rows belong to no file any more, those that
do move to a new file of pixels, and whoever reads the old one keeps it open.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purenoise.data.cacheroot import (
    ANNOUNCED,
    WRITE,
    CacheChoice,
    NoCacheError,
    announce,
    cache_folders,
    locked,
    make_folder,
    make_room,
    megabytes,
    removed_note,
)
from purenoise.data.decode import decoder_identity
from purenoise.data.pixels import DAMAGED, KeptRows, PixelFile
from purenoise.data.table import UNKNOWN, USABLE, Facts, Table, load_table, save_table

INDEX = "index.npz"
PIXELS = re.compile(r"pixels-(\d+)\.bin")
SAVE_SECONDS = 20.0


class Cache:
    """The decoded images of one folder of images in one shape.

    Args:
        choice: Where they are kept.
        source: The folder of images, absolute and without links.
        shape: Channels, height and width.
    """

    def __init__(self, choice: CacheChoice, source: Path, shape: tuple[int, int, int]) -> None:
        self.choice, self.source, self.shape = choice, source, shape
        self.about: dict[str, object] = {
            "source": str(source), "shape": list(shape), "decoder": decoder_identity()
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(self.about).encode("utf-8", "surrogateescape"))
        self.folder = choice.root / key.hexdigest()[:16]
        self.row_bytes = int(np.prod(shape))
        self.notes: list[str] = []
        self._pixels = PixelFile(self.folder / "pixels-0.bin", shape)
        self._end = 0  # rows that the index knows of, or that were written since
        self._file = -1
        self._lock = threading.Lock()
        self._fault: OSError | None = None
        self._is_new = False  # whether the table knows more than the index
        self._saved = self._save_seconds = 0.0

    def recall(self, table: Table) -> None:
        """Take over what is known of the files of a table, if their pixels are there."""
        for _ in range(2):  # once more if the pixels have just moved
            known, name, word = self._read_index()
            pixels = PixelFile(self.folder / name, self.shape)
            n_rows = pixels.n_rows()
            if n_rows or not len(known.usable()):
                break
        if word:
            self.notes.append(word)
        self._pixels = pixels
        rows = known.columns["row"]
        self._end = int(rows.max(initial=-1)) + 1
        present = (rows >= 0) & (rows < n_rows) & ~np.isin(rows, self._damaged())
        lost = int(np.count_nonzero((known.columns["state"] == USABLE) & ~present))
        if lost and not word:
            self.notes.append(f"{lost} of the decoded images kept were damaged or missing.")
        known.forget_rows(present)
        table.take_known(known)

    def is_stale(self, table: Table) -> bool:
        """Return whether more than half of the rows belong to no file of the table."""
        return self._end > 2 * int(np.count_nonzero(table.columns["row"] >= 0))

    def touch(self) -> None:
        """Note that the folder is in use and clear away what killed processes left, if we may."""
        with contextlib.suppress(NoCacheError, OSError):
            make_folder(self.folder, self.about)
            if self._left_over():
                with locked(self.folder, wait=False):
                    self._clear()

    @contextlib.contextmanager
    def filling(self, table: Table) -> Iterator[None]:
        """Hold the folder while `put` is called for what `recall` left unknown.

        Raises:
            NoCacheError: The folder cannot be written, or there is no room.
        """
        with contextlib.ExitStack() as stack:
            self._enter(stack)
            self._begin(table)
            try:
                yield
            finally:
                self._finish(table)

    def put(self, table: Table, i: int, facts: Facts, pixels: NDArray[np.uint8] | None) -> None:
        """Keep the pixels of file ``i``, and what was learnt of it. May be called by many threads.

        A disk that is full or fails ends the keeping, and not the scan: `finish_note` tells.
        """
        row, crc = -1, 0
        if pixels is not None and self._fault is None:
            data = pixels.tobytes()
            crc = zlib.crc32(data)
            with self._lock:
                row, self._end = self._end, self._end + 1
            try:
                if os.pwrite(self._file, data, row * self.row_bytes) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._fault, row = error, -1
        with self._lock:
            table.put(i, facts, row, crc)
            self._is_new = True
            if time.monotonic() - self._saved > max(SAVE_SECONDS, 10 * self._save_seconds):
                self._save(table)

    def kept(self, table: Table, numbers: NDArray[np.int64]) -> KeptRows:
        """Return where the pixels of files are."""
        columns = table.columns[numbers]
        return KeptRows(self._pixels, columns["row"].copy(), columns["crc"].copy())

    def size_note(self, table: Table) -> str:
        """Say where the images are kept and what they take."""
        n = int(np.count_nonzero(table.columns["row"] >= 0))
        return (
            f"Decoded images are kept in '{self.folder}' ({megabytes(n * self.row_bytes)}); "
            "data.cache=off turns that off."
        )

    def _read_index(self) -> tuple[Table, str, str]:
        """Return what the index says, its file of pixels, and a word if the index is damaged."""
        try:
            known, head = load_table(self.folder / INDEX)
            name = str(head["pixels"])
            if not PIXELS.fullmatch(name) or head["row_bytes"] != self.row_bytes:
                raise ValueError("an index that does not fit")
            return known, name, ""
        except FileNotFoundError:
            return Table([]), self._next_name(), ""
        except (OSError, ValueError, KeyError):
            word = f"The index of decoded images in '{self.folder}' was damaged: made anew."
            return Table([]), self._next_name(), word

    def _next_name(self) -> str:
        """Return the name of a file of pixels that is not there."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            names = []
        numbers = [int(found[1]) for name in names if (found := PIXELS.fullmatch(name))]
        return f"pixels-{max(numbers, default=-1) + 1}.bin"

    def _damaged(self) -> NDArray[np.int64]:
        """Return the rows that readers found damaged."""
        try:
            words = (self.folder / DAMAGED).read_text(encoding="ascii").split()
            return np.array([int(word) for word in words], np.int64)
        except (OSError, ValueError, OverflowError):
            return np.zeros(0, np.int64)

    def _enter(self, stack: contextlib.ExitStack, attempts: int = 3) -> None:
        """Make the folder and take its lock."""
        for attempt in range(attempts):
            make_folder(self.folder, self.about)
            try:
                stack.enter_context(locked(self.folder))
                break
            except OSError as error:  # another process may have removed the folder to make room
                if attempt == attempts - 1 or not isinstance(error, FileNotFoundError):
                    raise NoCacheError(
                        f"'{self.folder}' cannot be written: {error.strerror}"
                    ) from error
        make_folder(self.folder, self.about)

    def _begin(self, table: Table) -> None:
        """Look once more, now that nobody else writes; make room; open the file of pixels."""
        self._is_new, self._fault, self._saved = False, None, time.monotonic()
        self.notes.clear()
        self.recall(table)
        columns = table.columns
        live = np.flatnonzero(columns["row"] >= 0)
        moves = self.is_stale(table)
        new = len(table.missing())
        stale = (self._end - len(live)) if moves else 0
        try:
            with locked(self.choice.root):  # two processes must not both be given the same room
                removed = make_room(
                    self.choice,
                    self.folder,
                    grow=(new - stale) * self.row_bytes,
                    written=(new + len(live) * moves) * self.row_bytes,
                )
                size = (self._end - stale + new) * self.row_bytes
                announce(self.folder, size)
            self.notes += map(removed_note, removed)
            if moves:
                self._move(table, live)
                self._is_new = True
            self._file = os.open(self._pixels.path, WRITE, 0o600)
            if os.fstat(self._file).st_size > self._end * self.row_bytes:
                os.ftruncate(self._file, self._end * self.row_bytes)  # no index knew of these rows
        except OSError as error:
            raise NoCacheError(f"'{self.folder}' cannot be written: {error.strerror}") from error

    def _move(self, table: Table, live: NDArray[np.int64]) -> None:
        """Copy the rows that are in use to a new file of pixels."""
        old = self._pixels
        self._pixels = PixelFile(self.folder / self._next_name(), self.shape)
        columns = table.columns
        step = max(1, (4 << 20) // self.row_bytes)
        end = 0
        with open(os.open(self._pixels.path, WRITE, 0o600), "wb") as file:
            for start in range(0, len(live), step):
                part = live[start : start + step]
                images, good = old.read(columns["row"][part], columns["crc"][part])
                file.write(images[good].tobytes())
                columns["row"][part[good]] = np.arange(end, end + good.sum())
                columns["state"][part[~good]], columns["row"][part[~good]] = UNKNOWN, -1
                end += int(good.sum())
        self._end = end
        self._save(table)

    def _finish(self, table: Table) -> None:
        """Write the index, remove what it no longer names, and close."""
        try:
            if self._is_new:
                self._save(table)
                with contextlib.suppress(OSError):
                    os.unlink(self.folder / DAMAGED)
        finally:
            os.close(self._file)
            self._file = -1
            with contextlib.suppress(OSError):
                os.unlink(self.folder / ANNOUNCED)
        if self._fault is not None:
            reason = f"'{self.folder}' could not be written to the end: {self._fault.strerror}"
            if self.choice.required:
                raise NoCacheError(reason)
            self.notes.append(f"Some decoded images are not kept: {reason}.")

    def _save(self, table: Table) -> None:
        """Write the index and remove files of pixels that it does not name."""
        begin = time.monotonic()
        head = {**self.about, "pixels": self._pixels.path.name, "row_bytes": self.row_bytes}
        try:
            save_table(table, self.folder / INDEX, head)
            self._clear()
        except OSError as error:
            self._fault = self._fault or error
        self._saved = time.monotonic()
        self._save_seconds = self._saved - begin

    def _left_over(self) -> list[str]:
        """Return files of pixels that the index does not name, and what was being written."""
        kept = self._pixels.path.name
        return [name for name in os.listdir(self.folder)
                if name.endswith(".tmp") or (PIXELS.fullmatch(name) and name != kept)]  # fmt: skip

    def _clear(self) -> None:
        for name in self._left_over():
            os.unlink(self.folder / name)


def earlier_facts(choice: CacheChoice, source: Path) -> Table:
    """Return what is known of a folder's files from any shape in which it was last decoded."""
    identity = decoder_identity()
    for folder in reversed(cache_folders(choice.root)):
        if folder.source == str(source):
            with contextlib.suppress(OSError, ValueError):
                table, head = load_table(folder.path / INDEX)
                if head.get("decoder") == identity:
                    return table
    return Table([])
