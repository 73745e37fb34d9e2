"""Read a file that is meant to be small: an ordinary one, and no more of it than is allowed.

A path may name anything: a FIFO, at which a reader waits for ever, a device that never ends, a file
of a terabyte. `Path.read_text` reads them all. Imports nothing, so that it costs nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MIB = 1 << 20


def read_small(path: str | Path, most: int) -> bytes:
    """Return what an ordinary file holds.

    Args:
        path: Of the file; links are followed.
        most: Bytes that it may have.

    Raises:
        OSError: It cannot be read, is no ordinary file, or is larger; ``strerror`` says why.

    Example:
        >>> read_small(os.devnull, 10)
        Traceback (most recent call last):
        OSError: [Errno 22] it is no ordinary file
    """
    try:
        # Without O_NONBLOCK the opening of a FIFO waits for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
                         | getattr(os, "O_BINARY", 0))  # fmt: skip
    except ValueError as error:  # a null byte
        raise OSError(errno.EINVAL, "no file has such a name") from error
    with open(handle, "rb") as file:
        info = os.fstat(file.fileno())
        if stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file")
        content = file.read(info.st_size + 1) if info.st_size <= most else b""
    if max(len(content), info.st_size) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most / MIB:g} MiB")
    return content


def check_small(path: str | Path, most: int | None = None) -> None:
    """Refuse what `read_small` refuses, for somebody else who will read the file.

    Args:
        path: Of the file; links are followed.
        most: Bytes that it may have; None: any number.

    Raises:
        OSError: It is missing, no ordinary file, or larger; ``strerror`` says why.
    """
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    if most is not None and info.st_size > most:
        raise OSError(errno.EFBIG, f"it is larger than {most / MIB:g} MiB")


def read_small_text(path: str | Path, most: int) -> str:
    """Return what an ordinary file holds as UTF-8 text, without a byte order mark.

    Raises:
        OSError: As `read_small`; also if it is no UTF-8.
    """
    try:
        return read_small(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(errno.EINVAL, f"it is not UTF-8 (byte {error.start})") from error
