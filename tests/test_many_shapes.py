"""The method's numbers in float64 over thousands of random shapes and class counts.

Shapes run from one value (batch of 1, 1 x 1 maps) over grey and four-channel images to 3-D maps,
batches from all natural to all noise; class counts from one class of one image to 8,142 classes
and an imbalance ratio of 1,000. All is drawn from seeds, so that a failure can be repeated.
"""

from __future__ import annotations

import copy
from decimal import Decimal, getcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from purenoise.conversion import convert
from purenoise.darbn import dar_batch_norm
from purenoise.longtail import groups, imbalance, imbalanced_counts
from purenoise.losses import build_loss, class_smoothing
from purenoise.masked import masked_batch_norm
from purenoise.noise import replacement_probabilities
from purenoise.samplers import SAMPLERS, ClassBalancedSampler, effective_number_weights
from purenoise.twopass import two_pass

from .darbncases import LAYERS
from .reference import Oracle, dar_bn_oracle, mixed_batch
from .test_darbn import two_calls

Array = NDArray[np.float64]
STOPS = ("branch", "affine", "none")
PARTS = [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, 8))]  # of each sweep


def tensor(r: np.random.Generator, *shape: int) -> Tensor:
    """Draw float64 values of some scale and offset."""
    values = r.normal(size=shape) * r.choice([0.05, 1.0, 20.0]) + r.integers(-5, 6)
    return torch.from_numpy(values)


def norm_case(r: np.random.Generator) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draw rows, which of them are noise, and how to treat them."""
    space = [(), (1,), (5,), (1, 1), (2, 3), (4, 4), (1, 1, 1), (2, 1, 3)][r.integers(8)]
    n = int(r.choice([1, 2, 3, 8]))
    x = tensor(r, n, int(r.choice([1, 3, 4, 7])), *space)
    share = r.choice([0.0, 0.3, 1.0], p=[0.2, 0.6, 0.2])
    options = {"stop_gradient": str(r.choice(STOPS)), "training": bool(r.random() < 0.8)}
    return x, torch.from_numpy(r.random(n) < share), options


def of_layer(x: Tensor, is_noise: Tensor, pair: Any, running: Any, options: Any) -> Tensor:
    """Run a DAR-BN layer on the natural rows and in a noise pass; put its state where asked."""
    layer = LAYERS[{2: 1, 3: 1, 4: 2, 5: 3}[x.dim()]](x.shape[1]).double()
    layer.weight, layer.bias = pair
    layer.stop_gradient = options["stop_gradient"]
    layer.running_mean, layer.running_var = running
    return two_calls(layer.train(options["training"]), x, is_noise)


def of_listing(x: Tensor, is_noise: Tensor, pair: Any, running: Any, options: Any) -> Tensor:
    """Run the paper's listing."""
    return dar_batch_norm(x, is_noise, *running, *pair, **options)


def of_mask(x: Tensor, is_noise: Tensor, pair: Any, running: Any, options: Any) -> Tensor:
    """Run the masked form."""
    return masked_batch_norm(x, is_noise.to(torch.int8), *running, *pair, **options)


@pytest.mark.parametrize("form", [of_layer, of_listing, of_mask])
@pytest.mark.parametrize("part", PARTS)
def test_dar_bn_over_thousands_of_shapes(form: Any, part: int) -> None:
    """Output, gradients and running statistics are the formulas', whatever the shape and mask."""
    r, refused = np.random.default_rng([1, part]), 0
    for trial in range(150):
        x, is_noise, options = norm_case(r)
        channels, upstream = x.shape[1], torch.from_numpy(r.normal(size=x.shape))
        pair = tuple(nn.Parameter(tensor(r, channels)) for _ in range(2))
        running = tensor(r, channels), tensor(r, channels).abs()
        before = tuple(t.numpy().copy() for t in running)
        values = x[~is_noise].numel() // channels
        x.requires_grad_()
        if options["training"] and values == 1:  # no variance: plain batch norm refuses it too
            refused += 1
            if form is not of_mask:
                with pytest.raises(ValueError, match="more than 1 value"):
                    form(x, is_noise, pair, running, options)
            continue
        out = form(x, is_noise, pair, running, options)
        if out.requires_grad:
            out.backward(upstream)
        wanted = dar_bn_oracle(
            x.detach().numpy(), is_noise.numpy(), before, *(p.detach().numpy() for p in pair),
            upstream.numpy(), **options,
        )  # fmt: skip
        _compare(out, x, pair, running, wanted, f"part {part}, trial {trial}, {tuple(x.shape)}")
    assert refused > 0


