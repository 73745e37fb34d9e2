"""Intervals and tests over a few seeds: against SciPy, plain definitions and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from purenoise.errors import RunError
from purenoise.lab.intervals import (
    BOOTSTRAP_COVERAGE,
    FLIPS,
    Estimate,
    bootstrap_interval,
    compare_pair,
    holm,
    paired,
    sign_flip_test,
    t_interval,
)

numbers = st.floats(-100, 100).map(lambda v: round(v, 6))
seeds = st.lists(numbers, min_size=2, max_size=9)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def flips_by_hand(differences: list[float]) -> float:
    """Count all 2^n sign flips in plain Python, with sums that no order of adding changes."""
    observed = abs(math.fsum(differences))
    far = total = 0
    for signs in itertools.product((1, -1), repeat=len(differences)):
        total += 1
        there = abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True)))
        far += there >= observed or math.isclose(there, observed, rel_tol=0, abs_tol=1e-9)
    return far / total


def holm_by_hand(p: list[float]) -> list[float]:
    """Holm's correction from its definition: the smallest level at which each is rejected."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    out = [0.0] * len(p)
    for rank, i in enumerate(order):
        out[i] = max(min(1.0, (len(p) - j) * p[order[j]]) for j in range(rank + 1))
    return out


@settings(deadline=None)
@given(values=seeds, level=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_t_interval_is_scipys(values, level):
    """Mean and interval are those of scipy.stats.t.interval."""
    found = t_interval(values, level)
    assert found.n == len(values)
    assert found.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    sem = np.std(values, ddof=1) / math.sqrt(len(values))
    if sem < 1e-9:
        assert found.low == pytest.approx(found.high, abs=1e-6)
        return
    low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=sem)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


def test_paired_interval_is_that_of_the_paired_t_test():
    """The interval of differences is the one of ttest_1samp and of ttest_rel."""
    a, b = [0.90, 0.93, 0.91, 0.95], [0.89, 0.90, 0.92, 0.91]
    found = paired(a, b).estimate
    one = stats.ttest_1samp(np.subtract(a, b), 0).confidence_interval(0.95)
    two = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((one.low, one.high))
    assert (found.low, found.high) == pytest.approx((two.low, two.high))


def test_one_seed_has_a_mean_and_no_interval():
    """With one seed nothing is claimed beyond the number itself."""
    assert t_interval([0.5]) == Estimate(1, 0.5, None, None, None)
    found = paired([0.5], [0.4])
    assert found.p is None
    assert found.estimate.low is None
    assert found.least_p == 1


def test_equal_values_have_an_interval_of_no_width():
    """Equal numbers have a deviation of exactly 0, though their rounded mean is another number."""
    assert np.mean([0.1] * 3) != 0.1
    found = t_interval([0.1] * 3)
    assert (found.mean, found.sd, found.low, found.high) == (0.1, 0.0, 0.1, 0.1)
    found = bootstrap_interval([0.1] * 10)
    assert (found.mean, found.sd, found.low, found.high) == (0.1, 0.0, 0.1, 0.1)


@settings(deadline=None)
@given(values=seeds, shift=numbers, scale=st.floats(0.01, 100))
def test_t_interval_moves_with_the_values(values, shift, scale):
    """Adding and multiplying does to the interval what it does to the values."""
    before, after = t_interval(values), t_interval(scale * np.array(values) + shift)
    wanted = [scale * before.low + shift, scale * before.high + shift]
    assert [after.low, after.high] == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf]])
def test_what_is_not_one_finite_number_per_seed_is_refused(values):
    """No values, a table, or a number that is not finite gets a sentence."""
    with pytest.raises(RunError, match="number"):
        t_interval(values)


def test_seeds_that_do_not_pair_are_refused():
    """Three seeds cannot be paired with two."""
    with pytest.raises(RunError, match="3 seeds cannot be paired with 2"):
        paired([1, 2, 3], [1, 2])


@settings(deadline=None)
@given(differences=st.lists(numbers, min_size=1, max_size=8))
def test_sign_flips_are_counted_exactly(differences):
    """The p value is the share of all 2^n flips that are at least as far from 0."""
    assert sign_flip_test(differences) == flips_by_hand(differences)


