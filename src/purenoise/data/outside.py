"""Images of something else, which belong to no class: a folder, all of it, brought to one size.

They stand in for noise in ablations. Differs from :mod:`purenoise.data.folder`: folders are no
classes, every image at any depth counts, and a file that looks like an image and is broken is an
error, as one image less would change every draw.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purenoise.data.decode import UnusableImageError, in_threads, is_image, load_image, path_inside
from purenoise.errors import DataError

SHOWN = 3  # faults in one message


def outside_paths(folder: str | Path) -> tuple[str, ...]:
    """Return the images in a folder, at any depth, in the order of their names.

    Args:
        folder: A folder.

    Returns:
        POSIX paths relative to ``folder``.

    Raises:
        DataError: If there is no such folder, or no image in it.
    """
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise DataError(f"There is no folder {str(folder)!r}.", "Name a folder of images.")
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if is_image(path))
    found = tuple(sorted(names))
    if not found:
        raise DataError(f"{str(folder)!r} holds no image.", "Name a folder of images.")
    return found


def load_outside(
    folder: str | Path, shape: tuple[int, int, int], limit: int | None = None
) -> NDArray[np.uint8]:
    """Load all images of a folder.

    Args:
        folder: See :func:`outside_paths`.
        shape: Channels (1: made grey, or 3), height and width to which they are brought.
        limit: Bytes that they may take; None: any.

    Returns:
        uint8, shape (N, C, H, W), in the order of :func:`outside_paths`.

    Raises:
        DataError: If there is none, if one cannot be used (the first few are named), or if they
            take more than ``limit``.
    """
    root = Path(os.path.expanduser(folder)).resolve()
    paths = outside_paths(root)
    size = len(paths) * int(np.prod(shape))
    if limit is not None and size > limit:
        raise DataError(
            f"The {len(paths):,} images in {str(folder)!r} take {size / 2**20:,.0f} MiB at "
            f"{' x '.join(map(str, shape))}, and data.memory_mib allows {limit / 2**20:,.0f}.",
            "Raise data.memory_mib, or name a folder with fewer images.",
        )
    images = np.empty((len(paths), *shape), np.uint8)
    faults: list[str] = []

    def fill(row: int) -> None:
        try:
            images[row] = load_image(path_inside(root, paths[row]), shape)
        except UnusableImageError as error:
            faults.append(f"{paths[row]!r} cannot be used: {error}")
        except DataError as error:
            faults.append(error.message.rstrip("."))

    in_threads(fill, list(range(len(paths))), [root / p for p in paths[:: len(paths) // 9 + 1]])
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            f"Images in {str(folder)!r}: {'; '.join(sorted(faults)[:SHOWN])}{more}.",
            "Take them out of the folder.",
        )
    return images


def outside_sha256(folder: str | Path) -> str:
    """Return the SHA-256 over names and bytes of all images of a folder, 64 hex digits.

    Raises:
        DataError: See :func:`outside_paths`; also if a file cannot be read.
    """
    root, digest = Path(os.path.expanduser(folder)), hashlib.sha256()
    for name in outside_paths(root):
        try:
            content = (root / name).read_bytes()
        except OSError as error:
            raise DataError(f"{name!r} in {str(folder)!r}: {error.strerror}.") from error
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