def _compare(out: Tensor, x: Tensor, pair: Any, running: Any, wanted: Oracle, where: str) -> None:
    grads = [t.grad if t.grad is not None else torch.zeros_like(t) for t in (x, *pair)]
    found = [out.detach(), *grads, *running]
    exact = [wanted.out, wanted.grad_x, wanted.grad_weight, wanted.grad_bias,
             wanted.running_mean, wanted.running_var]  # fmt: skip
    for got, want in zip(found, exact, strict=True):
        # A group of one value has deviation sqrt(eps): its rounding errors come out 300 times.
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-8, atol=1e-8, err_msg=where)


class Net(nn.Module):
    """A net of few layers for images of any size and number of channels."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        )  # fmt: skip
        self.norm, self.head = nn.BatchNorm1d(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.norm(self.body(x).mean((2, 3))))


@pytest.mark.parametrize("part", PARTS)
def test_steps_over_many_networks_and_batches(part: int) -> None:
    """A two-pass step is the mixed batch's: loss, all gradients, statistics, any batch and size."""
    r = np.random.default_rng([2, part])
    for trial in range(25):
        torch.manual_seed(int(r.integers(1 << 30)))
        channels, side = int(r.choice([1, 3, 4])), int(r.choice([1, 2, 5]))
        classes, n = int(r.choice([1, 2, 11, 300])), int(r.choice([2, 3, 6]))
        rows = int(r.choice([0, 2, 5]))
        model = convert(Net(channels, int(r.choice([1, 4])), classes), str(r.choice(STOPS)))
        model, natural = model.double(), tensor(r, n, channels, side, side)
        twin, noise = copy.deepcopy(model), tensor(r, rows, channels, side, side)
        loss = build_loss("cross-entropy", counts=[1] * classes, prior=[1] * classes,
                          weight=r.uniform(0.1, 3, classes))  # fmt: skip
        labels = torch.from_numpy(r.integers(0, classes, n + rows))
        values = [loss(step(m, natural, noise), labels)
                  for m, step in ((model, two_pass), (twin, mixed_batch))]  # fmt: skip
        for value in values:
            value.backward()
        assert values[0].item() == pytest.approx(values[1].item(), rel=1e-9, abs=1e-9)
        pairs = [(p.grad, q.grad) for p, q in zip(model.parameters(), twin.parameters(),
                                                  strict=True)]  # fmt: skip
        pairs += list(zip(model.buffers(), twin.buffers(), strict=True))
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8, msg=f"part {part}, {trial}")


def class_counts(r: np.random.Generator) -> NDArray[np.int64]:
    """Draw training images per class: none empty, ratios up to 1,000, up to 8,142 classes."""
    classes = int(r.choice([1, 2, 3, 10, 100, 1000, 8142]))
    kind = r.integers(5)
    if kind == 0:
        return np.ones(classes, np.int64)
    if kind == 1:
        return imbalanced_counts("exp", 1000, classes, float(r.choice([1, 50, 1000])))
    if kind == 2:
        return np.where(np.arange(classes) == r.integers(classes), 1, 1000)
    if kind == 3:
        return np.where(np.arange(classes) == r.integers(classes), 1000, 1)
    return r.integers(1, 1001, classes)


def log_softmax(z: Array) -> Array:
    """Return log p of each row."""
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def terms(name: str, z: Array, n: Array) -> Array:
    """Return each row's loss for each class it might have, (B, C), by the papers' formulas."""
    if name == "focal":
        log_p = log_softmax(z)
        return -((1 - np.exp(log_p)) ** 2) * log_p
    if name == "ldam":
        margin = 0.5 * (n.min() / n) ** 0.25
        found = np.empty_like(z)
        for c in range(min(z.shape[1], 40)):  # asked for only these
            moved = z.copy()
            moved[:, c] -= margin[c]
            found[:, c] = -log_softmax(30 * moved)[:, c]
        return found
    return -log_softmax(z + np.log(n / n.sum()) if name == "balanced-softmax" else z)


LOSSES = {
    "cross-entropy": {},
    "focal": {"gamma": 2.0},
    "ldam": {},
    "balanced-softmax": {},
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("part", PARTS)
def test_losses_over_many_class_counts(name: str, part: int) -> None:
    """Weighted losses of hard and mixed targets follow the papers for any counts and batch."""
    r = np.random.default_rng([3, part])
    for trial in range(60):
        counts = class_counts(r)
        n, classes = counts.astype(np.float64), len(counts)
        rows, seen = int(r.choice([1, 2, 9])), min(classes, 40)
        weight = None if r.random() < 0.3 else r.uniform(0.01, 3, classes)
        z = r.normal(size=(rows, classes)) * (1 if name == "ldam" else r.choice([1, 10]))
        one, other = r.integers(0, seen, (2, rows))
        share = r.random(rows)
        soft = np.zeros((rows, classes))
        soft[np.arange(rows), one] += share
        soft[np.arange(rows), other] += 1 - share
        loss = build_loss(name, counts=counts, prior=counts, weight=weight, **LOSSES[name])
        each, w = terms(name, z, n), np.ones(classes) if weight is None else weight
        hard = np.eye(1, classes, 0).repeat(rows, 0) * 0
        hard[np.arange(rows), one] = 1
        for target, given in ((hard, torch.from_numpy(one)), (soft, torch.from_numpy(soft))):
            total = sum((target * w)[:, c] * each[:, c] for c in range(seen)).sum()
            wanted = total / (rows if name == "focal" else (target * w).sum())
            found = loss(torch.from_numpy(z), given).item()
            assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12), (part, trial, classes)


