"""Whether a text can be the path of a file, told before a path of a recipe is looked at."""

from __future__ import annotations

import os

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, of common file systems


def check_place(path: str | None) -> str | None:
    """Return a path that a file can have.

    Raises:
        ValueError: It has a null byte, or is longer than file systems allow.

    Example:
        >>> check_place("photos/train")
        'photos/train'
    """
    if path is None:
        return None
    name = path.encode("utf-8", "surrogatepass")
    parts = name.replace(b"\\", b"/").split(b"/") if os.name == "nt" else name.split(b"/")
    if "\0" in path or len(name) > LONGEST_PATH or max(map(len, parts)) > LONGEST_NAME:
        raise ValueError(
            "must be a path that a file can have: without null bytes, "
            f"{LONGEST_PATH} bytes at most and {LONGEST_NAME} between slashes"
        )
    return path
