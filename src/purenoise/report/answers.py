"""What the runs said of every test image, from their predictions.npz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purenoise.errors import RunError
from purenoise.lab.records import Record
from purenoise.metrics import BINS, probabilities
from purenoise.predictions import are_of, read_predictions
from purenoise.runlog import RunFolder


@dataclass(frozen=True)
class Answers:
    """One run's answers.

    Args:
        labels: True classes, int64 of shape (N,).
        predicted: Predicted classes, int64 of shape (N,).
        n: Predictions per bin of confidence, shape (15,).
        confidence: Sum of the largest probabilities per bin.
        right: Right predictions per bin.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    n: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.int64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which test images are right, shape (N,)."""
        return self.predicted == self.labels


def read_answers(record: Record) -> Answers | None:
    """Return a run's answers; None if the file is missing, damaged or not of its result."""
    try:
        logits, labels = read_predictions(RunFolder(record.folder).predictions)
    except RunError:
        return None
    if not are_of(record.summary["test"], logits, labels, record.summary["counts"]):
        return None
    predicted = logits.argmax(axis=1)
    confidence, right = probabilities(logits).max(axis=1), predicted == labels
    index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return Answers(
        labels, predicted,
        np.bincount(index, minlength=BINS),
        np.bincount(index, confidence, minlength=BINS).astype(np.float64),
        np.bincount(index[right], minlength=BINS),
    )  # fmt: skip
