"""Folders of images that tests write, and what is read from them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from purenoise.data.types import Dataset, Split


def write(path: Path, value: int = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Path:
    """Write an image of ``size`` (H, W) with pixels drawn from the seed ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    pixels = np.random.default_rng(value).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_classes(root: Path, counts: dict[str, int], size: tuple[int, int] = (6, 4)) -> Path:
    """Write different images, ``counts[name]`` of each class."""
    for c, (name, n) in enumerate(counts.items()):
        for i in range(n):
            write(root / name / f"{i:03}.png", zlib.crc32(f"{root.name} {c} {i}".encode()), size)
    return root


def everything(split: Split) -> np.ndarray:
    """Return all pixels of a split."""
    return split.images.load(np.arange(len(split)))


def noted(data: Dataset, words: str) -> bool:
    """Return whether a note has these words."""
    return any(words in note for note in data.notes)
