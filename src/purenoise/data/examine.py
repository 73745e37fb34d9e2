"""Decode each file of a folder once: what is learnt from it, and where its pixels go.

The shape is taken from the first bytes of as many files as it takes (usually one), then every file
is decoded, in threads, examined and at once brought to that shape. Should the decoded images call
for another shape than their headers promised, all are decoded once more. What the cache knows is
not even opened.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purenoise.data.cache import Cache, earlier_facts
from purenoise.data.cacheroot import CacheChoice, NoCacheError, keep_limit, megabytes
from purenoise.data.decode import UnusableImageError, decode, in_threads, read_header, to_pixels
from purenoise.data.listing import Listing
from purenoise.data.pixels import KeptRows
from purenoise.data.table import NEVER, UNKNOWN, Facts, Table
from purenoise.data.target import Keep
from purenoise.errors import DataError

TICK = 20_000_000  # ns: a clock tick of common file systems, and some more
COARSE = 2_000_000_000  # of those that count whole seconds

Shape = tuple[int, int, int]
Pixels = NDArray[np.uint8]
Put = Callable[[Table, int, Facts, Pixels | None], None]


@dataclass(frozen=True)
class Kept:
    """Where the pixels of a scan's usable images are, in the order of the images.

    Args:
        shape: Channels, height and width.
        rows: On disk.
        array: In memory, uint8 of shape (M, C, H, W).
        places: If they are in memory: which of the M belongs to each image.
    """

    shape: Shape
    rows: KeptRows | None = None
    array: Pixels | None = None
    places: NDArray[np.int64] | None = None


def examine_files(listing: Listing, keep: Keep) -> tuple[Table, Kept | None, list[str]]:
    """Find out all there is to know about the files of a folder, and keep their pixels.

    In memory this takes the table (80 bytes and a path per file), one whole image per core, and
    what is kept in memory.

    Args:
        listing: The files.
        keep: What becomes of the pixels.

    Returns:
        The table, where the pixels of the usable images are (None: nowhere), and what a user should
        know about how they are kept.

    Raises:
        DataError: They cannot be kept in a place that was asked for.
    """
    choice = keep.cache
    shape = keep.target.shape(_headers(listing, choice)) if choice or keep.memory_limit else None
    done = _examine_all(listing, keep, shape)
    if shape is not None:
        c = done[0].columns[done[0].usable()]
        sizes = zip(c["height"].tolist(), c["width"].tolist(), strict=True)
        true = keep.target.shape(zip(sizes, c["grey"].tolist(), strict=True))
        if true is not None and true != shape:
            done = _examine_all(listing, keep, true)
    return done


def _headers(
    listing: Listing, choice: CacheChoice | None
) -> Iterator[tuple[tuple[int, int], bool]]:
    """Yield size and greyness of the images, known from an earlier scan or read from a header."""
    known = Table(listing.paths, listing.stats)
    if choice is not None:
        known.take_known(earlier_facts(choice, listing.root))
    for path, row in zip(listing.paths, known.columns, strict=True):
        if row["state"] == UNKNOWN:
            found = read_header(listing.root / path)
            if found is not None:
                yield found
        elif row["height"]:
            yield (int(row["height"]), int(row["width"])), bool(row["grey"])


def _examine_all(
    listing: Listing, keep: Keep, shape: Shape | None
) -> tuple[Table, Kept | None, list[str]]:
    """Decode what is not known, keeping the pixels on disk, else in memory, else nowhere."""
    table = Table(listing.paths, listing.stats)
    notes: list[str] = []
    if shape is not None and keep.cache is not None:
        try:
            return _with_cache(listing, keep.cache, shape, table)
        except NoCacheError as error:
            notes = [_refused(keep.cache, str(error), len(table.paths) * int(np.prod(shape)))]
            table = Table(listing.paths, listing.stats)
    if shape is not None and len(table.paths) * int(np.prod(shape)) <= keep.memory_limit:
        array = np.empty((len(table.paths), *shape), np.uint8)  # (N, C, H, W)
        lock = threading.Lock()

        def put(table: Table, i: int, facts: Facts, pixels: Pixels | None) -> None:
            if pixels is not None:
                array[i] = pixels
            with lock:
                table.put(i, facts)

        _examine_missing(listing, table, shape, put)
        return table, Kept(shape, array=array, places=table.usable()), notes
    lock = threading.Lock()

    def put_facts(table: Table, i: int, facts: Facts, _: Pixels | None) -> None:
        with lock:
            table.put(i, facts)

    _examine_missing(listing, table, None, put_facts)
    return table, None, notes


def _with_cache(
    listing: Listing, choice: CacheChoice, shape: Shape, table: Table
) -> tuple[Table, Kept | None, list[str]]:
    """Take from the cache what it has, and decode the rest into it."""
    cache = _open_cache(choice, listing.root, shape)
    cache.recall(table)
    if len(table.missing()):
        with cache.filling(table):
            _examine_missing(listing, table, shape, cache.put)
    elif cache.is_stale(table):
        table, cache = _tidied(listing, choice, shape)
    cache.touch()
    kept = Kept(shape, cache.kept(table, table.usable()))
    limit = keep_limit(choice, cache.folder)
    return table, kept, [*cache.notes, *limit, cache.size_note(table)]


def _tidied(listing: Listing, choice: CacheChoice, shape: Shape) -> tuple[Table, Cache]:
    """Drop rows that belong to no file, if there is room and the folder may be written."""
    for tidies in (True, False):
        table = Table(listing.paths, listing.stats)
        cache = _open_cache(choice, listing.root, shape)
        cache.recall(table)
        try:
            if tidies or len(table.missing()):
                with cache.filling(table):
                    _examine_missing(listing, table, shape, cache.put)
            break
        except NoCacheError:
            if not tidies:
                raise
    return table, cache


def _open_cache(choice: CacheChoice, source: Path, shape: Shape) -> Cache:
    """Return the cache of a folder, unless there can be none."""
    if not hasattr(os, "pread"):
        raise NoCacheError("this system cannot read a file at an offset")
    inside = os.path.relpath(os.path.realpath(choice.root), source)
    first = inside.split(os.sep)[0]
    if first != os.pardir and not first.startswith("."):
        raise NoCacheError(f"'{choice.root}' lies among the images themselves")
    return Cache(choice, source, shape)


def _refused(choice: CacheChoice, reason: str, needed: int) -> str:
    """Return a note that nothing is kept, or raise if it was asked for."""
    if choice.required:
        raise DataError(
            f"Decoded images ({megabytes(needed)}) cannot be kept: {reason}.",
            "Make room, raise data.cache_mib, give another folder to data.cache, or set "
            "data.cache=off to decode them each time.",
        )
    return (
        f"Decoded images ({megabytes(needed)}) are not kept, so that each run decodes them anew, "
        f"which is slower: {reason}."
    )


def _examine_missing(listing: Listing, table: Table, shape: Shape | None, put: Put) -> None:
    """Decode the files of which nothing is known, in threads."""
    missing = table.missing()
    sample = [listing.root / table.paths[i] for i in missing[:: len(missing) // 9 + 1]]

    def look(i: int) -> None:
        put(table, i, *_examine(listing.root / table.paths[i], shape))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata; what matters raises, or is checked
        in_threads(look, missing.tolist(), sample)


def _examine(path: Path, shape: Shape | None) -> tuple[Facts, Pixels | None]:
    """Decode one file and describe it, or say why it cannot be used."""
    stat = (0, NEVER)
    try:
        with open(path, "rb") as file:
            stat = _trusted_stat(file.fileno())
            image, remarks = decode(file)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").digest()
    except UnusableImageError as error:
        if error.is_passing:
            stat = (0, NEVER)
        return Facts(stat, str(error)), None
    except OSError as error:
        return Facts((0, NEVER), f"cannot be read ({error.strerror})"), None
    size = (image.height, image.width)
    facts = Facts(stat, "", size, image.mode == "L", sha256, remarks)
    return facts, None if shape is None else to_pixels(image, shape)


def _trusted_stat(file: int) -> tuple[int, int]:
    """Return bytes and time of an open file, or a time that no file has if it is too fresh.

    A file that is written twice within one tick of the clock may have the same time and size both
    times, so one that was read within that tick is looked at again next time.
    """
    info = os.fstat(file)
    tick = COARSE if info.st_mtime_ns % 1_000_000_000 == 0 else TICK
    is_fresh = abs(time.time_ns() - info.st_mtime_ns) < tick
    return info.st_size, NEVER if is_fresh else info.st_mtime_ns
