"""Metrics against scikit-learn where definitions agree, against plain loops where they do not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from purenoise.errors import DataError
from purenoise.metrics import (
    evaluate_logits,
    expected_calibration_error,
    probabilities,
)


def example(n: int, classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return random logits that lean to the truth, and labels that hold every class."""
    generator = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), generator.integers(classes, size=n - classes)])
    z = generator.normal(size=(n, classes)) * 2
    z[np.arange(n), y] += 1
    return z, y


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 12))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_agrees_with_scikit_learn(seed: int, classes: int) -> None:
    """With all classes present every shared metric is scikit-learn's."""
    z, y = example(60, classes, seed)
    found = evaluate_logits(z, y, np.full(classes, 50))
    p, guess = probabilities(z), z.argmax(1)
    everything = list(range(classes))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, guess))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, guess))
    f1 = sk.f1_score(y, guess, average="macro", labels=everything, zero_division=0)
    assert found["macro_f1"] == pytest.approx(f1)
    each = sk.f1_score(y, guess, average=None, labels=everything, zero_division=0)
    np.testing.assert_allclose(found["f1"], each)
    recall = sk.recall_score(y, guess, average=None, labels=everything)
    np.testing.assert_allclose(found["per_class"], recall)
    assert found["worst_class"] == pytest.approx(recall.min())
    assert found["confusion"] == sk.confusion_matrix(y, guess, labels=everything).tolist()
    assert found["nll"] == pytest.approx(sk.log_loss(y, p, labels=everything))
    if classes >= 10:
        assert found["top5"] == pytest.approx(sk.top_k_accuracy_score(y, z, k=5))
    else:
        assert found["top5"] is None


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_the_plain_loop(seed: int) -> None:
    """ECE is the loop over 15 bins of Guo et al., with bins open below."""
    z, y = example(400, 4, seed)
    p = probabilities(z)
    confidence, correct = p.max(1), p.argmax(1) == y
    total = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            total += inside.mean() * gap
    assert expected_calibration_error(confidence, correct) == pytest.approx(total, abs=1e-12)
    assert evaluate_logits(z, y, [1, 1, 1, 1])["ece"] == pytest.approx(total, abs=1e-12)


def test_calibration_error_by_hand() -> None:
    """Sure and right is 0, sure and wrong is 1, and 0.75 sure while half right is 0.25."""
    sure, yes, no = np.ones(2), np.array([True, True]), np.array([False, False])
    assert expected_calibration_error(sure, yes) == 0
    assert expected_calibration_error(sure, no) == 1
    half = np.array([True, False])
    assert expected_calibration_error(sure * 0.75, half) == pytest.approx(0.25)


def as_logits(guesses: list[int], classes: int) -> NDArray[np.float64]:
    """Return logits whose largest is the guess."""
    return np.eye(classes)[guesses]


def test_absent_classes_take_part_in_no_mean() -> None:
    """A class without test images is None, and being guessed it counts against the true class."""
    # Class 0: 1 of 2 right, the other taken for the absent class 2; class 1: right.
    found = evaluate_logits(as_logits([0, 2, 1], 4), [0, 0, 1], [200, 50, 30, 10])
    assert found["per_class"] == [0.5, 1.0, None, None]
    assert found["f1"] == [pytest.approx(2 / 3), 1.0, None, None]
    assert found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["g_mean"] == pytest.approx(0.5**0.5)
    assert found["worst_class"] == 0.5
    assert found["n_test"] == [2, 1, 0, 0]


def test_classes_never_guessed_count_as_zero() -> None:
    """A present class that is never predicted has F1 and accuracy 0, and counts in the means."""
    found = evaluate_logits(as_logits([0, 0, 0], 3), [0, 0, 1], [5, 5, 5])
    assert found["f1"] == [0.8, 0.0, None]
    assert found["macro_f1"] == pytest.approx(0.4)
    assert found["balanced_accuracy"] == 0.5
    assert found["g_mean"] == 0


