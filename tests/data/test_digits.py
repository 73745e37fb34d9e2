"""The embedded digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits as original

from purenoise.data.digits import load_digits
from purenoise.errors import DataError


def test_shapes_and_counts() -> None:
    """All 1797 images are there once, 50 of each class for testing."""
    digits = load_digits()
    assert digits.image_shape == (1, 8, 8)
    assert digits.test.counts(10).tolist() == [50] * 10
    assert len(digits.train) == 1797 - 500
    assert digits.class_names == tuple("0123456789")
    assert not digits.mirror_safe
    assert digits.normalize is None


def test_pixels_are_the_originals() -> None:
    """Train and test together are the originals, spread from 0..16 over 0..255."""
    digits, source = load_digits(), original()
    parts = [digits.train, digits.test]
    ours = np.concatenate([p.images.load(np.arange(len(p))) for p in parts]).reshape(-1, 64)
    labels = np.concatenate([p.labels for p in parts])
    both = np.column_stack([labels, np.rint(ours / 255 * 16).astype(int)])
    theirs = np.column_stack([source.target, source.data.astype(int)])
    assert both[np.lexsort(both.T)].tolist() == theirs[np.lexsort(theirs.T)].tolist()
    assert set(np.unique(ours)) == {int(v * 255 / 16 + 0.5) for v in range(17)}


def test_seed_decides() -> None:
    """One seed gives one split, another gives another, and numpy's global state is not touched."""
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = load_digits(), load_digits(), load_digits(seed=1)
    everything = np.arange(500)
    assert (first.test.images.load(everything) == again.test.images.load(everything)).all()
    assert (first.test.images.load(everything) != other.test.images.load(everything)).any()
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (174, 0), (50, -1)])
def test_out_of_range(n: int, seed: int) -> None:
    """A class must keep a training image and have a test image."""
    with pytest.raises(DataError, match=r"test_per_class is .* but 1 to 173"):
        load_digits(n, seed)


def test_largest_test_set_leaves_a_training_image() -> None:
    """With the most test images allowed, each class still trains."""
    assert load_digits(173).counts().min() == 1
