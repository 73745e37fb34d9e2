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
import platform
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError, features

from purenoise.errors import DataError

GREY_MODES = frozenset({"1", "L", "LA", "La"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
ANIMATED = "more than one frame, of which the first is used"
TRANSPARENT = "transparency, which is put on white"
SMALL_FILE = 16 * 1024
MAX_THREADS = 16  # beyond that, threads only wait for the interpreter lock
TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange height and width

DECODER = 1  # to be raised when the same file would give other pixels, remarks or reasons
CODECS = ("jpg", "libjpeg_turbo", "jpg_2000", "libtiff", "webp", "avif")

T = TypeVar("T")
R = TypeVar("R")


class UnusableImageError(Exception):
    """A file that cannot be turned into pixels; its text is the reason."""

    @property
    def is_passing(self) -> bool:
        """Whether another attempt may succeed: memory or the disk failed, and not the file."""
        cause = self.__cause__
        return isinstance(cause, MemoryError) or getattr(cause, "errno", None) is not None


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
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait for ever
            raise UnusableImageError("no ordinary file")
        with open(path, "rb") as file:
            image = decode(file)[0]
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.") from error
    except UnusableImageError as error:
        raise DataError(f"'{path}' cannot be used: {error}.") from error
    return to_pixels(image, shape)


def to_pixels(image: Image.Image, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Bring what `decode` returned to a given shape, as `load_image` says.

    Args:
        image: Of mode ``L`` or ``RGB``.
        shape: Channels (1 or 3), height and width.

    Returns:
        uint8, shape (C, H, W).
    """
    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
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
            return to_grey_or_colour(image), remarks
    except UnusableImageError:
        raise
    except UnidentifiedImageError:
        raise UnusableImageError("not an image that can be opened") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusableImageError(_too_large()) from None
    except Exception as error:  # decoders raise anything at all on broken bytes
        text = str(error).strip().partition("\n")[0][:100] or type(error).__name__
        raise UnusableImageError(f"a broken image ({text})") from error


def read_header(path: Path) -> tuple[tuple[int, int], bool] | None:
    """Return what the first bytes of a file say: (height, width), upright, and whether it is grey.

    Decoding may tell otherwise. None: the file is no image, or cannot be read.
    """
    try:
        with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
            # Pillow decodes a whole PNG to look for EXIF data behind the pixels.
            seeks = image.format == "PNG" and not any("exif" in str(key) for key in image.info)
            turned = not seeks and image.getexif().get(ExifTags.Base.Orientation) in TURNED
            size = (image.width, image.height) if turned else (image.height, image.width)
            return size, image.mode in GREY_MODES
    except Exception:  # as in decode
        return None


def decoder_identity() -> str:
    """Return a text that changes whenever the same file might be decoded to other pixels."""
    codecs = [features.version(name) for name in CODECS]
    limits = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    return repr((DECODER, Image.__version__, codecs, _formats(), limits, platform.machine()))


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

    Pillow releases the interpreter lock while it decodes, so threads use all cores that this
    process may use; but on files of a few kB they only fight for the lock. Threads take one item
    after the other, so that millions of items cost no more memory than their results. The threads
    live for one call only: nothing is left that a fork or a pickle could break.

    Args:
        function: What to do with one item.
        items: The items.
        sample: Some of the files; if most are small, no threads are used.

    Raises:
        Exception: What ``function`` raised on the first item on which it failed.
    """
    todo = items if isinstance(items, Sequence) else list(items)
    if len(todo) < 2 or _mostly_small(sample):
        return [function(item) for item in todo]
    results: list[Any] = [None] * len(todo)
    errors: dict[int, BaseException] = {}
    numbers = iter(range(len(todo)))
    turn = threading.Lock()

    def work() -> None:
        while not errors:  # every item before a failed one has been taken, and is finished
            with turn:
                i = next(numbers, None)
            if i is None:
                return
            try:
                results[i] = function(todo[i])
            except BaseException as error:
                errors[i] = error

    n_threads = min(len(todo), max(2, min(MAX_THREADS, available_cores())))
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for future in [pool.submit(work) for _ in range(n_threads)]:
                future.result()
        except BaseException as error:  # such as an interruption: the others stop, too
            errors[len(todo)] = error
            raise
    if errors:
        raise errors[min(errors)]
    return results


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def to_grey_or_colour(image: Image.Image) -> Image.Image:
    """Return an image as ``L`` or ``RGB``, with transparency put on white."""
    mode = "L" if image.mode in GREY_MODES else "RGB"
    if not image.has_transparency_data:
        plain = image.mode == mode and image.format == "JPEG"  # one frame, all of it in memory
        return image if plain else image.convert(mode)
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return page.convert(mode)
