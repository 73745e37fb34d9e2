"""Losses against the papers' formulas, written row by row in float64 numpy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from purenoise.errors import DataError, RecipeError
from purenoise.losses import (
    LOSSES,
    ClassificationLoss,
    CrossEntropyLoss,
    FocalLoss,
    LabelAwareSmoothingLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    build_loss,
    class_smoothing,
)
from purenoise.methodfile import LOSS_OPTIONS

Array = NDArray[np.float64]
COUNTS = [500, 60, 7, 1]
WEIGHT = [0.2, 0.7, 1.1, 2.0]
B, C = 24, 4


def build(name: str, **options: Any) -> ClassificationLoss:
    """Return a loss by name, for COUNTS."""
    return build_loss(name, counts=COUNTS, prior=COUNTS, **options)


def batch(seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return logits in float64 and hard targets."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, C, generator=generator, dtype=torch.float64) * scale
    return logits, torch.randint(C, (B,), generator=generator)


def soft_targets(seed: int = 1) -> Tensor:
    """Return random probabilities."""
    logits, _ = batch(seed)
    return logits.softmax(1)


def one_hot(targets: Tensor) -> Tensor:
    """Return targets as probabilities."""
    return F.one_hot(targets, C).double()


# Oracles: the loss of one row z for class c, from the papers, with a class weight w where it
# belongs inside.
def log_p(z: Array, c: int) -> float:
    """Log of the softmax of class c."""
    return float(z[c] - z.max() - np.log(np.exp(z - z.max()).sum()))


def ce(z: Array, c: int, w: float = 1.0) -> float:
    """-log p."""
    return -log_p(z, c)


def focal(z: Array, c: int, w: float = 1.0) -> float:
    """Lin et al.: (1 - p)^2 (-log p)."""
    return (1 - np.exp(log_p(z, c))) ** 2 * -log_p(z, c)


def focal_ldam_drw(z: Array, c: int, w: float = 1.0) -> float:
    """LDAM-DRW's code: p = exp(-w ce), (1 - p)^2 w ce; the last w is applied by the reduction."""
    return (1 - np.exp(w * log_p(z, c))) ** 2 * -log_p(z, c)


def ldam(z: Array, c: int, w: float = 1.0) -> float:
    """Cao et al.: cross-entropy of 30 (z - margin at c), margins 0.5 at the smallest class."""
    moved = z.copy()
    moved[c] -= 0.5 * (min(COUNTS) / COUNTS[c]) ** 0.25
    return -log_p(30 * moved, c)


def balanced(z: Array, c: int, w: float = 1.0) -> float:
    """Ren et al.: -log of n_c e^z_c / sum n_j e^z_j."""
    terms = np.array(COUNTS) * np.exp(z)
    return float(-np.log(terms[c] / terms.sum()))


CASES: dict[str, tuple[Callable[..., float], dict[str, Any]]] = {
    "cross-entropy": (ce, {}),
    "focal": (focal, {"gamma": 2.0}),
    "focal ldam-drw": (focal_ldam_drw, {"gamma": 2.0, "form": "ldam-drw"}),
    "ldam": (ldam, {}),
    "balanced-softmax": (balanced, {}),
}
every_loss = pytest.mark.parametrize("case", CASES)


def of_case(case: str, **more: Any) -> ClassificationLoss:
    """Return the loss of a case."""
    return build(case.split()[0], **(CASES[case][1] | more))


def oracle(case: str, logits: Tensor, soft: Tensor, weight: list[float]) -> float:
    """Sum weighted rows one by one, then divide once: by the weights, or for focal by the rows."""
    formula = CASES[case][0]
    total = norm = 0.0
    for z, t in zip(logits.numpy(), soft.numpy(), strict=True):
        for c in range(C):
            total += t[c] * weight[c] * formula(z, c, weight[c])
            norm += t[c] * weight[c]
    return total / (len(logits) if case.startswith("focal") else norm)


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
def test_losses_have_no_place_in_checkpoints(case: str) -> None:
    """The state dict is empty: another loss does not make a checkpoint unreadable."""
    assert not of_case(case, weight=WEIGHT).state_dict()
    assert not list(of_case(case, weight=WEIGHT).parameters())


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_change_dtype(case: str, dtype: torch.dtype) -> None:
    """A loss follows `.to(dtype)`, and takes logits of another dtype than its own."""
    logits, y = batch()
    expected = of_case(case, weight=WEIGHT)(logits, y)
    loss = of_case(case, weight=WEIGHT).to(dtype)
    for z in (logits, logits.float()):
        found = loss(z, y)
        assert found.dtype == z.dtype
        torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=0)


