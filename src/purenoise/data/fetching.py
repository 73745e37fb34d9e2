"""Downloads that another library makes: they end, and what is broken off is never believed.

torchvision and torch.hub set no time limit, and some data sets of torchvision believe any file that
lies in the place of the one that they want, also half of it. So a download goes to a folder of its
own, which vanishes if it fails, and is moved into place when the data set can be read.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

PACKED = (".gz", ".tgz", ".zip", ".tar", ".bz2", ".xz", ".mat")
DEEPEST, MOST_SEEN = 2, 10_000
# What torchvision says when the MD5 sum of a download is wrong, and what that means.
CORRUPTED = ("File not found or corrupted.", "what came is cut short or another file")
LONGEST = 160  # letters of a reason
TIMEOUT = 20.0  # seconds without a byte


@contextmanager
def patient() -> Iterator[None]:
    """Let connections that are made inside fail after `TIMEOUT` seconds without a byte."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def reason(error: BaseException) -> str:
    """Return in a few words why something could not be had, without a full stop."""
    inner = getattr(error, "reason", None)
    if isinstance(error, HTTPError):
        return f"the server says {error.code} {error.reason}"
    if isinstance(error, TimeoutError) or isinstance(inner, TimeoutError):
        return f"no byte came for {TIMEOUT:g} seconds"
    text = " ".join(str(inner or error).split()) or type(error).__name__
    return text.replace(*CORRUPTED)[:LONGEST].rstrip(".")


@contextmanager
def aside(root: Path, archives: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield an empty folder in ``root``, whose content is moved there if nothing is raised.

    Args:
        root: Is made if it is missing, and removed again if it stays empty.
        archives: Files in it that lie in the new folder as well, as copies: torchvision writes over
            an archive whose sum does not fit.

    Raises:
        OSError: If the folder cannot be made, or what was fetched cannot be moved.
    """
    is_new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as name:
            folder = Path(name)
            for archive in archives:
                place = folder / archive.relative_to(root)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(archive, place)
            yield folder
            _move(folder, root)
    finally:
        if is_new and not any(root.iterdir()):
            root.rmdir()


def archives_in(root: Path) -> list[Path]:
    """Return the archives in a folder of data sets, not deep and not among many thousand files."""
    found: list[Path] = []
    folders, seen = [root], 0
    for folder in folders:  # grows while it is gone through
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        seen += len(entries)
        if seen > MOST_SEEN:
            break
        found += [e for e in entries if e.name.endswith(PACKED) and e.is_file()]
        if len(folder.relative_to(root).parts) < DEEPEST:
            folders += [e for e in entries if e.is_dir() and not e.name.startswith(".")]
    return found


def _move(source: Path, target: Path) -> None:
    """Move what is in a folder into another, file by file where a folder is there already."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_file() and place.is_file() and filecmp.cmp(entry, place):  # lies there already
            continue
        if entry.is_dir() and place.is_dir():
            _move(entry, place)
        else:
            os.replace(entry, place)
