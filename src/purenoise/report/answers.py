"""What the runs said of every test image, from their predictions.npz."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from purenoise.lab.records import Record
from purenoise.metrics import BINS, probabilities


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
    found = read_predictions(record.folder)
    if found is None:
        return None
    logits, labels = found
    if logits.shape[1] != len(record.summary["class_names"]):
        return None
    predicted = logits.argmax(axis=1)
    if abs((predicted == labels).mean() - record.summary["test"]["accuracy"]) > 1e-9:
        return None
    confidence, right = probabilities(logits).max(axis=1), predicted == labels
    index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return Answers(
        labels, predicted,
        np.bincount(index, minlength=BINS),
        np.bincount(index, confidence, minlength=BINS).astype(np.float64),
        np.bincount(index[right], minlength=BINS),
    )  # fmt: skip


def read_predictions(folder: Path) -> tuple[Any, NDArray[np.int64]] | None:
    """Return logits (N, C) and labels (N,) of a run's test images; None if they cannot be had."""
    try:
        with np.load(folder / "predictions.npz", allow_pickle=False) as kept:
            logits, labels = np.asarray(kept["logits"]), np.asarray(kept["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = logits.ndim == 2 and labels.shape == logits.shape[:1] and len(labels) > 0
    if not fits or labels.dtype.kind not in "iu" or logits.dtype.kind != "f":
        return None
    within = labels.min() >= 0 and labels.max() < logits.shape[1]
    return (logits, labels.astype(np.int64)) if within and np.isfinite(logits).all() else None
