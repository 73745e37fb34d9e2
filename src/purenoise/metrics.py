"""What a set of predictions is worth, class by class and in the numbers of the field.

Definitions where they are not obvious. A class without test images is *absent*: its accuracy is n/a
(None), and it takes part in no mean; predictions of it count as mistakes for the true class.

- group accuracy: mean of the accuracies of the group's present classes; n/a if there are none.
- balanced accuracy: mean accuracy over present classes (as scikit-learn; torchmetrics counts an
  absent class as 0).
- macro-F1: mean F1 over present classes; a class never predicted has F1 0.
- G-mean: geometric mean of the accuracies of present classes; 0 if one is 0.
- worst class: the lowest accuracy among present classes.
- ECE: expected calibration error of the top class, 15 bins of equal width (Guo et al. 2017).
- NLL: mean of -log p of the true class, from logits, so that it is finite for any p.
- top-5: the true class is among the 5 largest logits.

Of equal logits the class with the smaller index comes first, in accuracy and top-5 alike.

Numpy only: results are computed once per evaluation, on the host, in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from purenoise.confusion import Confusion, check_classes
from purenoise.errors import DataError
from purenoise.longtail import groups

BINS = 15
CELLS = 1 << 22  # logits at a time in float64: 32 MiB


def probabilities(logits: ArrayLike) -> NDArray[np.float64]:
    """Return softmax over the last axis in float64."""
    z = np.asarray(logits, np.float64)
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def expected_calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return the mean gap between confidence and accuracy, weighted by how many fall in a bin.

    Args:
        confidence: Probability of the predicted class, shape (N,).
        correct: Whether it is the true one, shape (N,).
        bins: Bins of equal width (lower, upper].

    Source: Guo et al. 2017, equation 5.
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(correct))


def evaluate_logits(logits: ArrayLike, labels: ArrayLike, counts: ArrayLike) -> dict[str, Any]:
    """Compute all metrics of one evaluation.

    Args:
        logits: Shape (N, C).
        labels: True classes, int of shape (N,), 0..C-1.
        counts: *Training* images per class, shape (C,), which make the groups.

    Returns:
        A dict of plain numbers (JSON): ``accuracy``, ``balanced_accuracy``, ``macro_f1``,
        ``g_mean``, ``worst_class``, ``top5`` (10 classes or more, else None), ``nll``, ``ece``,
        ``per_class`` and ``f1`` (C values or None), ``groups`` (name to accuracy or None),
        ``n_test`` (per class) and ``confusion``: the matrix up to 100 classes, beyond these the
        lists ``true``, ``predicted`` and ``images`` of its cells that are not 0. Accuracies are in
        [0, 1].

    Raises:
        DataError: If shapes do not fit, there are no rows, labels are no classes, or logits are not
            finite.

    Example:
        >>> m = evaluate_logits([[2.0, 0.0], [1.0, 0.0]], [0, 1], [90, 10])
        >>> m["accuracy"], m["per_class"], m["groups"]["many"]
        (0.5, [1.0, 0.0], None)
    """
    z, n = np.asarray(logits), np.asarray(counts)
    _check(z, np.asarray(labels), n)
    classes = len(n)
    y = check_classes(labels, classes, "Labels")
    step = max(1, CELLS // classes)  # rows at a time: 24,426 rows of 8,142 classes are 1.6 GB
    parts = [_rows(z[i : i + step], y[i : i + step]) for i in range(0, len(y), step)]
    predicted, log_p, confidence, in_top = map(np.concatenate, zip(*parts, strict=True))
    return evaluate_confusion(Confusion.of(y, predicted, classes), n) | {
        "top5": float(in_top.mean()) if classes >= 10 else None,
        "nll": float(-log_p.mean()),
        "ece": expected_calibration_error(confidence, predicted == y),
    }


def _rows(z: NDArray[Any], y: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """Return of each row the prediction, log p of its class, p of the prediction, and top-5."""
    z = z.astype(np.float64)
    if not np.isfinite(z).all():
        raise DataError("The logits are not finite: the model has diverged.")
    predicted, rows = z.argmax(axis=1), np.arange(len(y))
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted[rows, y] - np.log(np.exp(shifted).sum(axis=1))
    return predicted, log_p, probabilities(z)[rows, predicted], _in_top(z, y, 5)


def evaluate_confusion(confusion: Confusion, counts: ArrayLike) -> dict[str, Any]:
    """Compute all metrics that follow from a confusion matrix.

    Args:
        confusion: Of the test images, of which there is at least one.
        counts: *Training* images per class, shape (C,), which make the groups.

    Returns:
        What :func:`evaluate_logits` returns, without ``top5``, ``nll`` and ``ece``.

    Example:
        >>> confusion = Confusion.read([[3, 1], [0, 2]], 2)
        >>> evaluate_confusion(confusion, [90, 10])["balanced_accuracy"]
        0.875
    """
    support, right = confusion.support, confusion.right
    present = support > 0
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + confusion.guesses, 1)
    seen = recall[present]
    with np.errstate(divide="ignore"):
        g_mean = float(np.exp(np.log(seen).mean()))
    return {
        "accuracy": float(right.sum() / support.sum()),
        "balanced_accuracy": float(seen.mean()),
        "macro_f1": float(f1[present].mean()),
        "g_mean": g_mean,
        "worst_class": float(seen.min()),
        "per_class": _or_none(recall, present),
        "f1": _or_none(f1, present),
        "groups": {
            name: float(recall[c][present[c]].mean()) if present[c].any() else None
            for name, c in groups(counts).items()
        },
        "n_test": support.tolist(),
        "confusion": confusion.stored(),
    }


def _in_top(z: NDArray[np.float64], y: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return whether the true class of each row is among its k largest logits."""
    true = z[np.arange(len(y)), y][:, None]
    tied_before = (z == true) & (np.arange(z.shape[1]) < y[:, None])
    return ((z > true) | tied_before).sum(axis=1) < k


def _or_none(values: NDArray[np.float64], present: NDArray[np.bool_]) -> list[float | None]:
    return [float(v) if there else None for v, there in zip(values, present, strict=True)]


def _check(z: NDArray[Any], y: NDArray[Any], n: NDArray[Any]) -> None:
    if z.ndim != 2 or y.shape != z.shape[:1] or z.shape[1:] != n.shape:
        raise DataError(
            f"Logits {z.shape}, labels {y.shape} and counts {n.shape} do not fit.",
            "They are (N, C), (N,) and (C,).",
        )
    if len(y) == 0:
        raise DataError("There are no images to evaluate.")