@pytest.mark.parametrize("part", PARTS)
def test_class_numbers_over_many_counts(part: int) -> None:
    """Noise shares, weights, smoothing, groups and measures follow their definitions exactly."""
    r = np.random.default_rng([4, part])
    getcontext().prec = 60
    for _ in range(40):
        counts = class_counts(r)
        n, delta = counts.tolist(), float(r.random())
        first = [int(c) for c in r.integers(0, len(n), 5)]  # some classes, in exact arithmetic
        shares, beta = replacement_probabilities(counts, delta), float(r.choice([0.9, 0.9999]))
        weights = effective_number_weights(counts, beta)
        effective = {k: (1 - Decimal(beta)) / (1 - Decimal(beta) ** k) for k in set(n)}
        mean = sum(effective[k] for k in n) / len(n)
        smoothing = class_smoothing(counts, 0.4, 0.1, "linear")
        for c in first:
            exact = (1 - Decimal(n[c]) / max(n)) * Decimal(delta)
            assert shares[c] == pytest.approx(float(exact), rel=1e-12, abs=1e-15)
            assert weights[c] == pytest.approx(float(effective[n[c]] / mean), rel=1e-9)
            spread = max(n) - min(n)
            x = Decimal(n[c] - min(n)) / spread if spread else Decimal(1)
            assert smoothing[c] == pytest.approx(float(Decimal("0.1") + Decimal("0.3") * x))
        found = imbalance(counts)
        assert (found.n_images, found.n_max, found.n_min) == (sum(n), max(n), min(n))
        ordered = sorted(n)
        pairs = sum((2 * i - len(n) + 1) * k for i, k in enumerate(ordered))
        assert found.gini == pytest.approx(pairs / (len(n) * sum(n)), abs=1e-12)
        parts = groups(counts)
        for name, wanted in (("many", lambda k: k > 100), ("few", lambda k: k < 20),
                             ("medium", lambda k: 20 <= k <= 100)):  # fmt: skip
            assert parts[name].tolist() == [c for c, k in enumerate(n) if wanted(k)]


def test_profiles_of_any_size_lose_less_than_one_image() -> None:
    """Each class of an exponential profile has the exact number of images, cut to a whole one."""
    r = np.random.default_rng(5)
    getcontext().prec = 60
    for _ in range(40):
        classes, largest = int(r.choice([2, 10, 100, 8142])), int(r.choice([1000, 5000, 10**6]))
        ratio = float(r.choice([1, 7.5, 100, 1000]))
        found = imbalanced_counts("exp", largest, classes, ratio)
        for c in (0, 1, classes // 2, classes - 1):
            exact = largest * Decimal(ratio) ** (-Decimal(c) / (classes - 1))
            lost = exact - int(found[c])
            assert Decimal("-1e-6") < lost < 1 + Decimal("1e-6")


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_at_the_edges(name: str) -> None:
    """One class of one image, and 8,142 classes at ratio 1,000, are sampled in full epochs."""
    options = {"epochs": 3} if name == "progressive" else {}
    counts = imbalanced_counts("exp", 1000, 8142, 1000.0)
    for profile in (np.ones(1, np.int64), counts):
        labels = np.repeat(np.arange(len(profile)), profile)
        sampler = SAMPLERS[name](labels, **options)
        assert sampler.class_shares(1).sum() == pytest.approx(1)
        order = sampler.order(2)
        assert len(order) == len(labels)
        assert order.min() >= 0
        assert order.max() < len(labels)


def test_class_balanced_draws_of_many_classes_are_binomial() -> None:
    """Of 8,142 classes none is drawn more or less often than chance allows (1e-9 in all)."""
    from scipy.stats import binom

    counts = imbalanced_counts("exp", 1000, 8142, 1000.0)
    labels = np.repeat(np.arange(8142), counts)
    drawn = np.bincount(labels[ClassBalancedSampler(labels).order(0)], minlength=8142)
    low, high = binom.interval(1 - 1e-9 / 8142, len(labels), 1 / 8142)
    assert low <= drawn.min()
    assert drawn.max() <= high
