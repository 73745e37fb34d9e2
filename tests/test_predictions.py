"""Predictions on disk: whole, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from purenoise.errors import RunError
from purenoise.predictions import read_predictions, write_predictions

LOGITS = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
LABELS = np.arange(40, dtype=np.int64) % 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of predictions."""
    write_predictions(tmp_path / "predictions.npz", LOGITS, LABELS)
    return tmp_path / "predictions.npz"


def test_what_is_written_is_read(path: Path) -> None:
    """Logits and labels come back bit for bit."""
    logits, labels = read_predictions(path)
    assert np.array_equal(logits, LOGITS)
    assert np.array_equal(labels, LABELS)


@pytest.mark.parametrize("seed", range(150))
def test_damage_is_recognised(path: Path, seed: int) -> None:
    """Cut, overwritten or zeroed anywhere, the file is refused, or reads as it was."""
    draws = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    at = int(draws.integers(len(content)))
    n = int(draws.integers(1, 30))
    if seed % 3 == 0:
        del content[at:]
    else:
        content[at : at + n] = bytes(n) if seed % 3 == 1 else draws.bytes(n)
    path.write_bytes(content)
    try:
        logits, labels = read_predictions(path)
    except RunError:
        return
    assert np.array_equal(logits, LOGITS)
    assert np.array_equal(labels, LABELS)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (LOGITS[:3], LABELS), (LOGITS[0], LABELS[:5]), (LOGITS, LABELS + 1), (LOGITS, LABELS - 1),
        (LOGITS, LABELS * 1.0), (LOGITS.astype(int), LABELS), (LOGITS * np.inf, LABELS),
        (LOGITS[:0], LABELS[:0]), (LOGITS.astype(str), LABELS),
    ],
)  # fmt: skip
def test_other_contents_are_refused(tmp_path: Path, logits, labels) -> None:
    """Arrays that are no predictions are named as such."""
    np.savez(tmp_path / "x.npz", logits=logits, labels=labels)
    with pytest.raises(RunError, match="cannot be read"):
        read_predictions(tmp_path / "x.npz")


def test_missing_and_pickled_files_are_refused(tmp_path: Path) -> None:
    """There is no file, or one that would run code."""
    with pytest.raises(RunError, match="No such file"):
        read_predictions(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", logits=np.array([{}], object), labels=LABELS)
    with pytest.raises(RunError, match="cannot be read"):
        read_predictions(tmp_path / "x.npz")