def test_devices_without_float64_get_float32() -> None:
    """On a device that refuses float64, as MPS does, the buffers become float32."""

    def to_device(tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor.clone()

    loss = LDAMLoss(COUNTS, weight=WEIGHT)
    assert loss._apply(to_device) is loss
    assert loss.margins.dtype == torch.float32
    logits, y = batch()
    torch.testing.assert_close(
        loss(logits.float(), y), LDAMLoss(COUNTS, weight=WEIGHT)(logits.float(), y)
    )


@every_loss
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits(case: str, soft: bool, dtype: torch.dtype) -> None:
    """Half-precision logits give the float32 loss of their values, also under autocast."""
    logits, y = batch(scale=0.5)
    half = logits.repeat(12, 1).to(dtype)
    targets = soft_targets().repeat(12, 1).to(dtype) if soft else y.repeat(12)
    loss = of_case(case, weight=WEIGHT)
    expected = loss(half.float(), targets.float() if soft else targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(half, targets)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@every_loss
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_targets_of_any_whole_number_type(case: str, dtype: torch.dtype) -> None:
    """Labels as loaders give them, int32 or uint8, do as int64 does."""
    logits, y = batch()
    loss = of_case(case, weight=WEIGHT)
    assert loss(logits, y.to(dtype)).item() == loss(logits, y).item()


@every_loss
@pytest.mark.parametrize(
    ("shape", "targets"),
    [
        ((3, C), torch.zeros(2, dtype=torch.int64)),
        ((3, C), torch.zeros(3, C + 1)),
        ((3, C), torch.zeros(3, 1, dtype=torch.int64)),
        ((C,), torch.zeros(C, dtype=torch.int64)),
        ((3, C, 2), torch.zeros(3, dtype=torch.int64)),
        ((3, C), torch.zeros(3)),
        ((3, C), torch.zeros(3, dtype=torch.bool)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    case: str, shape: tuple[int, ...], targets: Tensor
) -> None:
    """Logits and targets that do not belong together are refused with their shapes or types."""
    with pytest.raises(DataError, match=r"do not fit|class indices"):
        of_case(case)(torch.zeros(shape), targets)


@pytest.mark.parametrize("case", ["ldam", "balanced-softmax", "cross-entropy", "focal"])
@pytest.mark.parametrize("soft", [False, True])
def test_another_number_of_classes_is_refused(case: str, soft: bool) -> None:
    """A loss built for four classes refuses five logits, instead of broadcasting or guessing."""
    targets: Tensor = torch.full((2, 5), 0.2) if soft else torch.tensor([0, 1])
    with pytest.raises(DataError, match="for 4 classes, and 5 logits"):
        of_case(case, weight=WEIGHT)(torch.zeros(2, 5), targets)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: CrossEntropyLoss([1, -1]), RecipeError, "not negative"),
        (lambda: CrossEntropyLoss([1, float("nan")]), RecipeError, "not negative"),
        (lambda: CrossEntropyLoss([0, 0]), RecipeError, "not all 0"),
        (lambda: CrossEntropyLoss([[1, 1]]), RecipeError, "list of numbers"),
        (lambda: CrossEntropyLoss(label_smoothing=1.0), RecipeError, "label_smoothing is 1.0"),
        (lambda: FocalLoss(-1), RecipeError, "gamma is -1"),
        (lambda: FocalLoss(form="standart"), RecipeError, "Did you mean 'standard'"),
        (lambda: LDAMLoss([5, 0, 3]), DataError, "Class 1 has no training images"),
        (lambda: LDAMLoss([5], max_m=-1), RecipeError, "max_m is -1"),
        (lambda: LDAMLoss([5], s=0), RecipeError, "s is 0"),
        (lambda: LogitAdjustedLoss([5, 3, 0]), DataError, "prior of class 2 is 0"),
        (lambda: LogitAdjustedLoss([5, float("nan")]), DataError, "prior of class 1"),
        (lambda: LogitAdjustedLoss([1, 1], tau=-1), RecipeError, "tau is -1"),
        (lambda: build("focl"), RecipeError, "Did you mean 'focal'"),
        (lambda: build("focal", gama=2), RecipeError, "gama"),
        (lambda: build("focal", gamma="two"), RecipeError, "does not take"),
    ],
)
def test_refusals(make: Callable[[], object], error: type[Exception], words: str) -> None:
    """What a user can get wrong is refused when the loss is built, by name."""
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("name", LOSSES)
def test_options_of_recipes_are_those_of_the_losses(name: str) -> None:
    """What a method file may set of a loss is what the loss takes, no less and no more."""
    given = set(inspect.signature(LOSSES[name]).parameters) - {"weight", "counts", "prior"}
    assert set(LOSS_OPTIONS[name]) == given
    assert set(LOSS_OPTIONS) == set(LOSSES)


# Label-aware smoothing


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


def test_defaults_are_those_that_are_documented() -> None:
    """Gamma is 1, tau 1, margins up to 0.5 at scale 30, smoothing 0.4 to 0.1 and concave."""
    logits, y = batch()
    pairs = [
        (FocalLoss(), FocalLoss(1.0, None, "standard", 0.0)),
        (LDAMLoss(COUNTS), LDAMLoss(COUNTS, 0.5, 30.0, None, 0.0)),
        (LogitAdjustedLoss(COUNTS), LogitAdjustedLoss(COUNTS, 1.0, None, 0.0)),
        (LabelAwareSmoothingLoss(COUNTS), LabelAwareSmoothingLoss(COUNTS, 0.4, 0.1, "concave")),
    ]
    for short, long in pairs:
        assert short(logits, y).item() == long(logits, y).item()
    assert class_smoothing(COUNTS).tolist() == class_smoothing(COUNTS, 0.4, 0.1, "concave").tolist()
    assert class_smoothing([7, 1]).tolist() == pytest.approx([0.4, 0.1])
    assert FocalLoss()(logits, y).item() != pytest.approx(CrossEntropyLoss()(logits, y).item())


def test_the_ends_of_what_is_allowed() -> None:
    """Each limit that may be taken is taken, and means what its formula says."""
    logits, y = batch()
    plain = CrossEntropyLoss()(logits, y).item()
    assert FocalLoss(0)(logits, y).item() == pytest.approx(plain)
    assert LDAMLoss(COUNTS, max_m=0, s=1)(logits, y).item() == pytest.approx(plain)
    assert LDAMLoss(COUNTS, 0, s=0.5)(2 * logits, y).item() == pytest.approx(plain)
    assert LogitAdjustedLoss(COUNTS, tau=0)(logits, y).item() == pytest.approx(plain)
    assert LabelAwareSmoothingLoss(COUNTS, 0, 0)(logits, y).item() == pytest.approx(plain)
    assert CrossEntropyLoss(label_smoothing=0)(logits, y).item() == plain
    one = torch.zeros(3, 1, dtype=torch.float64)
    label = torch.zeros(3, dtype=torch.int64)
    assert LabelAwareSmoothingLoss([5])(one, label).item() == 0  # no other class to smooth to
    assert LabelAwareSmoothingLoss([5]).smoothed(one + 1).tolist() == [[0.6]] * 3
    two = LabelAwareSmoothingLoss([5, 1]).smoothed(torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(two, torch.tensor([[0.6, 0.4], [0.1, 0.9]], dtype=torch.float64))


def test_what_smooths_says_so() -> None:
    """Index targets go the short way exactly where nothing smooths them: torch's own bits."""
    logits, y = batch()
    assert CrossEntropyLoss().smooths is False
    assert CrossEntropyLoss(label_smoothing=0.1).smooths is True
    assert LabelAwareSmoothingLoss(COUNTS, 0, 0).smooths is True
    terms, weights = CrossEntropyLoss().rows(logits, y)
    assert torch.equal(terms, F.cross_entropy(logits, y, reduction="none"))
    assert weights.tolist() == [1.0] * B


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LogitAdjustedLoss(5), r"prior has shape \(\), not"),
        (lambda: LogitAdjustedLoss([[1, 2]]), r"prior has shape \(1, 2\), not"),
        (lambda: LogitAdjustedLoss([1, float("inf")]), "prior of class 1 is inf"),
        (lambda: LogitAdjustedLoss([-2, 1]), "prior of class 0 is -2"),
        (lambda: LogitAdjustedLoss([1, 2], tau=float("nan")), "tau is nan"),
        (lambda: LogitAdjustedLoss([1, 2], tau=float("inf")), "tau is inf"),
        (lambda: FocalLoss(float("inf")), "gamma is inf"),
        (lambda: LDAMLoss([5], max_m=float("inf")), "max_m is inf"),
        (lambda: LDAMLoss([5], s=float("inf")), "s is inf"),
        (lambda: FocalLoss(float("nan")), "gamma is nan"),
        (lambda: LDAMLoss([5], max_m=float("nan")), "max_m is nan"),
        (lambda: LDAMLoss([5], s=-1), "s is -1"),
        (lambda: CrossEntropyLoss([1, float("inf")]), "not negative"),
        (lambda: CrossEntropyLoss(label_smoothing=-0.1), "label_smoothing is -0.1"),
        (lambda: CrossEntropyLoss(label_smoothing=float("nan")), "label_smoothing is nan"),
        (lambda: class_smoothing([2, 1], head=-0.1), "head -0.1"),
        (lambda: class_smoothing([2, 1], tail=1.0), "tail 1.0"),
        (lambda: class_smoothing([2, 0]), "Class 1 has no training images"),
    ],
)
def test_numbers_that_cannot_be_are_refused(make: Callable[[], object], words: str) -> None:
    """Not a number, infinite, negative, or of another shape: each is refused by what it is."""
    with pytest.raises((DataError, RecipeError), match=words):
        make()


