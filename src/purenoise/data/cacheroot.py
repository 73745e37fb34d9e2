"""The place where decoded images are kept: where it is, how large it may grow, what goes first.

Each folder of images, size and decoder has one folder below the root, named by 16 hex digits and
carrying a marker. Only such folders are ever removed, only files of our own names in them, and no
link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # a platform without it goes on without locks: each row has a checksum
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("purenoise")

GIB = 1 << 30
MIB = 1 << 20
MARKER = "purenoise-cache.json"
LOCK = "lock"
NAME = re.compile(r"[0-9a-f]{16}")
ANNOUNCED = "announced"  # bytes that the folder will take, while a process fills it
OURS = re.compile(r"pixels-\d+\.bin|index\.npz|damaged|announced|.*\.tmp")
WRITE = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class NoCacheError(Exception):
    """Decoded images cannot be kept; its text is the reason, without a full stop."""


@dataclass(frozen=True)
class CacheChoice:
    """Where decoded images are to be kept.

    Args:
        root: Folder for all of them.
        limit: Bytes that they may take together.
        required: Whether it is an error if they cannot be kept; otherwise they are decoded each
            time, and room is made by removing what was not used for longest.
    """

    root: Path
    limit: int = 20 * GIB
    required: bool = False


@dataclass(frozen=True)
class CacheFolder:
    """One folder of ours below the root.

    Args:
        path: Where it is.
        size: Bytes of its files, or what a process that fills it has announced.
        used: When it was last used, in seconds since 1970.
        source: The folder of images that it was made from.
        to_come: Bytes that were announced and are not written yet.
    """

    path: Path
    size: int
    used: float
    source: str
    to_come: int = 0


def default_root() -> Path:
    """Return ``$PURENOISE_CACHE``, else ``$XDG_CACHE_HOME/purenoise``, else ``~/.cache/purenoise``.

    Raises:
        NoCacheError: There is no home.
    """
    if given := os.environ.get("PURENOISE_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(given)))
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(os.path.abspath(base)) / "purenoise"
    try:
        return Path.home() / ".cache" / "purenoise"
    except RuntimeError as error:
        raise NoCacheError("there is no home folder") from error


def cache_folders(root: Path) -> list[CacheFolder]:
    """Return our folders below the root, the one that was not used for longest first."""
    found = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                folder = _describe(Path(entry.path))
                if folder is not None:
                    found.append(folder)
    return sorted(found, key=lambda folder: (folder.used, folder.path))


def make_room(choice: CacheChoice, own: Path, grow: int, written: int) -> list[CacheFolder]:
    """Make sure that pixels may be written, removing old folders unless the place was asked for.

    Of the disk 5 % stay free, at least 1 GiB and at most 10.

    Args:
        choice: The place and its limit.
        own: The folder that grows, which stays.
        grow: Bytes by which it will have grown in the end.
        written: Bytes that have to be written before anything else goes.

    Returns:
        What was removed.

    Raises:
        NoCacheError: There is no room, with what is needed and what there is.
    """
    disk = shutil.disk_usage(choice.root)
    folders = cache_folders(choice.root)
    above_limit = sum(folder.size for folder in folders) + grow - choice.limit
    spare = max(GIB, min(10 * GIB, disk.total // 20))
    to_come = sum(folder.to_come for folder in folders if folder.path != own)
    too_full = written + to_come + spare - disk.free
    over = max(above_limit, too_full)
    if over <= 0:
        return []
    reason = (
        f"{megabytes(written)} are needed, {megabytes(disk.free)} are free on the disk of which "
        f"{megabytes(spare)} stay free, and "
        f"{megabytes(sum(folder.size for folder in folders))} of at most "
        f"{megabytes(choice.limit)} are in use in '{choice.root}'"
    )
    others = [folder for folder in folders if folder.path != own]
    if choice.required or sum(folder.size for folder in others) < over:
        raise NoCacheError(reason)
    removed = []
    for folder in others:
        if over > 0 and remove(folder.path):
            removed.append(folder)
            over -= folder.size
    if over > 0:
        raise NoCacheError(reason)
    return removed


def keep_limit(choice: CacheChoice, own: Path) -> list[str]:
    """Remove old folders where a limit that was lowered is passed; say so, or that it cannot be."""
    folders = cache_folders(choice.root)
    over = sum(folder.size for folder in folders) - choice.limit
    said = []
    for folder in folders:
        if over > 0 and folder.path != own and not choice.required and remove(folder.path):
            over -= folder.size
            said.append(removed_note(folder))
    if over > 0:
        said.append(
            f"Decoded images in '{choice.root}' take {megabytes(choice.limit + over)}, more than "
            f"the {megabytes(choice.limit)} of data.cache_mib; they stay, because they are in use."
        )
    return said


def removed_note(folder: CacheFolder) -> str:
    """Say that a folder was removed."""
    return (
        f"Decoded images of '{folder.source}' ({megabytes(folder.size)}), which were not used for "
        "longest, were removed to make room."
    )


def remove(path: Path) -> bool:
    """Remove one of our folders, unless it is being filled; return whether it is gone."""
    if _describe(path) is None:
        return False
    try:
        with locked(path, wait=False):
            names = [name for name in os.listdir(path) if OURS.fullmatch(name)]
            for name in [*names, MARKER, LOCK]:  # the lock last: whoever waits for it starts anew
                os.unlink(path / name)
        os.rmdir(path)
    except OSError:
        return not path.exists()
    return True


def make_folder(path: Path, about: dict[str, object]) -> None:
    """Make a folder of ours, which only its owner may read, and mark it as used now.

    Raises:
        NoCacheError: It cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        if path.is_symlink():
            raise NoCacheError(f"'{path}' is a link")
        with contextlib.suppress(FileExistsError):
            file = os.open(path / MARKER, WRITE | os.O_EXCL, 0o600)
            with open(file, "w", encoding="utf-8") as marker:
                json.dump(about, marker)
        os.utime(path / MARKER)
    except OSError as error:
        raise NoCacheError(f"'{path}' cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of one of our folders.

    Args:
        folder: The folder.
        wait: Whether to wait for another process that holds it.

    Raises:
        OSError: The lock cannot be opened, or is held and ``wait`` is False.
    """
    while True:
        file = os.open(folder / LOCK, WRITE, 0o600)
        try:
            _lock(file, folder, wait)
            if not _is_still(file, folder / LOCK):
                continue  # its folder was removed, and made anew, while we waited
            yield
            return
        finally:
            os.close(file)


def megabytes(n: int) -> str:
    """Return a number of bytes in MiB.

    Example:
        >>> megabytes(3 << 20), megabytes(300 << 20), megabytes(1)
        ('3.0 MiB', '300 MiB', '0.1 MiB')
    """
    size = max(n / MIB, 0.1 * (n > 0))
    return f"{size:.0f} MiB" if size >= 10 else f"{size:.1f} MiB"


def _describe(path: Path) -> CacheFolder | None:
    """Return what is known of a folder, or None if it is not ours."""
    try:
        marker = (path / MARKER).lstat()
        if not NAME.fullmatch(path.name) or path.is_symlink() or not stat.S_ISREG(marker.st_mode):
            return None
        about = json.loads((path / MARKER).read_text(encoding="utf-8"))
        with os.scandir(path) as entries:
            size = sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        to_come = max(0, _announced(path) - size)
        return CacheFolder(path, size + to_come, marker.st_mtime, str(about["source"]), to_come)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def announce(folder: Path, size: int) -> None:
    """Write down how many bytes a folder will take once it is filled."""
    with open(os.open(folder / ANNOUNCED, WRITE | os.O_TRUNC, 0o600), "w") as file:
        file.write(str(size))


def _announced(path: Path) -> int:
    """Return the bytes that a process which fills a folder has announced, or 0."""
    try:
        return int((path / ANNOUNCED).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _lock(file: int, folder: Path, wait: bool) -> None:
    """Lock an open file, if this platform and this disk know locks."""
    if fcntl is None:
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            log.warning("Waiting for another process that decodes images into '%s'.", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def _is_still(file: int, path: Path) -> bool:
    """Return whether an open file is the one that lies at a path now."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
