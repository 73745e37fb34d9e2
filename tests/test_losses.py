"""Losses against the papers' formulas, written row by row in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from purenoise.losses import (
    CrossEntropyLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    build_loss,
)

from .lossoracles import (
    CASES,
    COUNTS,
    WEIGHT,
    B,
    C,
    batch,
    every_loss,
    ldam,
    of_case,
    one_hot,
    oracle,
    soft_targets,
)


@every_loss
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("kind", ["hard", "soft", "smoothed", "soft smoothed"])
def test_losses_follow_the_papers(case: str, weight: list[float] | None, kind: str) -> None:
    """Every loss equals its formula, for hard, soft and smoothed targets, weighted or not."""
    logits, hard = batch()
    smoothing = 0.1 if "smoothed" in kind else 0.0
    targets = soft_targets() if "soft" in kind else hard
    as_soft = targets if "soft" in kind else one_hot(hard)
    as_soft = as_soft * (1 - smoothing) + smoothing / C
    found = of_case(case, weight=weight, label_smoothing=smoothing)(logits, targets)
    expected = oracle(case, logits, as_soft, weight or [1.0] * C)
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_cross_entropy_is_torchs_for_hard_targets() -> None:
    """Weighted cross-entropy of hard targets is torch's own, smoothed too without weights."""
    logits, y = batch()
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    found = CrossEntropyLoss(WEIGHT)(logits, y)
    torch.testing.assert_close(found, F.cross_entropy(logits, y, weight=weight), rtol=1e-12, atol=0)
    smoothed = CrossEntropyLoss(label_smoothing=0.2)(logits, y)
    expected = F.cross_entropy(logits, y, label_smoothing=0.2)
    torch.testing.assert_close(smoothed, expected, rtol=1e-12, atol=0)


def test_torch_divides_soft_targets_otherwise() -> None:
    """The trap that our rule avoids is real: torch's loss changes when targets become one-hot."""
    logits, y = batch()
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    hard = F.cross_entropy(logits, y, weight=weight)
    assert not torch.isclose(hard, F.cross_entropy(logits, one_hot(y), weight=weight), rtol=0.05)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_one_hot_targets_equal_hard_targets(case: str, dtype: torch.dtype) -> None:
    """One-hot targets give the value and the gradient of hard ones."""
    logits, y = batch()
    loss = of_case(case, weight=WEIGHT)
    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    hard, soft = loss(a, y), loss(b, one_hot(y).to(dtype))
    torch.testing.assert_close(hard, soft, rtol=1e-10, atol=0)
    (hard_grad,), (soft_grad,) = torch.autograd.grad(hard, a), torch.autograd.grad(soft, b)
    torch.testing.assert_close(hard_grad, soft_grad, rtol=1e-8, atol=1e-14)


@every_loss
def test_mixed_labels_mix_losses(case: str) -> None:
    """A mix of labels is lambda L(a) + (1 - lambda) L(b) over all rows, reduced once."""
    logits, a = batch()
    b = a.roll(1)
    lam = torch.linspace(0, 1, B, dtype=torch.float64)
    loss = of_case(case, weight=WEIGHT)
    (terms_a, weights_a), (terms_b, weights_b) = loss.rows(logits, a), loss.rows(logits, b)
    terms = lam * terms_a + (1 - lam) * terms_b
    weights = lam * weights_a + (1 - lam) * weights_b
    mixed = lam[:, None] * one_hot(a) + (1 - lam[:, None]) * one_hot(b)
    torch.testing.assert_close(loss(logits, mixed), terms.sum() / weights.sum(), rtol=1e-10, atol=0)


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_parts_of_a_batch_sum_to_the_whole(case: str, soft: bool) -> None:
    """Sums over parts of a batch, divided once, are the whole's loss; means of means are not."""
    logits, y = batch()
    targets = soft_targets() if soft else y
    loss = of_case(case, weight=WEIGHT)
    parts = [loss.rows(logits[i : i + 7], targets[i : i + 7]) for i in range(0, B, 7)]
    terms, weights = (torch.cat(column).sum() for column in zip(*parts, strict=True))
    torch.testing.assert_close(loss(logits, targets), terms / weights, rtol=1e-12, atol=0)


