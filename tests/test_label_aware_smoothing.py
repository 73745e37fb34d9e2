"""Label-aware smoothing: each class's share, its loss, its rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from purenoise.errors import RecipeError
from purenoise.losses import (
    LabelAwareSmoothingLoss,
    class_smoothing,
)

from .lossoracles import COUNTS, WEIGHT, B, C, batch, build, one_hot, oracle, soft_targets


def smoothing_of(n: int, head: float, tail: float, shape: str) -> float:
    """Zhong et al. 2021: the smoothing of a class with n images, as the paper writes it."""
    x = (n - min(COUNTS)) / (max(COUNTS) - min(COUNTS))
    if shape == "concave":
        return tail + (head - tail) * float(np.sin(np.pi * x / 2))
    if shape == "linear":
        return tail + (head - tail) * x
    return head + (head - tail) * float(np.sin(3 * np.pi / 2 + np.pi * x / 2))


@pytest.mark.parametrize("shape", ["concave", "linear", "convex"])
def test_class_smoothing_is_the_papers(shape: str) -> None:
    """Each shape is its formula; all run from tail to head, concave above linear above convex."""
    found = class_smoothing(COUNTS, 0.4, 0.1, shape)
    expected = [smoothing_of(n, 0.4, 0.1, shape) for n in COUNTS]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found.max(), found.min()) == pytest.approx((0.4, 0.1))
    middle = [class_smoothing(COUNTS, shape=s)[1] for s in ("concave", "linear", "convex")]
    assert middle[0] > middle[1] > middle[2]


def test_class_smoothing_of_a_balanced_set_is_that_of_the_head() -> None:
    """Where all classes are of one size, all are the largest."""
    assert class_smoothing([7, 7, 7]).tolist() == [0.4] * 3


@pytest.mark.parametrize("shape", ["concave", "linear", "convex"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("soft", [False, True])
def test_label_aware_smoothing_follows_the_paper(
    shape: str, weight: list[float] | None, soft: bool
) -> None:
    """The label's class keeps 1 - e, every other gets e / (C - 1), for hard and soft targets."""
    logits, y = batch()
    targets = soft_targets() if soft else one_hot(y)
    smoothed = torch.zeros(B, C, dtype=torch.float64)
    for row in range(B):
        for c in range(C):
            e = smoothing_of(COUNTS[c], 0.3, 0.05, shape)
            for k in range(C):
                smoothed[row, k] += targets[row, c] * (1 - e if k == c else e / (C - 1))
    loss = build("label-aware-smoothing", head=0.3, tail=0.05, shape=shape, weight=weight)
    found = loss(logits, targets if soft else y)
    expected = oracle("cross-entropy", logits, smoothed, weight or [1.0] * C)
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_label_aware_smoothing_keeps_the_rules_of_all_losses() -> None:
    """Mixed labels mix losses, parts of a batch add up, gradients are those of differences."""
    logits, a = batch()
    lam = torch.linspace(0, 1, B, dtype=torch.float64)
    loss = LabelAwareSmoothingLoss(COUNTS, weight=WEIGHT)
    mixed = lam[:, None] * one_hot(a) + (1 - lam[:, None]) * one_hot(a.roll(1))
    (terms_a, weights_a), (terms_b, weights_b) = loss.rows(logits, a), loss.rows(logits, a.roll(1))
    terms = lam * terms_a + (1 - lam) * terms_b
    weights = lam * weights_a + (1 - lam) * weights_b
    torch.testing.assert_close(loss(logits, mixed), terms.sum() / weights.sum(), rtol=1e-10, atol=0)
    z = logits[:5].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, mixed[:5]), (z,))
    half = loss(logits.to(torch.bfloat16), a)
    assert half.dtype == torch.float32
    assert not loss.state_dict()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"shape": "concav"}, "Did you mean 'concave'"), ({"head": 1.0}, "head 1.0"),
     ({"tail": -0.1}, "tail -0.1")],
)  # fmt: skip
def test_label_aware_smoothing_that_cannot_be_is_refused(
    options: dict[str, Any], sentence: str
) -> None:
    """A share outside [0, 1) and an unknown shape get a sentence."""
    with pytest.raises(RecipeError, match=sentence):
        build("label-aware-smoothing", **options)
