"""Samplers: the labels they find, the shares they draw, orders that survive stops and splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from purenoise.errors import DataError, RecipeError
from purenoise.samplers import (
    SAMPLERS,
    ClassBalancedSampler,
    ClassSampler,
    EffectiveNumberSampler,
    InstanceSampler,
    ProgressiveSampler,
    SquareRootSampler,
    effective_number_weights,
)

from .samplercases import LABELS, build

PROFILES = st.lists(st.integers(1, 300), min_size=1, max_size=6)


def drawn(sampler: ClassSampler, epochs: int) -> NDArray[np.int64]:
    """Count the classes of several epochs."""
    order = np.concatenate([sampler.order(e) for e in range(epochs)])
    return np.bincount(sampler.labels[order], minlength=len(sampler.counts))


@pytest.mark.parametrize(
    ("labels", "options", "error", "words"),
    [
        ([0, 2], {}, DataError, "Class 1 has no training images"),
        ([0, 1], {"n_classes": 3}, DataError, "Class 2 has no training images"),
        ([0, 5], {"n_classes": 3}, DataError, "A label is 5, and with 3 classes"),
        ([0, 10**15], {}, DataError, "Class 1 has no training images"),
        ([0, 2**63 - 1], {}, DataError, "Class 1 has no training images"),
        ([0, 1], {"rank": 2, "num_replicas": 2}, RecipeError, "rank=2"),
        ([0, 1], {"rank": -1}, RecipeError, "rank=-1"),
        ([0, 1], {"seed": -1}, RecipeError, "seed is -1"),
    ],
)
def test_samplers_refuse(labels: list[int], options: dict, error: type, words: str) -> None:
    """Empty classes, labels beyond the classes, ranks and seeds that cannot be are named."""
    with pytest.raises(error, match=words):
        ClassBalancedSampler(labels, **options)


def expected_shares(name: str, counts: NDArray[np.int64], epoch: int) -> NDArray[np.float64]:
    """Recompute the class shares from the papers, one class at a time."""
    n = [int(c) for c in counts]
    t = min(1.0, epoch / 10)
    raw = {
        "instance": [c / sum(n) for c in n],
        "class-balanced": [1.0 for _ in n],
        "square-root": [c**0.5 for c in n],
        "effective-number": [c * (1 - 0.9999) / (1 - 0.9999**c) for c in n],
        "progressive": [(1 - t) * c / sum(n) + t / len(n) for c in n],
    }[name]
    return np.array(raw) / sum(raw)


@pytest.mark.parametrize("name", SAMPLERS)
@given(profile=PROFILES)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_class_shares_follow_the_papers(name: str, profile: list[int]) -> None:
    """For any counts the shares are the formula's, at every stage of the course."""
    sampler = build(name, np.repeat(np.arange(len(profile)), profile))
    for epoch in (0, 3, 10, 50):
        expected = expected_shares(name, sampler.counts, epoch)
        np.testing.assert_allclose(sampler.class_shares(epoch), expected, rtol=1e-7)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"instance", "progressive"}))
@given(profile=PROFILES)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_drawn_shares_are_within_binomial_bounds(name: str, profile: list[int]) -> None:
    """For any counts the number of draws of each class has the binomial's 1e-6 bounds."""
    sampler = build(name, np.repeat(np.arange(len(profile)), profile))
    epochs = 20
    total = epochs * len(sampler)
    shares = expected_shares(name, sampler.counts, 0)
    low, high = binom.interval(1 - 1e-6, total, shares)
    found = drawn(sampler, epochs)
    assert np.all((found >= low) & (found <= high))


def test_images_of_a_class_are_drawn_alike() -> None:
    """Within a class every image comes equally often, the first and the last too."""
    sampler = ClassBalancedSampler(LABELS)
    times = np.bincount(np.concatenate([sampler.order(e) for e in range(400)]), minlength=100)
    expected = 400 * 100 / 4 / sampler.counts[sampler.labels]
    low, high = binom.interval(1 - 1e-6, 40_000, expected / 40_000)
    assert np.all((times >= low) & (times <= high))