def test_weights_are_copied() -> None:
    """A loss keeps its weights when the array that they came in changes."""
    given = np.array(WEIGHT)
    loss = CrossEntropyLoss(given)
    given[:] = 1
    assert loss.weight.tolist() == WEIGHT


@every_loss
def test_sure_rows_have_finite_losses_and_gradients(case: str) -> None:
    """Where one class has all the probability, no loss or gradient is infinite, right or wrong."""
    for dtype in (torch.float32, torch.float64):
        for size in (1.0, 40.0, 400.0):
            logits = (size * torch.eye(C, dtype=dtype)).repeat(C, 1).requires_grad_()
            y = torch.arange(C).repeat_interleave(C)
            for targets in (y, one_hot(y).to(dtype)):
                terms, _ = of_case(case).rows(logits, targets)
                assert torch.isfinite(terms).all()
                (slope,) = torch.autograd.grad(terms.sum(), logits)
                assert torch.isfinite(slope).all()


def test_index_targets_need_no_other_class() -> None:
    """Where nothing is smoothed, only the loss of a row's own class is computed."""

    class Short(CrossEntropyLoss):
        def per_class(self, logits: Tensor) -> Tensor:
            raise AssertionError("all classes were computed")

    logits, y = batch()
    assert Short(WEIGHT)(logits, y).item() == CrossEntropyLoss(WEIGHT)(logits, y).item()
    with pytest.raises(AssertionError, match="all classes"):
        Short(label_smoothing=0.1)(logits, y)


def test_losses_of_ones_own() -> None:
    """A loss says what each class costs, or that is missed; what it holds moves with it."""

    class Own(ClassificationLoss):
        def __init__(self) -> None:
            super().__init__(WEIGHT)
            self.inner = torch.nn.Linear(C, C)

        def per_class(self, logits: Tensor) -> Tensor:
            return self.inner(logits).square()

    logits, y = batch()
    loss = Own().double()
    assert {p.dtype for p in loss.parameters()} == {torch.float64}
    rows = loss.inner(logits).square()[torch.arange(B), y]
    weight = torch.tensor(WEIGHT, dtype=torch.float64)[y]
    torch.testing.assert_close(loss(logits, y), (rows * weight).sum() / weight.sum())
    with pytest.raises(NotImplementedError):
        ClassificationLoss()(logits, y)
