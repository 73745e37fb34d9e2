"""Confusion counts: which true class was given which prediction, and how often.

A matrix of 8,142 classes has 66 million cells, nearly all 0: as JSON it would be 200 MB in each
evaluation of each epoch. Results therefore hold the matrix whole, as a list of rows, up to
``WHOLE`` classes, and beyond only the cells that are not 0, as three lists of equal length.
Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from purenoise.errors import DataError

WHOLE = 100  # classes up to which a result holds the whole matrix
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Confusion:
    """The cells of a confusion matrix that are not 0, by true class, then by prediction.

    Args:
        true: True class of each cell, shape (K,).
        predicted: Predicted class, likewise.
        images: Number of images, likewise, above 0.
        n_classes: C.
    """

    true: Ints
    predicted: Ints
    images: Ints
    n_classes: int

    @classmethod
    def of(cls, labels: ArrayLike, predictions: ArrayLike, n_classes: int) -> Confusion:
        """Count the cells.

        Args:
            labels: True classes, int of shape (N,), 0..C-1.
            predictions: Predicted classes, likewise.
            n_classes: C.

        Raises:
            DataError: If a label or prediction is no class, or their numbers differ.

        Example:
            >>> Confusion.of([0, 1, 1], [0, 1, 0], 2).matrix().tolist()
            [[1, 0], [1, 1]]
        """
        y = check_classes(labels, n_classes, "Labels")
        p = check_classes(predictions, n_classes, "Predictions")
        if y.shape != p.shape:
            raise DataError(f"There are {y.size} labels and {p.size} predictions.")
        cells, images = np.unique(y * n_classes + p, return_counts=True)
        return cls(cells // n_classes, cells % n_classes, images.astype(np.int64), n_classes)

    @classmethod
    def read(cls, stored: Any, n_classes: int) -> Confusion:
        """Take up what a result holds: rows of a matrix, or the three lists.

        Raises:
            ValueError: If it does not fit the number of classes, or a cell comes twice.
        """
        if isinstance(stored, Mapping):
            lists = [np.asarray(stored[k], np.int64) for k in ("true", "predicted", "images")]
            true, predicted, images = lists
            if len({len(values) for values in lists}) > 1:
                raise ValueError("confusion has lists of different lengths")
            classes = np.concatenate([true, predicted])
            if classes.size and not (classes.min() >= 0 and classes.max() < n_classes):
                raise ValueError(f"confusion does not fit {n_classes} classes")
            cells = true * n_classes + predicted
            order = np.argsort(cells, kind="stable")
            if np.any(np.diff(cells[order]) == 0):
                raise ValueError("confusion has a cell twice")
            order = order[images[order] != 0]
            return cls(true[order], predicted[order], images[order], n_classes)
        if len(stored) != n_classes or any(len(row) != n_classes for row in stored):
            raise ValueError(f"confusion does not fit {n_classes} classes")
        matrix = np.asarray(stored, np.int64)
        true, predicted = np.nonzero(matrix)
        return cls(true, predicted, matrix[true, predicted], n_classes)

    def equals(self, other: Confusion) -> bool:
        """Return whether two are the same matrix."""
        pairs = ((self.true, other.true), (self.predicted, other.predicted),
                 (self.images, other.images))  # fmt: skip
        return self.n_classes == other.n_classes and all(np.array_equal(a, b) for a, b in pairs)

    @property
    def support(self) -> Ints:
        """Images of each true class, shape (C,)."""
        return self._sums(self.true, self.images)

    @property
    def guesses(self) -> Ints:
        """How often each class was predicted, shape (C,)."""
        return self._sums(self.predicted, self.images)

    @property
    def right(self) -> Ints:
        """Images of each class that were predicted rightly, shape (C,)."""
        return self._sums(self.true, np.where(self.true == self.predicted, self.images, 0))

    def _sums(self, classes: Ints, images: Ints) -> Ints:
        found = np.zeros(self.n_classes, np.int64)
        np.add.at(found, classes, images)  # whole numbers: exact
        return found

    def mistaken_for(self, true: int) -> tuple[int, int]:
        """Return the class that a class is most often taken for, and how often; -1 and 0: none."""
        wrong = (self.true == true) & (self.predicted != true)
        if not wrong.any():
            return -1, 0
        at = np.flatnonzero(wrong)[::-1]  # of equals the last class
        best = at[np.argmax(self.images[at])]
        return int(self.predicted[best]), int(self.images[best])

    def matrix(self) -> Ints:
        """Return the whole matrix, shape (C, C)."""
        found = np.zeros((self.n_classes, self.n_classes), np.int64)
        found[self.true, self.predicted] = self.images
        return found

    def stored(self) -> Any:
        """Return what a result holds (JSON)."""
        if self.n_classes <= WHOLE:
            return self.matrix().tolist()
        return {
            "true": self.true.tolist(),
            "predicted": self.predicted.tolist(),
            "images": self.images.tolist(),
        }


def check_classes(values: ArrayLike, n_classes: int, what: str) -> Ints:
    """Return classes as int64.

    Raises:
        DataError: If they are no whole numbers from 0 to C - 1.
    """
    y = np.asarray(values)
    if y.dtype.kind not in "iu":
        raise DataError(f"{what} must be whole numbers, got {y.dtype}.")
    if y.size and (y.min() < 0 or y.max() >= n_classes):
        raise DataError(f"{what} reach from {y.min()} to {y.max()}, for {n_classes} classes.")
    return y.astype(np.int64)
