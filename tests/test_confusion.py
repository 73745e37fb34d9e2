"""Confusion counts against scikit-learn, and both forms in which results hold them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise.confusion import WHOLE, Confusion
from purenoise.errors import DataError


def drawn(classes: int, n: int, seed: int) -> tuple[Any, Any]:
    """Draw labels and predictions, few of them right."""
    r = np.random.default_rng(seed)
    return r.integers(0, classes, n), r.integers(0, classes, n)


@given(classes=st.integers(2, 2 * WHOLE), n=st.integers(1, 300), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_counts_are_scikit_learns_and_survive_being_stored(classes: int, n: int, seed: int) -> None:
    """The matrix and its sums are scikit-learn's, also after JSON in either form."""
    y, p = drawn(classes, n, seed)
    found = Confusion.of(y, p, classes)
    wanted = sk.confusion_matrix(y, p, labels=list(range(classes)))
    assert (found.matrix() == wanted).all()
    assert (found.support == wanted.sum(1)).all()
    assert (found.guesses == wanted.sum(0)).all()
    assert (found.right == np.diag(wanted)).all()
    again = Confusion.read(json.loads(json.dumps(found.stored())), classes)
    assert again.equals(found)
    assert isinstance(found.stored(), dict) == (classes > WHOLE)


def test_both_forms_are_read_and_equal() -> None:
    """A whole matrix of many classes, as older results hold it, equals its lists in any order."""
    y, p = drawn(WHOLE + 20, 400, 3)
    found = Confusion.of(y, p, WHOLE + 20)
    assert Confusion.read(found.matrix().tolist(), WHOLE + 20).equals(found)
    stored = {key: values[::-1] for key, values in found.stored().items()}
    stored = {key: [*values, extra] for (key, values), extra in zip(
        stored.items(), _absent(found), strict=True)}  # fmt: skip
    assert Confusion.read(stored, WHOLE + 20).equals(found)


def _absent(found: Confusion) -> tuple[int, int, int]:
    """Return a cell that is 0, with its 0."""
    true, predicted = np.argwhere(found.matrix() == 0)[0]
    return int(true), int(predicted), 0


def test_other_matrices_are_not_equal() -> None:
    """One image more, another cell or another number of classes is another matrix."""
    one = Confusion.of([0, 1], [0, 0], 2)
    others = [([0, 1, 1], [0, 0, 0], 2), ([0, 1], [0, 1], 2), ([0, 1], [0, 0], 3),
              ([1, 1], [0, 1], 2)]  # fmt: skip
    for y, p, classes in others:
        assert not one.equals(Confusion.of(y, p, classes))
    assert one.equals(Confusion.of([1, 0], [0, 0], 2))


def test_what_a_class_is_taken_for() -> None:
    """It is the most frequent wrong prediction, of equals the last; none if all are right."""
    found = Confusion.read([[5, 2, 2, 1], [0, 3, 0, 0], [4, 0, 0, 9], [0, 0, 0, 0]], 4)
    assert [found.mistaken_for(c) for c in range(4)] == [(2, 2), (-1, 0), (3, 9), (-1, 0)]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ([[1, 0]], "does not fit 2 classes"),
        ([[1, 0], [1]], "does not fit 2 classes"),
        ({"true": [0], "predicted": [2], "images": [1]}, "does not fit 2 classes"),
        ({"true": [-1], "predicted": [0], "images": [1]}, "does not fit 2 classes"),
        ({"true": [0, 1], "predicted": [0], "images": [1]}, "different lengths"),
        ({"true": [0, 0], "predicted": [1, 1], "images": [1, 2]}, "a cell twice"),
    ],
)
def test_what_is_no_matrix_is_refused(stored: Any, words: str) -> None:
    """A stored form that cannot be a matrix of these classes raises ValueError."""
    with pytest.raises(ValueError, match=words):
        Confusion.read(stored, 2)


@pytest.mark.parametrize(("y", "p"), [([0, 2], [0, 0]), ([0, 1], [0, -1]), ([0, 1], [0])])
def test_classes_that_are_none_are_refused(y: list[int], p: list[int]) -> None:
    """A label beyond the classes would land in another row, so it is refused."""
    with pytest.raises(DataError):
        Confusion.of(y, p, 2)


def test_many_classes_take_little_room() -> None:
    """8,142 classes with 24,426 images, as iNaturalist's, are some hundred kilobytes of JSON."""
    y, p = drawn(8142, 24_426, 0)
    assert len(json.dumps(Confusion.of(y, p, 8142).stored())) < 500_000