def test_geometric_mean_by_hand() -> None:
    """G-mean of accuracies 1, 1/2 and 1/4 is 1/2."""
    y = [0, 1, 1, 2, 2, 2, 2]
    found = evaluate_logits(as_logits([0, 1, 0, 2, 0, 0, 0], 3), y, [9, 9, 9])
    assert found["g_mean"] == pytest.approx(0.5)


def test_groups_follow_training_counts() -> None:
    """Groups are means over their classes, 100 and 20 images are medium, an empty one is None."""
    y = [0, 1, 2, 3, 3]
    found = evaluate_logits(as_logits([0, 0, 2, 3, 0], 4), y, [101, 100, 20, 19])
    assert found["groups"]["many"] == 1.0
    assert found["groups"]["medium"] == 0.5
    assert found["groups"]["few"] == 0.5
    balanced = evaluate_logits(as_logits([0, 1], 2), [0, 1], [500, 500])["groups"]
    assert balanced["medium"] is None
    assert balanced["few"] is None
    only_head = evaluate_logits(as_logits([0], 2), [0], [500, 5])["groups"]
    assert (only_head["many"], only_head["few"]) == (1.0, None)


def test_ties_go_to_the_smaller_class() -> None:
    """With equal logits accuracy takes the first class and top-5 the first five."""
    found = evaluate_logits(np.zeros((10, 10)), np.arange(10), np.full(10, 5))
    assert found["accuracy"] == 0.1
    assert found["top5"] == 0.5


def test_certain_mistakes_have_a_finite_price() -> None:
    """The NLL of a true class 5000 below the top is 5000, not infinite and not cut off."""
    assert evaluate_logits([[5000.0, 0.0]], [1], [1, 1])["nll"] == pytest.approx(5000)


def test_logits_may_be_tensors_of_any_precision() -> None:
    """Tensors in half precision give the metrics of their values."""
    z, y = example(30, 3, 0)
    half = torch.tensor(z, dtype=torch.float16)
    counts = [5, 5, 5]
    assert evaluate_logits(half, torch.tensor(y), counts) == evaluate_logits(
        half.numpy().astype(np.float64), y, counts
    )


def test_result_is_json() -> None:
    """Every number is a plain one, and n/a is null."""
    z, y = example(40, 10, 1)
    found = evaluate_logits(z, np.minimum(y, 8), np.arange(10) * 20 + 1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


GOOD: dict[str, Any] = {"logits": np.eye(3), "labels": [0, 1, 2], "counts": [3, 2, 1]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": np.full((3, 3), np.nan)}, "diverged"),
        ({"logits": np.full((3, 3), np.inf)}, "diverged"),
        ({"logits": np.zeros(3)}, "do not fit"),
        ({"labels": [0, 1]}, "do not fit"),
        ({"counts": [1, 2]}, "do not fit"),
        ({"logits": np.zeros((0, 3)), "labels": []}, "no images"),
        ({"labels": [0, 1, 3]}, "reach from 0 to 3"),
        ({"labels": [-1, 1, 2]}, "reach from -1 to 2"),
        ({"labels": [0.0, 1.5, 2.0]}, "whole numbers"),
    ],
)
def test_refusals(change: dict[str, Any], words: str) -> None:
    """Logits that diverged, shapes that do not fit, no rows and labels that are none are named."""
    with pytest.raises(DataError, match=words):
        evaluate_logits(**(GOOD | change))


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that are taken a few rows at a time give the same numbers, bit for bit."""
    z, y = example(403, 13, 5)
    whole = evaluate_logits(z.astype(np.float32), y, np.full(13, 50))
    for cells in (13, 100, 1):
        monkeypatch.setattr("purenoise.metrics.CELLS", cells)
        assert evaluate_logits(z.astype(np.float32), y, np.full(13, 50)) == whole
