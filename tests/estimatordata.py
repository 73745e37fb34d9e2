"""The digits as rows of numbers, and a classifier that is quick."""

from __future__ import annotations

import numpy as np

import purenoise as pn
from purenoise.data.digits import load_digits

COUNTS = [60, 40, 25, 16, 10, 8, 6, 5, 4, 3]


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return long-tailed training digits and balanced test digits; images are uint8 (N, 8, 8)."""
    data = load_digits()
    train = data.train.subset(pn.long_tail_subset(data.train.labels, COUNTS))
    return (train.images.array[:, 0], train.labels, data.test.images.array[:, 0],
            data.test.labels)  # fmt: skip


X, Y, X_TEST, Y_TEST = digits()


def quick(**parameters: object) -> pn.OPeNClassifier:
    """Return a classifier that is fitted in a moment."""
    return pn.OPeNClassifier(**({"epochs": 2, "random_state": 0, "threads": 1} | parameters))
