"""Files that appear whole or not at all, also after the power went off.

A file is written beside its place, flushed to the disk, renamed, and then the folder is flushed,
because a rename is an entry of the folder. Imports no torch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from purenoise.errors import RunError
from purenoise.runlinks import refuse_links_to

FAILS = (errno.EIO, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence that a path cannot be written, such as on a full disk.

    Raises:
        RunError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free some space or choose another place with out=FOLDER, and run the same line again.",
        ) from error


def write_whole(
    path: Path, content: bytes | str, previous: Path | None = None, *, flush: bool = True
) -> None:
    """Write a file that appears complete or not at all.

    Args:
        path: Of the file.
        content: Of the file.
        previous: Where the file that was at ``path`` is moved to, once the new one is whole.
        flush: Whether to wait for the disk; False for what is made again when it is lost.

    Raises:
        RunError: If it cannot be written, such as on a full disk, or a link would lead it out of
            the folder of its run.
    """
    refuse_links_to(path)
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.part")
    with writing(path):
        make_folders(path.parent)
        try:
            beside.unlink(missing_ok=True)  # a stranger's folder may hold a link there
            with beside.open("xb") as file:
                file.write(data)
                file.flush()
                if flush:
                    os.fsync(file.fileno())
            if previous is not None and path.exists():
                path.replace(previous)
            beside.replace(path)
        finally:
            with suppress(OSError):  # on a disk that fails it would hide the reason
                beside.unlink(missing_ok=True)
        if flush:
            sync_folder(path.parent)


def make_folders(path: Path) -> None:
    """Make a folder and what is missing above it, each of them on the disk.

    Raises:
        OSError: If it cannot be made.
    """
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(path: Path) -> None:
    """Flush the entries of a folder to the disk, where the platform and the disk can.

    Raises:
        OSError: If the disk is full or fails.
    """
    try:
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:  # Windows opens no folders; some network disks flush none
        if error.errno in FAILS:
            raise
