"""Images of a data set that has one size of its own (digits, CIFAR), brought to another shape.

Networks of libraries were made for images larger than these, and in colour. Sets that fit the
memory that a recipe allows are brought to the new shape once, others image by image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from purenoise.data.decode import to_pixels
from purenoise.data.types import Dataset, Images, MemoryImages, Split


@dataclass(frozen=True)
class AdaptedImages:
    """Images of another store in another shape; they are scaled as images of folders are.

    Args:
        source: The other store; its images have 1 or 3 channels.
        shape: Channels (1 or 3), height and width.
    """

    source: Images
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.source)

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at ``indices`` in the new shape."""
        images = np.empty((len(indices), *self.shape), np.uint8)
        for i, pixels in enumerate(self.source.load(indices)):  # (C, H, W)
            rows = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            images[i] = to_pixels(Image.fromarray(np.ascontiguousarray(rows)), self.shape)
        return images


def adapt(dataset: Dataset, shape: tuple[int, int, int], memory: int) -> Dataset:
    """Bring all images of a data set to a shape.

    Args:
        dataset: Whose images have 1 or 3 channels.
        shape: Channels (1 or 3), height and width.
        memory: Bytes that all images together may take; more are adapted whenever they are read.

    Returns:
        The data set with images of that shape, or itself if they have it.

    Example:
        >>> from purenoise.data.digits import load_digits
        >>> adapt(load_digits(), (3, 32, 32), 1 << 30).image_shape
        (3, 32, 32)
    """
    if dataset.image_shape == shape:
        return dataset
    train, test, val = dataset.train, dataset.test, dataset.val
    n = len(train) + len(test) + (len(val) if val else 0)
    in_memory = n * math.prod(shape) <= memory
    old = " x ".join(map(str, dataset.image_shape))
    note = f"Images of {old} are brought to {' x '.join(map(str, shape))} (channels, height, width)"
    constants = dataset.normalize
    if constants is not None and len(constants[0]) != shape[0]:
        mean, std = ([sum(values) / len(values)] * shape[0] for values in constants)
        constants = (mean, std)
    return replace(
        dataset,
        train=_adapted(train, shape, in_memory),
        test=_adapted(test, shape, in_memory),
        val=_adapted(val, shape, in_memory) if val is not None else None,
        normalize=constants,
        notes=(*dataset.notes, f"{note}."),
    )


def _adapted(split: Split, shape: tuple[int, int, int], in_memory: bool) -> Split:
    images: Images = AdaptedImages(split.images, shape)
    if in_memory:
        images = MemoryImages(images.load(np.arange(len(split), dtype=np.int64)))
    return replace(split, images=images)
