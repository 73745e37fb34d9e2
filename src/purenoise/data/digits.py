"""The embedded data set: 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries along.

It needs no network and trains in seconds, so it is what the examples and most tests run on. The
originals are balanced; the long tail is cut elsewhere. scikit-learn has no split: ours takes a
fixed number of test images per class, drawn with a seed of its own, so that all runs share it.
"""

from __future__ import annotations

import numpy as np

from purenoise.data.types import Dataset, MemoryImages, Split
from purenoise.errors import DataError

LARGEST_VALUE = 16  # pixels of the original are counts of 0 to 16 dots


def load_digits(test_per_class: int = 50, seed: int = 0) -> Dataset:
    """Load scikit-learn's digits, split into train and test.

    Args:
        test_per_class: Test images of each class, 1 to 173 (the rarest class has 174).
        seed: Seed of the split.

    Returns:
        Grey images of 8 x 8 pixels, values 0..16 spread over 0..255; mirroring is not safe.

    Raises:
        DataError: ``test_per_class`` or ``seed`` is out of range.

    Example:
        >>> digits = load_digits()
        >>> digits.image_shape, len(digits.train), len(digits.test)
        ((1, 8, 8), 1297, 500)
    """
    from sklearn.datasets import load_digits as load  # slow to import

    bunch = load()
    labels = bunch.target.astype(np.int64)
    most = int(np.bincount(labels).min()) - 1
    if not 1 <= test_per_class <= most or seed < 0:
        raise DataError(
            f"test_per_class is {test_per_class} and seed is {seed}, "
            f"but 1 to {most} and 0 or more are allowed.",
            "Leave them away for the usual split.",
        )
    generator = np.random.default_rng(seed)
    is_test = np.zeros(len(labels), bool)
    for label in range(10):
        is_test[generator.permutation(np.flatnonzero(labels == label))[:test_per_class]] = True
    pixels = np.rint(bunch.images * (255 / LARGEST_VALUE)).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    return Dataset(
        name="digits",
        class_names=tuple("0123456789"),
        train=Split(MemoryImages(pixels[~is_test]), labels[~is_test]),
        test=Split(MemoryImages(pixels[is_test]), labels[is_test]),
        mirror_safe=False,
    )