def test_focal_divides_by_the_batch_and_cross_entropy_by_the_weights() -> None:
    """Doubling all weights doubles focal loss and leaves cross-entropy alone."""
    logits, y = batch()
    double = [2 * w for w in WEIGHT]
    ratio = FocalLoss(weight=double)(logits, y) / FocalLoss(weight=WEIGHT)(logits, y)
    assert ratio.item() == pytest.approx(2)
    a, b = CrossEntropyLoss(double)(logits, y), CrossEntropyLoss(WEIGHT)(logits, y)
    assert a.item() == pytest.approx(b.item())


def test_focal_forms_differ_only_with_weights() -> None:
    """LDAM-DRW's form is (1 - exp(-wce))^gamma wce on average, and standard without weights."""
    logits, y = batch()
    weighted = F.cross_entropy(
        logits, y, weight=torch.tensor(WEIGHT, dtype=torch.float64), reduction="none"
    )
    expected = ((1 - torch.exp(-weighted)) ** 1.5 * weighted).mean()
    found = FocalLoss(1.5, WEIGHT, "ldam-drw")(logits, y)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert found.item() != pytest.approx(FocalLoss(1.5, WEIGHT)(logits, y).item(), rel=1e-3)
    plain = FocalLoss(1.5, None, "ldam-drw")(logits, y)
    assert plain.item() == FocalLoss(1.5)(logits, y).item()


@pytest.mark.parametrize("form", ["standard", "ldam-drw"])
def test_focal_with_gamma_0_is_cross_entropy(form: str) -> None:
    """Without focusing nothing but the division by the batch size is left."""
    logits, y = batch()
    terms, _ = CrossEntropyLoss(WEIGHT).rows(logits, y)
    found = FocalLoss(0.0, WEIGHT, form)(logits, y)
    assert found.item() == pytest.approx(terms.sum().item() / B, rel=1e-12)


def test_focal_gradient_is_finite_where_the_model_is_sure() -> None:
    """A gamma below 1 has no infinite gradient at p = 1."""
    logits = torch.tensor([[200.0, 0.0, 0.0, 0.0]], requires_grad=True)
    FocalLoss(0.5)(logits, torch.tensor([0])).backward()
    assert torch.isfinite(logits.grad).all()


def test_ldam_margins() -> None:
    """Margins fall with n^(1/4), and the smallest class has max_m."""
    margins = LDAMLoss([16, 1, 81], max_m=0.4).margins
    torch.testing.assert_close(margins, torch.tensor([0.2, 0.4, 0.4 / 3], dtype=torch.float64))
    margins = LDAMLoss([16, 81], max_m=0.4).margins  # the smallest class has more than one image
    torch.testing.assert_close(margins, torch.tensor([0.4, 0.8 / 3], dtype=torch.float64))


@pytest.mark.parametrize("soft", [False, True])
def test_ldam_is_accurate_at_the_extremes(soft: bool) -> None:
    """At cosines of +-1 and scale 30, float32 keeps five digits of the loss, and its gradient."""
    rows = [[1, -1, -1, -1], [-1, 1, -1, -1], [-1, -1, -1, 1], [1, 1, -1, -1], [0.3, 0.2, 1, 0.99]]
    double = torch.tensor([row for row in rows for _ in range(C)], dtype=torch.float64)
    y = torch.arange(C).repeat(len(rows))
    targets: Tensor = one_hot(y) if soft else y
    logits = double.float().requires_grad_()
    loss = LDAMLoss(COUNTS)
    terms, _ = loss.rows(logits, targets.float() if soft else targets)
    expected = np.array([ldam(z, int(c)) for z, c in zip(double.numpy(), y, strict=True)])
    np.testing.assert_allclose(terms.detach().numpy(), expected, rtol=1e-5, atol=1e-5)
    exact = double.clone().requires_grad_()
    (slope,) = torch.autograd.grad(terms.sum(), logits)
    (wanted,) = torch.autograd.grad(loss.rows(exact, y)[0].sum(), exact)
    torch.testing.assert_close(slope.double(), wanted, rtol=1e-4, atol=1e-4)


