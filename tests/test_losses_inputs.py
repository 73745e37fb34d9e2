"""What losses take and refuse: dtypes, shapes, options, labels, one's own losses."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

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

from .lossoracles import (
    COUNTS,
    WEIGHT,
    B,
    C,
    batch,
    build,
    every_loss,
    of_case,
    one_hot,
    soft_targets,
)


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
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.uint16])
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


@every_loss
@pytest.mark.parametrize("targets", [[-100, 1], [-1, 0], [0, C]])
def test_targets_that_are_no_class_are_refused(case: str, targets: list[int]) -> None:
    """None is ignored in silence, as torch does with -100, and none counts from the end."""
    with pytest.raises(DataError, match=f"classes are 0 to {C - 1}"):
        of_case(case)(torch.zeros(2, C), torch.tensor(targets))
    assert of_case(case)(torch.zeros(0, C), torch.tensor([], dtype=torch.int64)).item() == 0


@pytest.mark.parametrize("name", ["cross-entropy", "ldam"])
def test_torch_ignores_no_target(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device, where targets are not looked at, torch fails instead of leaving a row out."""
    monkeypatch.setattr("purenoise.lossbase.is_compiling", lambda: True)
    loss = build_loss(name, counts=[3] * 120, prior=[3] * 120)
    with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)"):
        loss(torch.zeros(2, 120), torch.tensor([-100, 1]))


@every_loss
def test_losses_can_be_mapped_and_traced(case: str) -> None:
    """Gradients per image, and graphs of torch.fx, take targets that hold no number to look at."""
    logits, y = batch()
    loss = of_case(case)
    each = vmap(grad(lambda row, label: loss(row[None], label[None])))(logits, y)
    assert torch.allclose(each[3], grad(lambda row: loss(row, y[3:4]))(logits[3:4])[0])
    traced = make_fx(loss)(logits, y)
    other = batch(seed=5)
    assert traced(*other).item() == pytest.approx(loss(*other).item())
