"""An exported file is held against the run's network before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from purenoise.errors import PureNoiseError, RunError
from purenoise.export.source import Finished
from purenoise.prepare import check_unchanged, prepare

N_IMAGES = 32
LIMIT = 1e-4  # of the difference of logits; relative for logits beyond 1
TIE = 1e-5  # likewise: two best logits closer than that are one to rounding
Logits = NDArray[np.floating[Any]]
Answer = Callable[[NDArray[np.uint8]], Logits]


@dataclass(frozen=True)
class Probe:
    """Images on which networks are compared.

    Args:
        images: uint8, shape (N, C, H, W).
        said: What they are.
    """

    images: NDArray[np.uint8]
    said: str


def probe_of(found: Finished) -> Probe:
    """Return test images of a run, evenly spaced; noise images if they cannot be had any more."""
    try:
        data = prepare(found.recipe.data)
        check_unchanged(found.summary, data.dataset, found.recipe.data, found.run)
        test = data.dataset.test
        if not len(test):
            raise RunError("the run has no test images")
    except PureNoiseError as error:
        return Probe(noise_images(found), f"{N_IMAGES} noise images ({error.message.rstrip('.')})")
    rows = np.unique(np.linspace(0, len(test) - 1, N_IMAGES).astype(np.int64))
    return Probe(test.images.load(rows), f"{len(rows)} test images")


def noise_images(found: Finished) -> NDArray[np.uint8]:
    """Return images with the pixel statistics of the run's training images, always the same."""
    mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in found.summary["noise"])
    values = np.random.default_rng(0).normal(mean, std, (N_IMAGES, *found.image_shape))
    return (255 * values).round().clip(0, 255).astype(np.uint8)


def difference(expected: Logits, got: Logits, what: str) -> float:
    """Return the largest difference of logits, if it is rounding.

    Args:
        expected: Of the run's network, shape (N, classes).
        got: Of the exported one.
        what: Its name, for messages.

    Raises:
        RunError: If shapes differ, a value is not finite, a logit is off by more than 1e-4 (times
            the largest logit, if that is above 1), or an image gets another class.

    Example:
        >>> difference(np.array([[1.0, 0.0]]), np.array([[1.0, 0.00005]]), "it")
        5e-05
    """
    if expected.shape != got.shape or not np.isfinite(got).all():
        raise RunError(
            f"{what} gives logits of shape {got.shape} for {expected.shape}, or not finite ones.",
            "Nothing was written.",
        )
    size = max(1.0, float(np.abs(expected).max()))
    worst = float(np.abs(expected - got).max())
    if worst > LIMIT * size:
        raise RunError(
            f"{what} does not say what the run's network says: logits differ by {worst:.3g} and "
            f"may by {LIMIT * size:.3g}.",
            "Nothing was written.",
        )
    order = np.sort(expected, axis=1)
    clear = order[:, -1] - order[:, -2] > TIE * size if expected.shape[1] > 1 else True
    other = int(((expected.argmax(1) != got.argmax(1)) & clear).sum())
    if other:
        raise RunError(f"{what} gives {other} of {len(got)} images another class.",
                       "Nothing was written.")  # fmt: skip
    return worst
