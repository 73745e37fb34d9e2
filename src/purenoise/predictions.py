"""What a run said of its test images: ``predictions.npz``, written whole and read with care."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from purenoise.checkpoint import write_whole
from purenoise.errors import RunError


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
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            logits, labels = np.asarray(kept["logits"]), np.asarray(kept["labels"])
        if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
            raise ValueError(f"logits {logits.shape} and labels {labels.shape} do not fit")
        if logits.dtype.kind != "f" or labels.dtype.kind not in "iu":
            raise ValueError(f"logits are {logits.dtype} and labels {labels.dtype}")
        if not np.isfinite(logits).all() or labels.min() < 0 or labels.max() >= logits.shape[1]:
            raise ValueError("numbers are not finite, or labels no classes")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(
            f"{path} cannot be read: {error}.",
            "It holds what the run said of its test images; train the run again.",
        ) from error
    return logits, labels.astype(np.int64)
