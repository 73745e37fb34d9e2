"""Arrays of numbers as images: how they are laid out, and which pixel a number becomes.

Both are learnt on the training arrays and applied as they are to all later ones. Images are uint8
everywhere in this package, so numbers are rounded to 256 levels here, once. Which numbers are
black and white is not guessed from single arrays: it is the range of the training array, unless
that is uint8 or lies in [0, 1], where black and white are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from purenoise.errors import DataError

LEAST_SIDE = 4  # of an "auto" square: smaller images end before a network's second pooling
CHUNK = 4096  # images that are scaled at a time
FEW_CHANNELS = 4
# How far beyond [0, 1] later numbers may lie where the training array lies in it: noise and
# interpolation go a little beyond, another scale (to 16, to 255) goes far.
SLACK = 1.0
LEVELS_FROM = 100.0  # a white this great makes black of all numbers in [0, 1]


@dataclass(frozen=True)
class Layout:
    """Where in an image each number of an array belongs.

    Args:
        given: Shape of one image as it is given: (H, W), (H, W, C) or (F,).
        shape: Channels, height and width.
    """

    given: tuple[int, ...]
    shape: tuple[int, int, int]

    @classmethod
    def learn(cls, array: NDArray[Any], image_shape: Any = None) -> Layout:
        """Return the layout of training images.

        Args:
            array: Shape (N, H, W), (N, H, W, C) or, with an image shape, (N, F).
            image_shape: (H, W) or (H, W, C); for rows also ``auto``: a grey square, the smallest
                that holds all numbers, its end black.

        Raises:
            DataError: If they do not fit.

        Example:
            >>> Layout.learn(np.zeros((5, 64)), (8, 8)).shape
            (1, 8, 8)
        """
        given = tuple(int(n) for n in array.shape[1:])
        if len(given) not in (1, 2, 3):
            raise DataError(
                f"X has shape {array.shape}, which is no array of images.",
                "Give (N, H, W), (N, H, W, C), or rows (N, F) with image_shape.",
            )
        auto = isinstance(image_shape, str) and image_shape == "auto"
        if auto and len(given) > 1:
            raise DataError(
                f"image_shape='auto' is for rows (N, F), and X has shape {array.shape}.",
                "Leave image_shape away: images have their shape themselves.",
            )
        wanted = None if auto or image_shape is None else _sides(image_shape)
        if len(given) == 1:
            return _rows(given[0], wanted, auto)
        if wanted is not None and wanted != given:
            raise DataError(
                f"image_shape={_brief(wanted)} was given, and the images in X are {_brief(given)}.",
                "Leave image_shape away: images have their shape themselves.",
            )
        if len(given) == 3 and given[2] > FEW_CHANNELS >= given[0]:
            raise DataError(
                f"Images of shape {_brief(given)} seem to have their {given[0]} channels first.",
                "Give channels last: np.moveaxis(X, 1, -1).",
            )
        return cls(given, _channels_first(given))

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return images of shape (N, C, H, W).

        Args:
            pixels: Shape (N, *given).
        """
        channels, height, width = self.shape
        n = len(pixels)
        if len(self.given) == 1:
            lacking = channels * height * width - self.given[0]
            pixels = np.pad(pixels, ((0, 0), (0, lacking)))
        last = pixels.reshape(n, height, width, channels)
        return np.ascontiguousarray(last.transpose(0, 3, 1, 2))  # (N, C, H, W)

    def check(self, array: NDArray[Any]) -> None:
        """Refuse images of another form than the training images.

        Raises:
            DataError: If the shape of an image differs.
        """
        if array.shape[1:] != self.given:
            kind = "rows" if len(self.given) == 1 else "images"
            raise DataError(
                f"X has shape {array.shape}, and the classifier was fitted on {kind} of shape "
                f"(N, {', '.join(map(str, self.given))}).",
                "Give X in the same form; a single image is X[None].",
            )