def test_soft_ldam_follows_the_formula_where_digits_cancel() -> None:
    """With one class sure, the loss of that class is still right to 1e-5 relative in float32."""
    logits = torch.tensor([[1.0, 0.2, -0.5, -1.0]]).roll(3, 1)  # the smallest class is the sure one
    found = LDAMLoss(COUNTS).per_class(logits)[0]
    expected = [ldam(logits[0].double().numpy(), c) for c in range(C)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_logit_adjustment(tau: float) -> None:
    """Logit adjustment is cross-entropy of z + tau log(prior), for counts as for probabilities."""
    logits, y = batch()
    prior = np.array(COUNTS) / sum(COUNTS)
    adjusted = logits + tau * torch.from_numpy(np.log(prior))
    expected = F.cross_entropy(adjusted, y)
    for given in (COUNTS, prior):
        found = LogitAdjustedLoss(given, tau)(logits, y)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_balanced_softmax_with_a_uniform_prior_is_cross_entropy() -> None:
    """Where the loss sees balanced rows, balanced softmax is plain cross-entropy."""
    logits, y = batch()
    found = LogitAdjustedLoss([0.25] * 4)(logits, y)
    torch.testing.assert_close(found, CrossEntropyLoss()(logits, y), rtol=1e-12, atol=0)


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_gradients(case: str, soft: bool) -> None:
    """The gradient of every loss is that of finite differences."""
    logits, y = batch(scale=0.3)
    z = logits[:5].clone().requires_grad_()
    targets = soft_targets()[:5] if soft else y[:5]
    assert torch.autograd.gradcheck(lambda x: of_case(case, weight=WEIGHT)(x, targets), (z,))


@every_loss
def test_classes_with_one_image(case: str) -> None:
    """Counts of 1 throughout are an ordinary case."""
    options = CASES[case][1]
    loss = build_loss(case.split()[0], counts=[1] * C, prior=[1] * C, **options)
    logits, y = batch()
    assert torch.isfinite(loss(logits, y))


@every_loss
def test_rows_without_weight_have_no_part(case: str) -> None:
    """Rows of a class with weight 0 change nothing; a batch of them gives 0 and no gradient."""
    logits, _ = batch()
    y = torch.arange(B) % C
    loss = of_case(case, weight=[0.0, 1.0, 1.0, 1.0])
    other = logits.clone()
    other[y == 0] += torch.arange(C)
    assert loss(logits, y).item() == loss(other, y).item()
    z = logits.clone().requires_grad_()
    nothing = loss(z, torch.zeros(B, dtype=torch.int64))
    nothing.backward()
    assert nothing.item() == 0
    assert torch.all(z.grad == 0)
    assert loss.share(z[:3], y[:3] * 0, y * 0).item() == 0


@every_loss
@pytest.mark.parametrize("soft", [False, True])
def test_shares_of_processes_sum_to_the_loss(case: str, soft: bool) -> None:
    """What parts of a batch contribute sums to its loss and its gradient, also of an empty part."""
    logits, y = batch()
    targets = soft_targets() if soft else y
    loss = of_case(case, weight=WEIGHT)
    whole, parts = (logits.clone().requires_grad_() for _ in range(2))
    expected = loss(whole, targets)
    found = sum(
        loss.share(parts[a:b], targets[a:b], targets) for a, b in ((0, 5), (5, 5), (5, 23), (23, B))
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    expected.backward()
    found.backward()
    torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-10, atol=1e-14)