@settings(max_examples=25, deadline=None)
@given(differences=st.lists(numbers, min_size=2, max_size=8).filter(lambda d: any(d)))
def test_sign_flips_are_scipys(differences):
    """The p value is that of scipy.stats.permutation_test, where it sees ties as we do."""

    def mean(x, axis):
        return np.round(x.mean(axis=axis), 9)

    found = stats.permutation_test(
        (differences,), mean, permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert sign_flip_test(differences) == pytest.approx(found.pvalue)


def test_ties_of_rounded_numbers_count():
    """0.1 + 0.2 - 0.3 is 0 in decimals and not in binary: sums that should be equal count."""
    assert 0.1 + 0.2 != 0.3
    assert sign_flip_test([0.1, 0.2, -0.3]) == 1.0
    assert sign_flip_test([0.1, 0.2, 0.3]) == 2 / 8
    assert sign_flip_test([0.3, 0.3, -0.6]) == 1.0
    # As differences of accuracies are: 0.9 - 0.2 is not 0.7.
    differences = np.array([0.9, 0.8, 0.7]) - np.array([0.2, 0.9, 0.6])
    assert sign_flip_test(differences) == flips_by_hand([0.7, -0.1, 0.1]) == 0.75


@settings(deadline=None)
@given(
    differences=st.lists(numbers, min_size=1, max_size=7),
    power=st.integers(-40, 40),
    order=st.randoms(use_true_random=False),
)
def test_size_sign_and_order_do_not_matter(differences, power, order):
    """The p value is the same for differences of any unit, sign and order."""
    p = sign_flip_test(differences)
    assert sign_flip_test([-d for d in differences]) == p
    assert sign_flip_test([d * 2.0**power for d in differences]) == p
    order.shuffle(differences)
    assert sign_flip_test(differences) == p


@pytest.mark.parametrize("n", [1, 2, 5, 6, 17])
def test_the_least_p_is_reached_by_equal_signs_and_is_never_missed(n):
    """If all seeds agree, p is the least there is: 2^(1-n)."""
    found = paired(np.arange(1.0, n + 1), np.zeros(n))
    assert found.exact
    assert found.least_p == 2.0 ** (1 - n)
    assert found.p == (None if n == 1 else found.least_p)


def test_with_many_seeds_flips_are_drawn():
    """Beyond 17 seeds p comes from drawn flips, the same ones each time, and is never 0."""
    values = np.random.default_rng(0).normal(0.4, 1, 20)
    found = paired(values, np.zeros(20))
    assert not found.exact
    sums = np.zeros(1)  # of all 2^20 flips, adding one seed at a time
    for v in values:
        sums = np.concatenate([sums + v, sums - v])
    exact = (np.abs(sums) >= abs(values.sum()) - 1e-9).mean()
    assert found.p == pytest.approx(exact, abs=4 * math.sqrt(exact / FLIPS))
    assert found.p == sign_flip_test(values)
    sure = paired(np.ones(40), np.zeros(40))
    assert sure.p == sure.least_p == 1 / (FLIPS + 1)


def test_no_difference_at_all_has_p_1():
    """A method compared with itself differs by nothing, surely."""
    assert paired([0.9] * 5, [0.9] * 5).p == 1.0


@settings(deadline=None)
@given(p=p_values)
def test_holm_is_its_definition(p):
    """Holm's correction equals the definition, written out."""
    assert holm(p).tolist() == pytest.approx(holm_by_hand(p))


@settings(deadline=None)
@given(p=p_values)
def test_holm_lies_between_no_correction_and_bonferroni(p):
    """Corrected values keep the order, and lie between p and k p."""
    found = holm(p)
    assert (found >= np.array(p) - 1e-15).all()
    assert (found <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    assert (np.diff(found[np.argsort(p)]) >= 0).all()


def test_holm_of_nothing_is_nothing():
    """No comparison needs no correction."""
    assert holm([]).tolist() == []


def test_bootstrap_is_refused_below_10_seeds():
    """With few seeds the bootstrap's interval is too short to be shown."""
    with pytest.raises(RunError, match="9 seeds gives intervals that are too short; it needs 10"):
        bootstrap_interval(range(9))


def test_bootstrap_is_repeatable_and_holds_the_mean():
    """The same seed gives the same interval, around the mean, near Student's for many values."""
    values = np.random.default_rng(3).normal(size=200)
    found = bootstrap_interval(values, seed=1)
    assert found == bootstrap_interval(values, seed=1)
    student = t_interval(values)
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=0.02)


@pytest.mark.long
def test_what_the_bootstrap_covers_is_what_we_say():
    """Of 4,000 BCa intervals over 10 normal values, BOOTSTRAP_COVERAGE hold the true mean."""
    draws = np.random.default_rng(0)
    held = 0
    for i in range(4000):
        found = bootstrap_interval(draws.normal(size=10), seed=i)
        held += found.low <= 0 <= found.high
    assert held / 4000 == pytest.approx(BOOTSTRAP_COVERAGE, abs=0.01)


def simulate(n, noise, n_comparisons=2000, gain=0.7):
    """Compare two methods whose true difference is ``gain``; seeds share part of their noise."""
    held = wrong = 0
    for shared, a, b in zip(*(noise((n_comparisons, n)) for _ in range(3)), strict=True):
        interval = paired(gain + shared + a, shared + b).estimate
        held += interval.low <= gain <= interval.high
        wrong += paired(shared + a, shared + b).p <= 0.05
    return held / n_comparisons, wrong / n_comparisons


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_normal_seeds_cover_95_percent(n):
    """Of 2,000 simulated comparisons 95 % +- 1.5 points hold the true difference."""
    covered, wrong = simulate(n, np.random.default_rng(n).standard_normal)
    assert covered == pytest.approx(0.95, abs=0.015)
    assert wrong <= 0.05 + 0.015
    if n < 6:
        assert wrong == 0  # fewer than 6 seeds cannot reach 0.05, and never do


def test_skewed_seeds_are_covered_less_surely(record_property):
    """Skewed noise is reported: paired differences of it are symmetric, single means are not."""
    draws = np.random.default_rng(5)
    covered, _ = simulate(5, lambda size: draws.exponential(1, size))
    record_property("coverage of differences, 5 seeds, exponential noise", float(covered))
    assert covered > 0.93  # a difference of two equally skewed numbers is symmetric
    held = [e.low <= 1 <= e.high for e in map(t_interval, draws.exponential(1, (2000, 5)))]
    record_property("coverage of means, 5 seeds, exponential noise", float(np.mean(held)))
    assert 0.8 < np.mean(held) < 0.93


@given(right=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_two_runs_are_compared_by_mcnemar(right):
    """Counts are by hand, p is the exact binomial test, summed up in plain Python."""
    a, b = (np.array(side) for side in zip(*right, strict=True))
    found = compare_pair(a, b)
    first = sum(x and not y for x, y in right)
    second = sum(y and not x for x, y in right)
    assert (found.n, found.only_first, found.only_second) == (len(right), first, second)
    assert found.difference == pytest.approx((first - second) / len(right))
    n, k = first + second, min(first, second)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert found.low <= found.difference + 1e-12
    assert found.difference <= found.high + 1e-12


def test_the_interval_over_images_is_the_large_sample_one():
    """With many images the bootstrap interval is the normal one of paired shares."""
    draws = np.random.default_rng(2)
    a, b = draws.random(10_000) < 0.8, draws.random(10_000) < 0.78
    found = compare_pair(a, b)
    difference = a.astype(float) - b
    half = stats.norm.ppf(0.975) * difference.std() / 100
    wanted = difference.mean() - half, difference.mean() + half
    assert (found.low, found.high) == pytest.approx(wanted, abs=0.001)
    swapped = compare_pair(b, a)
    assert swapped.p == found.p
    assert swapped.difference == -found.difference


@pytest.mark.parametrize(("a", "b"), [([], []), ([True], [True, False]), ([[True]], [[True]])])
def test_runs_on_other_images_are_refused(a, b):
    """Two runs are compared image by image, or not at all."""
    with pytest.raises(RunError, match="cannot be compared"):
        compare_pair(a, b)