@dataclass(frozen=True)
class Scale:
    """Which level from 0 to 255 a number becomes: linear from ``low`` to ``high``, then clipped.

    Args:
        rule: ``uint8``: numbers are levels; ``unit``: they lie in [0, 1]; ``range``: black is the
            least number of the training array, white its greatest.
        low: The number that is black.
        high: The number that is white.
        whole: Whether the training array held whole numbers alone.
    """

    rule: Literal["uint8", "unit", "range"]
    low: float
    high: float
    whole: bool = field(default=False, repr=False)

    @classmethod
    def learn(cls, array: NDArray[Any]) -> Scale:
        """Return the scale of a training array.

        Args:
            array: Finite numbers, not empty.

        Raises:
            DataError: If all numbers are one, or their range is not finite.

        Example:
            >>> Scale.learn(np.array([0.0, 16.0]))
            Scale(rule='range', low=0.0, high=16.0)
        """
        if array.dtype == np.uint8:
            return cls("uint8", 0.0, 255.0)
        low, high = float(array.min()), float(array.max())
        if low == high:
            raise DataError(
                f"All numbers in X are {low:g}: nothing to learn from.", "Look at how X is read."
            )
        if low >= 0 and high <= 1:
            return cls("unit", 0.0, 1.0)
        if not math.isfinite(high - low):
            raise DataError(
                f"X reaches from {low:g} to {high:g}, which no scale can hold.", "Rescale X."
            )
        return cls("range", low, high, _is_whole(array))

    def apply(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """Return levels, uint8 of the same shape.

        Raises:
            DataError: If levels were learnt and numbers are given that are none, or the other way;
                or if the numbers are on another scale than those that were learnt.
        """
        is_levels = array.dtype == np.uint8
        if self.rule == "uint8":
            if not is_levels:
                _check_levels(array)
            return array.astype(np.uint8)
        if is_levels and self.rule == "unit" and array.size and int(array.max()) > 1:
            raise DataError(
                "X holds uint8 levels, and the classifier was fitted on numbers in [0, 1].",
                "Treat all images alike: X / 255.",
            )
        if not is_levels:
            self._check_scale(array)
        levels = np.empty(array.shape, np.uint8)
        for start in range(0, len(array), CHUNK):
            part = np.clip(array[start : start + CHUNK].astype(np.float64), self.low, self.high)
            share = (part - self.low) / (self.high - self.low)  # in [0, 1], however small the range
            levels[start : start + CHUNK] = np.rint(share * 255)
        return levels

    def _check_scale(self, array: NDArray[Any]) -> None:
        """Refuse numbers that another scale explains: clipped or crowded, they would be no images.

        Images that are black, or one grey, say nothing of their scale; nor do numbers in [0, 1]
        where negative ones were learnt.
        """
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())
        if self.rule == "unit" and (low < -SLACK or high > 1 + SLACK):
            raise DataError(
                f"X reaches from {low:g} to {high:g}, and the classifier was fitted on numbers in "
                "[0, 1].",
                "Treat all images alike: X / 255, if X are levels from 0 to 255.",
            )
        in_unit = self.low >= 0 and self.high > 1 + SLACK and 0 <= low < high <= 1
        if in_unit and (self.whole or self.high >= LEVELS_FROM) and not _is_whole(array):
            raise DataError(
                f"All numbers in X lie in [0, 1], and the classifier was fitted on "
                f"{'whole ' * self.whole}numbers from {self.low:g} to {self.high:g}.",
                f"Treat all images alike: X * {self.high:g}, if 1 is white in X.",
            )


def _is_whole(array: NDArray[Any]) -> bool:
    """Whether all numbers are whole, of whatever type."""
    if array.dtype.kind in "biu":
        return True
    parts = (array[start : start + CHUNK] for start in range(0, len(array), CHUNK))
    return all(bool((part == np.rint(part)).all()) for part in parts)


def _check_levels(array: NDArray[Any]) -> None:
    """Refuse what are no whole numbers from 0 to 255, where uint8 images were learnt."""
    whole = array.dtype.kind in "iu" and (
        not array.size or (int(array.min()) >= 0 and int(array.max()) <= 255)
    )
    if not whole:
        raise DataError(
            f"X is {array.dtype}, and the classifier was fitted on uint8 levels from 0 to 255.",
            "Treat all images alike: give uint8.",
        )


def _sides(image_shape: Any) -> tuple[int, ...]:
    """Height, width and perhaps channels, checked."""
    is_list = isinstance(image_shape, Sequence | np.ndarray) and not isinstance(image_shape, str)
    sides = tuple(image_shape) if is_list else ()
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in sides)
    if len(sides) not in (2, 3) or not whole or min(sides) < 1:
        raise DataError(
            f"image_shape is {image_shape!r}, and must be (height, width) or "
            "(height, width, channels), whole numbers from 1 on, or 'auto'.",
            "For digits of 8 x 8 pixels: image_shape=(8, 8).",
        )
    return tuple(int(n) for n in sides)


def _rows(n: int, wanted: tuple[int, ...] | None, auto: bool) -> Layout:
    """The layout of rows of n numbers."""
    if auto:
        side = max(LEAST_SIDE, math.isqrt(n - 1) + 1)
        return Layout((n,), (1, side, side))
    root = math.isqrt(n)
    square = f"Is it ({root}, {root})? " if root > 1 and root * root == n else ""
    if wanted is None:
        raise DataError(
            f"X has rows of {n} numbers, and image_shape is not set.",
            f"{square}Give (H, W) or (H, W, C); 'auto' if the numbers are no pixels.",
        )
    if math.prod(wanted) != n:
        raise DataError(
            f"image_shape={_brief(wanted)} holds {math.prod(wanted)} numbers, and the rows of X "
            f"have {n}.",
            f"{square}Height x width x channels is the number of columns.",
        )
    return Layout((n,), _channels_first(wanted))


def _channels_first(given: tuple[int, ...]) -> tuple[int, int, int]:
    height, width, channels = (*given, 1)[:3]
    return channels, height, width


def _brief(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
