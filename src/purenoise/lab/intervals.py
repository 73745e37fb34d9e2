"""What a few seeds can say: intervals and paired tests.

Few numbers are at hand (3 to 10 seeds), so the methods are those that keep their promise there:
Student's t for intervals, exact sign flips for tests. A bootstrap of few numbers covers far less
than it says; it is refused below 10, and what it covers then is in ``BOOTSTRAP_COVERAGE``. SciPy
knows the distributions. Imports no torch.

All of it holds for the subset and the test images that were used: seeds vary, these do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from purenoise.errors import RunError

LEVEL = 0.95
EXACT_SEEDS = 17  # up to here all sign flips are looked at: 2^16, as a flip of all changes nothing
FLIPS = 99_999  # beyond, as many are drawn
CHUNK = 10_000  # flips at a time
TIE = 1e-12  # of the sum of sizes: sums that differ by less differ by rounding
BOOTSTRAP_SEEDS = 10
# Share of 95 % intervals (BCa, 10 normal values, 4,000 simulated samples) that hold the true mean.
BOOTSTRAP_COVERAGE = 0.90


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Args:
        n: Seeds.
        mean: Of the values.
        sd: Standard deviation over seeds (n - 1); None for one seed.
        low: Lower end of the 95 % interval of the mean; None for one seed.
        high: Upper end.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """A difference between two methods, seed by seed.

    Args:
        estimate: Mean difference and its interval.
        p: Exact two-sided sign-flip test of no difference; None for one seed.
        least_p: The smallest p that so many seeds can give.
        exact: Whether all sign flips were looked at.
    """

    estimate: Estimate
    p: float | None
    least_p: float
    exact: bool


def t_interval(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """Return mean, standard deviation and Student's t interval of the mean.

    Args:
        values: One number per seed, shape (n,).
        level: Of the interval.

    Raises:
        RunError: If there are no values, or one is not finite.

    Example:
        >>> found = t_interval([1.0, 2.0, 3.0])
        >>> found.mean, round(found.low, 3), round(found.high, 3)
        (2.0, -0.484, 4.484)
    """
    from scipy import stats

    x = _values(values)
    n, (mean, sd) = len(x), _moments(x)
    if n == 1:
        return Estimate(1, mean, None, None, None)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half)


def bootstrap_interval(values: ArrayLike, level: float = LEVEL, seed: int = 0) -> Estimate:
    """Return mean, standard deviation and the BCa bootstrap interval of the mean.

    Args:
        values: One number per seed, at least 10.
        level: Of the interval. What is kept of 95 %: ``BOOTSTRAP_COVERAGE``.
        seed: Of the resampling.

    Raises:
        RunError: If there are fewer than 10 values, for which the interval is far too short.
    """
    from scipy import stats

    x = _values(values)
    if len(x) < BOOTSTRAP_SEEDS:
        raise RunError(
            f"A bootstrap over {len(x)} seeds gives intervals that are too short; it needs "
            f"{BOOTSTRAP_SEEDS}.",
            "Use the t interval.",
        )
    mean, sd = _moments(x)
    if sd == 0:
        return Estimate(len(x), mean, sd, mean, mean)
    draws = np.random.default_rng(seed)
    found = stats.bootstrap((x,), np.mean, confidence_level=level, method="BCa", random_state=draws)
    low, high = found.confidence_interval
    return Estimate(len(x), mean, sd, float(low), float(high))


def paired(values: ArrayLike, baseline: ArrayLike, level: float = LEVEL) -> Paired:
    """Compare two methods that ran with the same seeds.

    Args:
        values: One number per seed, shape (n,).
        baseline: Of the other method, the same seeds in the same order.
        level: Of the interval.

    Raises:
        RunError: If the shapes differ, or there are no values.

    Example:
        >>> found = paired([3.0, 5.0, 6.0], [1.0, 2.0, 4.0])
        >>> found.p, found.least_p
        (0.25, 0.25)
    """
    a, b = _values(values), _values(baseline)
    if a.shape != b.shape:
        raise RunError(f"{len(a)} seeds cannot be paired with {len(b)}.")
    differences = a - b
    n = len(differences)
    p = None if n == 1 else sign_flip_test(differences)
    exact = n <= EXACT_SEEDS
    least_p = 2.0 ** (1 - n) if exact else 1 / (FLIPS + 1)
    return Paired(t_interval(differences, level), p, least_p, exact)


def sign_flip_test(differences: ArrayLike, seed: int = 0) -> float:
    """Return the two-sided p of no difference: how many sign flips give a mean at least as far off.

    Args:
        differences: One number per seed, shape (n,).
        seed: Of the flips, if there are too many to look at all.

    Source: Fisher's randomisation test for pairs. It assumes that without a difference either sign
    was as likely, and nothing about the shape of the distribution. Where flips are drawn, the
    observed signs count as one of them, so that p is never 0 and never too small.
    """
    x = _values(differences)
    scale = float(np.abs(x).max())
    if scale == 0:
        return 1.0
    x = x / scale  # so that no size is too small or too large for the arithmetic
    # Equal sums must count as equal in whatever order they were added.
    bound = abs(float(x.sum())) - TIE * float(np.abs(x).sum())
    if len(x) <= EXACT_SEEDS:
        # One sign stays: flipping all signs gives the same distance from 0.
        return _as_far(x, np.arange(2 ** (len(x) - 1), dtype=np.int64), bound) / 2 ** (len(x) - 1)
    draws = np.random.default_rng(seed)
    far = 0
    for start in range(0, FLIPS, CHUNK):
        signs = draws.integers(0, 2, (min(CHUNK, FLIPS - start), len(x)), np.int8)
        far += int((np.abs(x.sum() - 2 * (signs @ x)) >= bound).sum())
    return (far + 1) / (FLIPS + 1)


def _as_far(x: NDArray[np.float64], codes: NDArray[np.int64], bound: float) -> int:
    """Count the flips, bits of whole numbers, whose sum is at least ``bound`` from 0."""
    flipped = codes[:, None] >> np.arange(len(x)) & 1
    return int((np.abs(x.sum() - 2 * (flipped @ x)) >= bound).sum())


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p values corrected for having made all these comparisons.

    Args:
        p_values: Shape (k,).

    Returns:
        Shape (k,), each at least as large as it was and at most 1.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]

    Source: Holm 1979: sorted, the i-th smallest of k times k - i + 1, never falling.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(1.0, raised)
    return out


@dataclass(frozen=True)
class PairOfRuns:
    """Two runs on the same test images.

    Args:
        n: Test images.
        only_first: Images that only the first run has right.
        only_second: Images that only the second run has right.
        p: Exact McNemar test.
        difference: Accuracy of the first minus that of the second.
        low: Lower end of its 95 % bootstrap interval over test images.
        high: Upper end.
    """

    n: int
    only_first: int
    only_second: int
    p: float
    difference: float
    low: float
    high: float


def compare_pair(
    first: NDArray[np.bool_], second: NDArray[np.bool_], level: float = LEVEL, seed: int = 0
) -> PairOfRuns:
    """Compare two single runs over the images that they were tested on.

    This says whether *these two networks* differ, which two seeds of one method do as well; only
    several seeds say whether methods do.

    Args:
        first: Which test images the first run has right, bool of shape (N,).
        second: Which the second has right, the same images in the same order.
        level: Of the interval.
        seed: Of the resampling.

    Raises:
        RunError: If the shapes differ or are empty.

    Source: McNemar 1947, in the exact binomial form.
    """
    from scipy import stats

    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise RunError(f"Two runs with {a.shape} and {b.shape} test images cannot be compared.")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    # Resampling images is drawing how many of each kind of disagreement there are.
    draws = np.random.default_rng(seed)
    shares = np.array([only_a, only_b, len(a) - only_a - only_b]) / len(a)
    drawn = draws.multinomial(len(a), shares, size=20_000)
    differences = (drawn[:, 0] - drawn[:, 1]) / len(a)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return PairOfRuns(
        len(a), only_a, only_b, p, (only_a - only_b) / len(a), float(low), float(high)
    )


def _values(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or len(x) == 0:
        raise RunError(f"One number per seed is needed, got shape {x.shape}.")
    if not np.isfinite(x).all():
        raise RunError("One of the numbers to compare is not finite.")
    return x


def _moments(x: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1); equal numbers have none, not one of rounding."""
    if np.ptp(x) == 0:
        return float(x[0]), 0.0
    return float(x.mean()), float(x.std(ddof=1))
