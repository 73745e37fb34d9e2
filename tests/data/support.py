"""Folders of images of many kinds, and what decoding them one by one gives."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from purenoise.data.cacheroot import CacheChoice
from purenoise.data.decode import load_image
from purenoise.data.folder import load_folder
from purenoise.data.scan import FolderScan, scan_folder
from purenoise.data.target import Keep, Target
from purenoise.data.types import Dataset

SIDE = 8
OLD = 1_600_000_000  # long enough ago that a file's time is trusted


def write(path: Path, value: int = 0, size: tuple[int, int] = (16, 12), mode: str = "RGB") -> Path:
    """Write an image of ``size`` (H, W) with pixels drawn from the seed ``value``, of old time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (*size, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    if mode == "turned":
        exif[0x0112] = 6
        image = image.convert("RGB")
    elif mode != "RGBA":
        image = image.convert(mode)
    image.save(path, exif=exif) if path.suffix == ".jpg" else image.save(path)
    return age(path)


def age(path: Path, by: int = 0) -> Path:
    """Give a file a time long ago, ``by`` seconds later than others."""
    os.utime(path, (OLD + by, OLD + by + 0.5))
    return path


def many_kinds(root: Path) -> Path:
    """Write two classes with colour, grey, transparent, turned and palette images of all sizes."""
    kinds = "RGB.png L.png RGBA.png LA.png P.png turned.jpg RGB.jpg L.jpg 1.png CMYK.jpg"
    for k, kind in enumerate(kinds.split()):
        mode = kind.partition(".")[0]
        for c in "ab":
            write(root / c / f"{k}-{kind}", 10 * k + ord(c), (11 + k, 30 - k), mode)
    return root


def plain(root: Path, n: int = 4, classes: str = "ab") -> Path:
    """Write ``n`` colour images of each class."""
    for c in classes:
        for i in range(n):
            write(root / c / f"{i:03}.png", 1000 * ord(c) + i)
    return root


def scan(root: Path, place: Path | None, side: int | None = SIDE, **rest: object) -> FolderScan:
    """Scan a folder, keeping its pixels in ``place``."""
    choice = None if place is None else CacheChoice(place, **rest)  # type: ignore[arg-type]
    return scan_folder(root, Keep(Target(side), choice))


def load(
    root: Path, place: Path | None, side: int | None = SIDE, memory_limit: int = 0, **rest: object
) -> Dataset:
    """Load a folder with its pixels in ``place``."""
    found = scan(root, place, side, **rest)
    return load_folder(root, image_size=side, memory_limit=memory_limit, scan=found)


def check(data: Dataset, root: Path) -> None:
    """Check that each image has the pixels that decoding its file gives."""
    for split in (data.train, data.test):
        pixels = split.images.load(np.arange(len(split)))
        for name, image in zip(split.names, pixels, strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert (image == load_image(root / name, data.image_shape)).all(), name


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Count the image files that are opened."""
    names: list[str] = []
    original = Image.open

    def spy(file: object, *args: object, **kwargs: object) -> Image.Image:
        names.append(Path(str(getattr(file, "name", file))).name)
        return original(file, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", spy)
        yield names


def folders_in(place: Path) -> set[Path]:
    """Return the folders of decoded images; beside them lies a lock."""
    return {path for path in place.iterdir() if path.name != "lock"}


def only_folder(place: Path) -> Path:
    """Return the one folder of decoded images."""
    (folder,) = folders_in(place)
    return folder
