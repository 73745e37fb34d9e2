"""Which shape the images of a folder are brought to, and what becomes of their pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from purenoise.data.cacheroot import CacheChoice
from purenoise.errors import DataError

LARGEST_SIDE = 224


@dataclass(frozen=True)
class Target:
    """The shape that images are brought to, as far as it was asked for.

    Args:
        image_size: Side, or (height, width), in pixels. None: the images' own size if all have one,
            otherwise a square of the median shorter side, a multiple of 8, at most 224.
        channels: 1 or 3. None: 1 if all images are grey.
        usual_side: If ``image_size`` is None: the side of the square for images that have not all
            one size, or a larger one than this. None: as above.

    Raises:
        DataError: ``image_size`` is no size.
    """

    image_size: int | tuple[int, int] | None = None
    channels: int | None = None
    usual_side: int | None = None

    def __post_init__(self) -> None:
        asked = self.image_size
        if asked is None:
            return
        size = (asked, asked) if isinstance(asked, int) else tuple(asked)
        if len(size) != 2 or any(type(s) is not int or s < 1 for s in size):
            raise DataError(
                f"image_size is {asked!r}, not a number of pixels.", "Give 64 or (64, 96)."
            )
        object.__setattr__(self, "image_size", (size[0], size[1]))

    def shape(self, images: Iterable[tuple[tuple[int, int], bool]]) -> tuple[int, int, int] | None:
        """Return channels, height and width for images, looking at no more of them than it must.

        Args:
            images: Height and width of each, and whether it is grey.

        Returns:
            The shape, or None if it depends on the images and there are none.

        Example:
            >>> Target(usual_side=64).shape([((375, 500), False), ((8, 8), False)])
            (3, 64, 64)
        """
        sizes: dict[tuple[int, int], int] = {}  # size: how many
        channels = self.channels or 1
        for size, is_grey in () if self._is_known(sizes, channels) else images:
            sizes[size] = sizes.get(size, 0) + 1
            if self.channels is None and not is_grey:
                channels = 3
            if self._is_known(sizes, channels):
                break
        if not sizes and not self._is_known(sizes, channels):
            return None
        return channels, *self._size(sizes)

    def _is_known(self, sizes: dict[tuple[int, int], int], channels: int) -> bool:
        """Return whether no further image can change the shape."""
        is_size_known = self.image_size is not None or (
            self.usual_side is not None and self._is_unusual(sizes)
        )
        return is_size_known and (self.channels is not None or channels == 3)

    def _is_unusual(self, sizes: dict[tuple[int, int], int]) -> bool:
        """Return whether images must be brought to the usual side."""
        return len(sizes) > 1 or any(max(size) > (self.usual_side or 0) for size in sizes)

    def _size(self, sizes: dict[tuple[int, int], int]) -> tuple[int, int]:
        """Return height and width for images of these sizes."""
        if self.image_size is not None:
            assert isinstance(self.image_size, tuple)
            return self.image_size
        if self.usual_side is not None and self._is_unusual(sizes):
            return self.usual_side, self.usual_side
        if len(sizes) == 1:
            return next(iter(sizes))
        shorter = np.repeat([min(size) for size in sizes], list(sizes.values()))
        side = min(max(int(float(np.median(shorter)) / 8 + 0.5) * 8, 8), LARGEST_SIDE)
        return side, side


@dataclass(frozen=True)
class Keep:
    """What becomes of the pixels that a scan decodes.

    Args:
        target: The shape that they are brought to.
        cache: Where they are kept on disk; None: nowhere.
        memory_limit: Bytes that may be kept in memory if they are not kept on disk.
    """

    target: Target = Target()
    cache: CacheChoice | None = None
    memory_limit: int = 0