def test_class_balanced_is_not_the_effective_number() -> None:
    """Class-balanced is 1 / n as in the paper: with large classes the effective number differs."""
    labels = np.repeat([0, 1], [50_000, 500])
    plain = ClassBalancedSampler(labels)
    effective = EffectiveNumberSampler(labels)
    assert plain.class_shares(0).tolist() == [0.5, 0.5]
    assert effective.class_shares(0)[0] > 0.8
    assert abs(drawn(plain, 1)[0] / len(labels) - 0.5) < 0.01


def test_progressive_goes_from_instance_to_balanced() -> None:
    """The progressive sampler starts as instance sampling and ends as class-balanced."""
    sampler = ProgressiveSampler(LABELS, epochs=4)
    tail = [sampler.class_shares(e)[3] for e in range(6)]
    assert tail[0] == pytest.approx(0.05)
    assert tail[:5] == sorted(set(tail[:5]))
    assert tail[4] == tail[5] == 0.25


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_is_as_long_as_the_data(name: str) -> None:
    """Every epoch has N images that exist."""
    order = build(name).order(3)
    assert len(order) == len(LABELS) == len(build(name))
    assert order.min() >= 0
    assert order.max() < len(LABELS)


def test_instance_is_a_permutation() -> None:
    """Instance sampling shows every image exactly once, in an order that is not the data's."""
    order = InstanceSampler(LABELS).order(0)
    assert sorted(order) == list(range(100))
    assert list(order) != list(range(100))


def test_orders_depend_on_seed_and_epoch_only() -> None:
    """Same seed and epoch, same order, also out of turn; another seed or epoch, another order."""
    one, two = SquareRootSampler(LABELS, seed=5), SquareRootSampler(LABELS, seed=5)
    two.set_epoch(9)
    list(two)
    two.set_epoch(2)
    one.set_epoch(2)
    assert list(one) == list(two)
    one.set_epoch(3)
    two.set_epoch(2)
    third = list(one)
    assert third != list(two)
    assert third != SquareRootSampler(LABELS, seed=6).order(3).tolist()


