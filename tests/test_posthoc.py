"""Temperature and class offsets: against grids, general optimisers and what theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from purenoise.errors import DataError, RecipeError
from purenoise.posthoc.fitting import fit_offsets, fit_temperature


def nll_by_hand(z, y, weights) -> float:
    """The weighted negative log-likelihood, row by row."""
    total = 0.0
    for row, label, weight in zip(z, y, weights, strict=True):
        total += weight * (math.log(sum(math.exp(v) for v in row)) - row[label])
    return total


def balanced(y) -> list[float]:
    """Weights that give each class that is there the same share."""
    there = sorted(set(y.tolist()))
    return [1 / len(there) / int((y == label).sum()) for label in y]


def made_up(seed: int = 0, n: int = 120, shares=(0.7, 0.2, 0.1)):
    """Overconfident logits of three classes, with labels of unequal shares."""
    draws = np.random.default_rng(seed)
    y = draws.choice(len(shares), n, p=shares)
    z = draws.normal(0, 1, (n, len(shares))) + 1.2 * np.eye(len(shares))[y] + np.log(shares)
    return 3 * z, y


# Temperature ----------------------------------------------------------------------------------


@pytest.mark.parametrize("as_it_is", [False, True])
def test_temperature_is_the_best_of_a_grid(as_it_is):
    """No temperature of a fine grid has a lower likelihood loss, computed row by row."""
    z, y = made_up()
    weights = [1 / len(y)] * len(y) if as_it_is else balanced(y)
    found = fit_temperature(z, y, "as it is" if as_it_is else None)
    grid = np.exp(np.linspace(math.log(0.3), math.log(10), 400))
    losses = [nll_by_hand(z / t, y, weights) for t in grid]
    best = int(np.argmin(losses))
    assert grid[best - 1] < found.value < grid[best + 1]
    assert found.nll[1] <= min(losses) + 1e-12
    assert found.nll[0] == pytest.approx(nll_by_hand(z, y, weights))
    assert found.determined


def test_a_temperature_that_was_put_in_is_found():
    """Labels drawn from the softmax of logits / 2.5 give a temperature of 2.5."""
    draws = np.random.default_rng(1)
    z = draws.normal(0, 4, (40_000, 5))
    p = np.exp(z / 2.5 - (z / 2.5).max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    y = (p.cumsum(1) < draws.random((len(p), 1))).sum(1)
    assert fit_temperature(z, y, "as it is").value == pytest.approx(2.5, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.2, 5))
def test_temperature_follows_the_scale_of_the_logits(seed, scale):
    """Logits that are k times as large need k times the temperature."""
    z, y = made_up(seed)
    one, other = fit_temperature(z, y), fit_temperature(scale * z, y)
    if one.determined and other.determined:
        assert other.value == pytest.approx(scale * one.value, rel=1e-4)
        assert other.nll[1] == pytest.approx(one.nll[1], rel=1e-6)


def test_images_that_are_all_right_determine_no_temperature():
    """Without a mistake the best temperature is 0: nothing is changed, and it is said."""
    found = fit_temperature([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    assert (found.value, found.determined) == (1.0, False)
    assert found.nll[0] == found.nll[1]
    wrong = fit_temperature([[1.0, 0.0], [0.0, 1.0]], [1, 0])  # the best would be infinity
    assert (wrong.value, wrong.determined) == (1.0, False)


def test_wanted_shares_weigh_the_classes():
    """With all weight on one class, only its images count."""
    z, y = made_up()
    alone = y == 2
    by_share = fit_temperature(z, y, [0, 0, 1]).value
    assert by_share == pytest.approx(fit_temperature(z[alone], y[alone], "as it is").value)


# Offsets --------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), l2=st.sampled_from([0.1, 1.0, 10.0]))
def test_offsets_are_the_minimum_of_the_objective(seed, l2):
    """Optimisers without gradients, on the objectives written row by row, find no better."""
    z, y = made_up(seed, n=40)
    if len(set(y.tolist())) < 3:
        return
    counts = np.array([70, 20, 10])
    along = -np.log(counts / counts.sum())
    weights, images = balanced(y), [int((y == c).sum()) for c in range(3)]
    found = fit_offsets(z, y, counts, l2=l2)
    t = found.strength
    near = [nll_by_hand(z + s * along, y, weights) for s in (t - 0.01, t, t + 0.01)]
    assert near[1] < min(near[0], near[2])

    def objective(r):
        held = sum(v * v / 3 / n for v, n in zip(r, images, strict=True))
        return nll_by_hand(z + t * along + r, y, weights) + l2 / 2 * held

    # Offsets are centred; of all remainders that differ by a constant the penalty prefers one.
    r = np.array(found.values) - t * along
    r -= np.average(r, weights=1 / np.array(images))
    best = optimize.minimize(objective, np.zeros(3), method="Powell",
                             options={"xtol": 1e-7, "ftol": 1e-11})  # fmt: skip
    assert objective(r) <= best.fun + 1e-7
    assert found.nll[1] <= found.nll[0] + 1e-12
    assert sum(found.values) == pytest.approx(0, abs=1e-9)


def gaussians(n_per_class, seed):
    """Two-dimensional normal classes with known densities: images x and labels y."""
    draws = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
    y = np.repeat(np.arange(3), n_per_class)
    x = centres[y] + draws.normal(0, 1, (len(y), 2))
    log_density = -((x[:, None] - centres) ** 2).sum(2) / 2
    return log_density, y


def test_offsets_find_the_bayes_rule_for_balanced_classes():
    """Logits with the training's prior in them get it taken out: strength 1, no remainder."""
    counts = np.array([900, 90, 10])
    log_density, y = gaussians([9000, 900, 100], seed=0)
    found = fit_offsets(log_density + np.log(counts / 1000), y, counts)
    wanted = -np.log(counts)
    assert np.array(found.values) == pytest.approx(wanted - wanted.mean(), abs=0.35)
    assert found.strength == pytest.approx(1, abs=0.15)
    test_density, test_y = gaussians([3000, 3000, 3000], seed=1)
    bayes = (test_density.argmax(1) == test_y).mean()
    biased = test_density + np.log(counts / 1000)
    after = ((biased + found.values).argmax(1) == test_y).mean()
    assert (biased.argmax(1) == test_y).mean() < bayes - 0.1
    assert after > bayes - 0.01


