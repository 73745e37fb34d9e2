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
from purenoise.lab import intervals as intervals
from purenoise.lab.intervals import (
    BOOTSTRAP_COVERAGE,
    FLIPS,
    bootstrap_interval,
    compare_pair,
    holm,
    paired,
    sign_flip_test,
    t_interval,
)
from purenoise.lab.power import PEEKING, flip_power, seeds_needed

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


# Student's t ----------------------------------------------------------------------------------


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
    assert t_interval([0.5]) == intervals.Estimate(1, 0.5, None, None, None)
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


# Sign flips -----------------------------------------------------------------------------------


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


# Holm -----------------------------------------------------------------------------------------


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


# Bootstrap ------------------------------------------------------------------------------------


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


# Simulation: what is promised is kept ---------------------------------------------------------


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


# Seeds that are needed ------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [2.0, 1.6, 1.3, 1.0, 0.7])
def test_so_many_seeds_do_settle_the_difference(effect):
    """With as many seeds as are named, about 80 % of comparisons come out, by either test."""
    n = seeds_needed(effect, 1.0)
    draws = np.random.default_rng(17).normal(effect, 1, (1500, n))
    by_t = (stats.ttest_1samp(draws, 0, axis=1).pvalue <= 0.05).mean()
    by_flips = np.mean([sign_flip_test(d) <= 0.05 for d in draws[: 1500 if n < 14 else 300]])
    assert by_t >= 0.77
    assert 0.75 <= by_flips <= 0.95
    if n > 6:  # and one seed less would do worse than asked
        fewer = stats.nct.sf(stats.t.ppf(0.975, n - 2), n - 2, effect * math.sqrt(n - 1))
        assert fewer < 0.8 or n <= 9  # where the exact test has less power than t


@pytest.mark.parametrize("k", [1, 5, 9])
@pytest.mark.parametrize("extra", [0, 1, 2, 3, 4])
def test_so_many_seeds_settle_one_of_several_comparisons(k, extra):
    """For the effect that so many seeds beyond the fewest find in 4 of 5 cases, they are named.

    The exact test itself is made on other draws than those behind the number.
    """
    alpha = 0.05 / k
    least = math.ceil(1 - math.log2(alpha))
    n = least + extra
    effects = np.geomspace(0.9, 2.2, 22)
    named = np.array([seeds_needed(e, 1.0, 1 - alpha) for e in effects])
    effect = effects[named == n][0]  # the smallest that is said to need so many
    draws = np.random.default_rng([k, extra]).normal(effect, 1, (1200, n))
    power = np.mean([sign_flip_test(d) <= alpha for d in draws])
    assert 0.8 - 0.04 <= power <= 0.8 + 0.04 + 0.04  # between two neighbouring effects


@pytest.mark.parametrize(("effect", "n", "alpha"), [(1.5, 6, 0.05), (1.2, 9, 0.05), (2, 9, 0.01)])
def test_simulated_power_is_that_of_the_test(effect, n, alpha):
    """The share of significant tests on draws of our own is the simulated power."""
    draws = np.random.default_rng(8).normal(effect, 1, (1500, n))
    found = np.mean([sign_flip_test(d) <= alpha for d in draws])
    assert flip_power(effect, n, alpha) == pytest.approx(found, abs=0.04)
    with pytest.raises(RunError, match="18 seeds is not simulated"):
        flip_power(1.0, 18, 0.05)


def false_findings(n_simulated: int, seed: int) -> float:
    """Add seeds of two equal methods from 6 to 17, testing each time; how often p is ever small."""
    x = np.random.default_rng(seed).standard_normal((n_simulated, 17))
    ever = np.zeros(n_simulated, bool)
    for n in range(6, 18):
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n - 1)))
        signs = np.hstack([np.ones((len(signs), 1)), signs]).astype(np.float32)
        for part in np.array_split(np.arange(n_simulated), max(1, n_simulated // 50)):
            sums = np.abs(x[part, :n].astype(np.float32) @ signs.T)
            p = (sums >= sums[:, :1] - 1e-5).mean(axis=1)
            ever[part] |= p <= 0.05
        some = x[:3, :n]
        assert [sign_flip_test(d) for d in some] == pytest.approx(
            (np.abs(some @ signs.T) >= np.abs(some.sum(1))[:, None] - 1e-5).mean(axis=1)
        )
    return float(ever.mean())


@pytest.mark.parametrize(
    ("n_simulated", "tolerance"), [(300, 0.06), pytest.param(4000, 0.01, marks=pytest.mark.long)]
)
def test_adding_seeds_until_p_is_small_is_as_wrong_as_we_say(n_simulated, tolerance):
    """Equal methods are called different nearly three times as often as at a fixed number."""
    found = false_findings(n_simulated, seed=1)
    assert found == pytest.approx(PEEKING, abs=tolerance)
    assert found > 0.07


@given(effect=st.floats(0.1, 10), unit=st.floats(0.001, 1000))
@settings(max_examples=30, deadline=None)
def test_seeds_needed_knows_no_unit_and_no_sign(effect, unit):
    """Points or shares, better or worse: the number is the same, and larger effects need less."""
    n = seeds_needed(effect, 1.0)
    assert seeds_needed(-effect, 1.0) == n
    scaled = seeds_needed(effect * unit, unit)
    assert abs((scaled or 1001) - (n or 1001)) <= 1  # by rounding
    assert (seeds_needed(1.5 * effect, 1.0) or 1001) <= (n or 1001)
    assert n is None or n >= 6


@pytest.mark.parametrize(("sd", "n"), [(0.0, 6), (1e-18, 6), (1e-3, 6), (1e9, None)])
def test_seeds_needed_at_the_ends(sd, n):
    """No spread, or one of rounding, needs the fewest seeds; a difference lost in noise, None."""
    assert seeds_needed(0.02, sd) == n
    assert seeds_needed(0.0, 1.0) is None


# Two runs on the same images ------------------------------------------------------------------


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