def test_random_numbers_are_the_samplers_own() -> None:
    """The order of epoch 0 is not that of numpy's generator of the same seed, which others use."""
    own = InstanceSampler(LABELS, seed=3).order(0)
    assert own.tolist() != np.random.default_rng(3).permutation(100).tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_global_random_state_is_left_alone(name: str) -> None:
    """Sampling neither reads nor moves the global generators of numpy and torch."""
    state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    first = list(build(name))
    for before, after in zip(state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)
    assert torch.equal(torch_state, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert list(build(name)) == first


@given(profile=st.lists(st.integers(1, 5000), min_size=1, max_size=8), beta=st.floats(0, 0.9999))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_effective_number_weights_follow_the_formula(profile: list[int], beta: float) -> None:
    """The weights are (1 - beta) / (1 - beta^n), at mean 1, for any counts and beta."""
    # 1 - beta^n = (1 - beta) (1 + beta + ... + beta^(n-1)): the sum itself, without cancellation.
    raw = [1 / np.sum(beta ** np.arange(n, dtype=np.float64)) for n in profile]
    expected = np.array(raw) / np.mean(raw)
    found = effective_number_weights(profile, beta)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.mean() == pytest.approx(1, rel=1e-12)


def test_effective_number_weights_at_the_edges() -> None:
    """Beta 0 weighs alike; 8142 classes of up to a million images stay finite and ordered."""
    assert effective_number_weights([1000, 1], 0).tolist() == [1, 1]
    counts = np.geomspace(1_000_000, 1, 8142).astype(int)
    for beta in (0.9999, 1 - 1e-12):
        weights = effective_number_weights(counts, beta)
        assert np.isfinite(weights).all()
        assert weights.mean() == pytest.approx(1)
        assert np.all(np.diff(weights) >= 0)


@pytest.mark.parametrize("beta", [1.0, -0.1, float("nan")])
def test_effective_number_refuses_beta(beta: float) -> None:
    """A beta outside [0, 1) is refused, by the sampler when it is built."""
    with pytest.raises(RecipeError, match="beta is"):
        effective_number_weights([1, 2], beta)
    with pytest.raises(RecipeError, match="beta is"):
        EffectiveNumberSampler([0, 1], beta=beta)


class Fixed:
    """Stands for a generator that draws what it was given."""

    def __init__(self, *draws: float) -> None:
        self.draws = np.array(draws)

    def random(self, n: int) -> NDArray[np.float64]:
        """Return the draws."""
        assert n == len(self.draws)
        return self.draws


def test_each_image_owns_its_part_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw in [i / N, (i + 1) / N) is image i, both ends told apart, the last draw too."""
    sampler = ClassBalancedSampler([0, 1, 2, 3])
    nearly = [np.nextafter(edge, 0) for edge in (0.25, 0.5, 0.75, 1.0)]
    for draws, images in (([0.0, 0.25, 0.5, 0.75], [0, 1, 2, 3]), (nearly, [0, 1, 2, 3])):
        monkeypatch.setattr(sampler, "_generator", lambda epoch, draws=draws: Fixed(*draws))
        assert sampler.order(0).tolist() == images
    monkeypatch.setattr(sampler, "_generator", lambda epoch: Fixed(1, 1, 1, 1))  # rounded up
    assert sampler.order(0).tolist() == [3, 3, 3, 3]


def test_orders_are_those_of_the_seed_the_stream_and_the_epoch() -> None:
    """Orders that runs were made with stay what they were: numpy's for (seed, 1716, epoch)."""
    expected = np.random.default_rng([5, 1716, 2]).permutation(100).tolist()
    assert InstanceSampler(LABELS, seed=5).order(2).tolist() == expected
    expected = np.random.default_rng([0, 1716, 0]).permutation(100).tolist()
    assert list(InstanceSampler(LABELS)) == expected


@pytest.mark.parametrize(("epochs", "balanced"), [(0, 1), (1, 1), (2, 2)])
def test_the_shortest_courses_of_the_progressive_sampler(epochs: int, balanced: int) -> None:
    """A course begins as instance sampling and is balanced at its end, also one without epochs."""
    sampler = ProgressiveSampler([0, 0, 0, 1], epochs=epochs)
    assert sampler.class_shares(0).tolist() == [0.75, 0.25]
    assert sampler.class_shares(balanced).tolist() == [0.5, 0.5]
    assert balanced == 1 or sampler.class_shares(1).tolist() == [0.625, 0.375]


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [1, 0, 2]])
def test_classes_may_be_as_many_as_images_and_no_more(labels: list[int]) -> None:
    """The number of classes is that of the labels, or what is given, if all of them have images."""
    n = max(labels) + 1
    for sampler in (ClassBalancedSampler(labels), ClassBalancedSampler(labels, n_classes=n)):
        assert sampler.counts.tolist() == np.bincount(labels).tolist()
    with pytest.raises(DataError, match=f"Class {n} has no training images"):
        ClassBalancedSampler(labels, n_classes=n + 1)
    with pytest.raises(DataError, match=f"A label is {n - 1}, and with {n - 1} classes"):
        ClassBalancedSampler(labels, n_classes=n - 1)
    with pytest.raises(DataError, match="Class 1, 2 has no training images"):
        ClassBalancedSampler([0, 0, 10**9])


@pytest.mark.parametrize(
    ("options", "words"), [({}, "must be whole numbers"), ({"n_classes": 2}, "Class 0, 1 has no")]
)
def test_no_images_at_all_are_refused(options: dict[str, int], words: str) -> None:
    """An empty array of labels gets a sentence, with and without a number of classes."""
    with pytest.raises(DataError, match=words):
        ClassBalancedSampler(np.zeros(0, np.int64), **options)
