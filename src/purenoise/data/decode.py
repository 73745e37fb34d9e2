"""Turn image files into pixels: one decoder for scanning a folder, training and predicting.

Unlike ``Image.open(path).convert("RGB")``, the habit of the field, this applies the rotation that
EXIF asks for, puts transparency on white instead of showing whatever colour lies beneath it,
refuses 16-bit and float images instead of clipping them to white, and gives each broken file a
reason. Formats that Pillow hands to other programs (EPS) are not opened, and links are never
followed out of the folder: no code runs and no other file is read because of a data file.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from purenoise.errors import DataError

GREY_MODES = frozenset({"1", "L", "LA", "La"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
ANIMATED = "more than one frame, of which the first is used"
TRANSPARENT = "transparency, which is put on white"
ROWS_PER_TASK = 8
SMALL_FILE = 16 * 1024

T = TypeVar("T")
R = TypeVar("R")


class UnusableImageError(Exception):
    """A file that cannot be turned into pixels; its text is the reason."""


@dataclass(frozen=True)
class FileImages:
    """Images that are decoded from their files each time they are loaded.

    The thread pool lives for one call only: starting one costs about 0.2 ms, and nothing is left
    that a fork or a pickle could break.

    Args:
        root: Folder, absolute and without links.
        paths: POSIX paths of the images relative to ``root``.
        shape: Channels (1 or 3), height and width to which every image is brought.
    """

    root: Path
    paths: tuple[str, ...]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode the images at ``indices``.

        Args:
            indices: int64, shape (B,).

        Returns:
            uint8, shape (B, C, H, W).

        Raises:
            DataError: A file is missing or broken, or has become a link out of the folder.
        """
        images = np.empty((len(indices), *self.shape), np.uint8)  # (B, C, H, W)

        def fill(first: int) -> None:
            for row in range(first, min(first + ROWS_PER_TASK, len(indices))):
                images[row] = self._load_one(self.paths[indices[row]])

        sample = [self.root / self.paths[i] for i in indices[:: len(indices) // 9 + 1]]
        in_threads(fill, range(0, len(indices), ROWS_PER_TASK), sample)
        return images

    def _load_one(self, path: str) -> NDArray[np.uint8]:
        """Decode one file of the folder."""
        try:
            return load_image(path_inside(self.root, path), self.shape)
        except UnusableImageError as error:
            raise DataError(f"{path!r} in '{self.root}' cannot be used: {error}.") from error


def load_image(path: str | Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decode one image file and bring it to a given shape.

    An image of another size is scaled, with its proportions kept, until it just covers height and
    width (bicubic, with antialiasing), and what stands over is cut off equally on both sides.

    Args:
        path: The file.
        shape: Channels (1 or 3), height and width.

    Returns:
        uint8, shape (C, H, W).

    Raises:
        DataError: The file is missing, broken, or an image that cannot be used.
    """
    channels, height, width = shape
    try:
        with open(path, "rb") as file:
            image = decode(file)[0].convert("L" if channels == 1 else "RGB")
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.") from error
    except UnusableImageError as error:
        raise DataError(f"'{path}' cannot be used: {error}.") from error
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    rows = np.asarray(image, np.uint8).reshape(height, width, channels)  # (H, W, C)
    return np.ascontiguousarray(rows.transpose(2, 0, 1))  # (C, H, W)


def decode(file: BinaryIO) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode an image file to mode ``L`` or ``RGB``, upright, with transparency put on white.

    Args:
        file: The open file.

    Returns:
        The image, and remarks on what was done to it (``ANIMATED``, ``TRANSPARENT``).

    Raises:
        UnusableImageError: The bytes are no image, a broken or too large one, or one with more than
            8 bits per channel.
    """
    try:
        with Image.open(file, formats=_formats()) as image:
            _check_pixels(image)
            image.load()
            remarks = _remarks(image)
            ImageOps.exif_transpose(image, in_place=True)
            return _to_grey_or_colour(image), remarks
    except UnusableImageError:
        raise
    except UnidentifiedImageError:
        raise UnusableImageError("not an image that can be opened") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusableImageError(_too_large()) from None
    except Exception as error:  # decoders raise anything at all on broken bytes
        text = str(error).strip().partition("\n")[0][:100] or type(error).__name__
        raise UnusableImageError(f"a broken image ({text})") from error


def is_image(path: Path) -> bool:
    """Return whether a file begins like an image, without decoding it."""
    if not path.is_file():
        return False
    try:
        with Image.open(path, formats=_formats()):
            return True
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return True
    except Exception:  # as in decode
        return False


def path_inside(root: Path, path: str) -> Path:
    """Return ``root/path`` if it is a file or folder that lies inside ``root``.

    Raises:
        UnusableImageError: It is missing, a link out of ``root`` or to a folder, or a device; or
            its name cannot be written as UTF-8.
    """
    full = root / path
    if path.encode("utf-8", "replace").decode() != path:
        raise UnusableImageError("a name that is not valid UTF-8")
    try:
        target = full.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise UnusableImageError("a link to nothing" if full.is_symlink() else "missing") from None
    if not target.is_relative_to(root):
        raise UnusableImageError("a link that leads out of the folder")
    if full.is_symlink() and target.is_dir():
        raise UnusableImageError("a link to a folder, which is not followed")
    if not target.is_file() and not target.is_dir():
        raise UnusableImageError("neither a file nor a folder")
    return full


def in_threads(
    function: Callable[[T], R], items: Iterable[T], sample: Iterable[Path] = ()
) -> list[R]:
    """Call ``function`` on every item, in threads, and return the results in the items' order.

    Pillow releases the interpreter lock while it decodes, so threads use all cores; but on files of
    a few kB they only fight for the lock (measured: 24 x 40 pixels, two cores: 5.9 s in threads,
    3.0 s without).

    Args:
        function: What to do with one item.
        items: The items.
        sample: Some of the files; if most are small, no threads are used.
    """
    todo = list(items)
    if len(todo) < 2 or _mostly_small(sample):
        return [function(item) for item in todo]
    with ThreadPoolExecutor(max_workers=max(2, min(16, os.cpu_count() or 2))) as pool:
        return list(pool.map(function, todo))


def _mostly_small(sample: Iterable[Path]) -> bool:
    """Return whether the median file is too small to be worth a thread; False without files."""
    sizes = sorted(path.stat().st_size for path in sample if path.is_file())
    return bool(sizes) and sizes[len(sizes) // 2] < SMALL_FILE


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return those of ``FORMATS`` that this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_pixels(image: Image.Image) -> None:
    """Refuse, from the header alone, what is too large or cannot be made 8-bit faithfully."""
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise UnusableImageError(_too_large())
    if image.mode not in GREY_MODES | COLOUR_MODES:
        raise UnusableImageError(
            f"an image of another mode ({image.mode}: only 8-bit grey and colour images are read)"
        )


def _too_large() -> str:
    """Return the reason why a decompression bomb is refused."""
    return f"an image of more than {Image.MAX_IMAGE_PIXELS} pixels"


def _remarks(image: Image.Image) -> tuple[str, ...]:
    """Return what a user should know about how an image is read."""
    # MPO is what many phones write: a JPEG with a preview behind it, not an animation.
    animated = image.format != "MPO" and getattr(image, "is_animated", False)
    return (ANIMATED,) * animated + (TRANSPARENT,) * image.has_transparency_data


def _to_grey_or_colour(image: Image.Image) -> Image.Image:
    """Return an image as ``L`` or ``RGB``, with transparency put on white."""
    mode = "L" if image.mode in GREY_MODES else "RGB"
    if not image.has_transparency_data:
        return image.convert(mode)
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return page.convert(mode)