def test_few_images_move_offsets_little():
    """The odd single image of a class moves it less, the larger the penalty; in the end, not."""
    counts = np.array([900, 90, 10])
    log_density, y = gaussians([900, 90, 1], seed=3)
    z = log_density + np.log(counts / 1000)
    z[-1] = [0.0, 0.0, -8.0]  # the one image of the rarest class is far off
    adjusted = found_without_remainder(z, y, counts)

    def moved(l2):
        return fit_offsets(z, y, counts, l2=l2).values[2] - adjusted[2]

    assert moved(1e-6) > moved(1.0) > moved(10.0) > 0.5
    assert moved(1e6) == pytest.approx(0, abs=0.01)


def found_without_remainder(z, y, counts):
    """Offsets of logit adjustment alone, with its strength from a grid."""
    along = -np.log(counts / counts.sum())
    along = along - along.mean()
    strengths = np.linspace(-1, 6, 7001)
    losses = []
    weights = np.array(balanced(y))
    for t in strengths:
        shifted = z + t * along
        top = shifted.max(1)
        log_p = shifted[np.arange(len(y)), y] - top - np.log(np.exp(shifted.T - top).sum(0))
        losses.append(-(weights @ log_p))
    return (strengths[int(np.argmin(losses))] * along).tolist()


def test_a_class_without_images_gets_logit_adjustment():
    """A class that cannot be measured is neither pushed away nor forgotten: t log pi, and named."""
    counts = np.array([900, 90, 10])
    log_density, y = gaussians([900, 90, 0], seed=3)
    found = fit_offsets(log_density + np.log(counts / 1000), y, counts)
    assert found.without_images == (2,)
    along = -np.log(counts / counts.sum())
    assert found.strength == pytest.approx(1, abs=0.2)
    gap = found.values[2] - found.values[1]
    assert gap == pytest.approx(found.strength * (along[2] - along[1]), abs=0.3)


def test_equal_counts_leave_the_strength_alone():
    """With equal shares in training there is no direction to adjust along."""
    z, y = made_up()
    found = fit_offsets(z, y, [5, 5, 5])
    assert found.strength == 0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "no validation images"),
        (np.zeros((2, 3)), np.zeros(3, int), "do not fit"),
        (np.full((2, 3), np.nan), np.zeros(2, int), "not finite"),
        (np.zeros((2, 3)), np.array([0, 3]), "from 0 to 2"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "from 0 to 2"),
    ],
)
def test_what_cannot_be_fitted_on_is_refused(logits, labels, message):
    """Shapes, labels and logits that make no sense get a sentence."""
    for fit in (fit_temperature, lambda z, y: fit_offsets(z, y, [3, 2, 1])):
        with pytest.raises(DataError, match=message):
            fit(logits, labels)


def test_priors_and_penalties_are_checked():
    """A prior of another length, words that mean nothing, and a penalty of 0 are refused."""
    z, y = made_up()
    with pytest.raises(DataError, match="3 numbers, one per class"):
        fit_temperature(z, y, [0.5, 0.5])
    with pytest.raises(DataError, match="No class that is wanted"):
        fit_temperature(z[y == 0], y[y == 0], [0, 1, 1])
    with pytest.raises(DataError, match="give shares"):
        fit_temperature(z, y, "unifrom")
    with pytest.raises(DataError, match="training prior must have 3 numbers above 0"):
        fit_offsets(z, y, [1, 0, 1])
    with pytest.raises(RecipeError, match="above 0"):
        fit_offsets(z, y, [3, 2, 1], l2=0.0)
