"""Set images aside for testing where a data set has no test images: a share of each class.

For sets without files. Folders have a draw of their own, which keeps identical files together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def set_aside(
    labels: NDArray[np.int64], n_classes: int, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Return which images are set aside: a share of each class, at least one, never all.

    Args:
        labels: int64, shape (N,), values 0..n_classes-1.
        n_classes: Number of classes.
        fraction: Of each class, in (0, 1).
        seed: Of the draw.

    Returns:
        bool, shape (N,). A class of one image keeps it.

    Example:
        >>> set_aside(np.array([0, 0, 0, 0, 0, 1]), 2, 0.2, seed=0).sum()
        np.int64(1)
    """
    generator = np.random.default_rng(seed)
    drawn = np.zeros(len(labels), np.bool_)
    for c in range(n_classes):
        members = generator.permutation(np.flatnonzero(labels == c))
        n = min(max(int(len(members) * fraction + 0.5), 1), len(members) - 1)
        drawn[members[: max(n, 0)]] = True
    return drawn


def aside_note(n: int, fraction: float, seed: int) -> str:
    """Return the note that test images were set aside."""
    return (
        f"There are no test images: {n} training images were set aside ({fraction:.0%} of each "
        f"class, seed {seed})."
    )
