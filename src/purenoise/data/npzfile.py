"""Read named arrays of an ``.npz`` file that may come from anybody, in bounded memory.

Differs from ``numpy.load``: what the arrays would take is added up from their headers before any of
them is read; no pickle is read; a name means one member (``numpy.load`` prefers ``x`` to ``x.npy``
when an archive has both, so that what was checked may not be what is read); and everything that the
zip and array formats can do wrong is one error.
"""

from __future__ import annotations

import lzma
import os
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from purenoise.errors import PureNoiseError

# What zipfile and numpy raise on strange bytes; RuntimeError: encrypted, or an unknown compression.
FAULTS = (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, OverflowError,
          MemoryError, RecursionError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile,
          zlib.error, lzma.LZMAError)  # fmt: skip


class ArchiveError(Exception):
    """A file that is no ``.npz``, or damaged; its text is the reason."""


class ObjectsError(Exception):
    """An array of Python objects, which are not read; its text is the array's name."""


class TooLargeError(Exception):
    """Arrays that would take too much; its argument is how many bytes."""


def read_npz(
    path: str | Path, choose: Callable[[list[str]], Sequence[str]], most: int
) -> dict[str, NDArray[Any]]:
    """Read some of the arrays of a file.

    Args:
        path: Of the file.
        choose: Is given the names of all arrays and returns those that are to be read.
        most: Bytes that these may take together.

    Raises:
        FileNotFoundError: There is no such file.
        ArchiveError: It is no such file, or damaged.
        ObjectsError: An array holds Python objects.
        TooLargeError: The arrays take more.
    """
    own = (ArchiveError, ObjectsError, TooLargeError, FileNotFoundError, PureNoiseError)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ArchiveError("it is no ordinary file")
        with zipfile.ZipFile(path) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            wanted = choose(names)
            size = sum(_size(archive, name) for name in wanted)
            if size > most:
                raise TooLargeError(size)
            return {name: _array(archive, name) for name in wanted}
    except own:
        raise
    except FAULTS as error:
        text = str(getattr(error, "strerror", None) or error).partition("\n")[0][:120]
        raise ArchiveError(text or type(error).__name__) from error


def _size(archive: zipfile.ZipFile, name: str) -> int:
    """Return the bytes that an array would take, from its header."""
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _header(member)
    if dtype.hasobject:
        raise ObjectsError(name)
    if min(shape, default=0) < 0:
        raise ArchiveError(f"{name} has the shape {shape}"[:120])
    return int(np.prod(shape, dtype=object)) * dtype.itemsize


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    elif version in ((2, 0), (3, 0)):  # 3.0 differs in the letters that a field's name may have
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    else:
        raise ArchiveError(f"an array of the unknown version {version}")
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
