"""What a run said of its test images: ``predictions.npz``, written whole and read with care."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from purenoise.checkpoint import write_whole
from purenoise.confusion import Confusion
from purenoise.data.npzfile import ArchiveError, ObjectsError, TooLargeError, read_npz
from purenoise.errors import RunError
from purenoise.metrics import evaluate_logits

# Bytes that the arrays may take: logits can hardly be compressed, zeros a thousandfold.
LEAST, SQUEEZED, MOST = 64 << 20, 50, 4 << 30
ROUNDING = 1e-6  # of NLL and ECE; the rest is counted


def write_predictions(path: Path, logits: NDArray[Any], labels: NDArray[np.int64]) -> None:
    """Write logits and labels of test images.

    Args:
        path: Of the file.
        logits: Floating point, shape (N, C).
        labels: int64 of shape (N,).

    Raises:
        RunError: If the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, logits=logits, labels=labels)
    write_whole(path, buffer.getvalue())


def read_predictions(path: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read logits and labels of test images; nothing in the file is executed.

    Args:
        path: Of the file.

    Returns:
        Finite logits, shape (N, C), and labels 0..C-1, int64 of shape (N,); N is at least 1.

    Raises:
        RunError: If the file is missing, damaged, or holds anything else.
    """
    try:
        room = min(MOST, max(LEAST, SQUEEZED * path.stat().st_size))
        kept = read_npz(path, _wanted, room)
        logits, labels = kept["logits"], kept["labels"]
        if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
            raise ArchiveError(f"logits {logits.shape} and labels {labels.shape} do not fit")
        if logits.dtype.kind != "f" or labels.dtype.kind not in "iu":
            raise ArchiveError(f"logits are {logits.dtype} and labels {labels.dtype}")
        if not np.isfinite(logits).all() or labels.min() < 0 or labels.max() >= logits.shape[1]:
            raise ArchiveError("numbers are not finite, or labels no classes")
    except (OSError, ArchiveError, ObjectsError, TooLargeError) as error:
        reason: object = getattr(error, "strerror", None) or error
        if isinstance(error, TooLargeError):
            reason = f"its arrays would take {error.args[0] / 2**20:,.0f} MiB"
        if isinstance(error, ObjectsError):
            reason = f"{error} holds Python objects, which can run code"
        raise RunError(
            f"{path} cannot be read: {reason}.",
            "It holds what the run said of its test images; train the run again.",
        ) from error
    return logits, labels.astype(np.int64)


def are_of(
    result: Mapping[str, Any],
    logits: NDArray[Any],
    labels: NDArray[np.int64],
    counts: Sequence[int],
) -> bool:
    """Return whether predictions give a result, and are not another run's.

    Args:
        result: The run's metrics on its test images, as its summary has them.
        logits: Shape (N, C).
        labels: Shape (N,).
        counts: Training images per class, shape (C,).
    """
    if logits.shape[1] != len(counts):
        return False
    measured = evaluate_logits(logits, labels, np.asarray(counts))
    off = max(abs(measured[key] - result[key]) for key in ("nll", "ece"))
    ours, theirs = (Confusion.read(m["confusion"], len(counts)) for m in (measured, result))
    return ours.equals(theirs) and off <= ROUNDING


def _wanted(names: list[str]) -> list[str]:
    absent = [name for name in ("logits", "labels") if name not in names]
    if absent:
        raise ArchiveError(f"it has no {' and no '.join(absent)}")
    return ["logits", "labels"]
