"""How many seeds it takes: the power of the tests that compare methods. Imports no torch."""

from __future__ import annotations

import math

import numpy as np

from purenoise.errors import RunError
from purenoise.lab.intervals import EXACT_SEEDS, LEVEL, TIE

# How often two equal methods are called different if seeds are added, and the test made at every
# number from 6 to 17, until it says so (normal differences, 20,000 simulated comparisons).
PEEKING = 0.15
MOST_SEEDS = 1000
SMALL = 3  # up to so many seeds beyond the fewest, the power of the exact test is simulated
SIMULATED = 4000
SURE = 50.0  # an effect of so many standard deviations is seen with any number of seeds


def seeds_needed(mean: float, sd: float, level: float = LEVEL, power: float = 0.8) -> int | None:
    """Return about how many seeds would tell a difference of that size from none.

    Args:
        mean: The difference per seed that is seen.
        sd: Its standard deviation over seeds.
        level: One minus the level of the test; for k comparisons 1 - 0.05 / k.
        power: Chance of seeing a difference of that size.

    Returns:
        Seeds with which the test comes out in so large a share of cases, if the true difference and
        spread are these; at least as many as the sign-flip test needs to reach that level at all (6
        for 0.05); None if more than 1,000.

    Example:
        >>> seeds_needed(1.0, 1.0), seeds_needed(3.0, 1.0)
        (10, 6)

    Source: normal differences; up to ``SMALL`` seeds beyond the fewest the power of the exact
    sign-flip test, which is that of almost all signs being the same, then that of the t test by the
    noncentral t distribution, which the exact test nearly reaches.
    """
    from scipy import stats

    if mean == 0:
        return None
    effect = min(abs(mean) / sd, SURE) if sd > 0 else SURE
    alpha = 1 - level
    least = math.ceil(1 - math.log2(alpha) - 1e-9)  # 2^(1 - n) is the least p of n sign flips
    for n in range(least, least + SMALL + 1):
        if flip_power(effect, n, alpha) >= power:
            return n
    larger = np.arange(least + SMALL + 1, MOST_SEEDS + 1)
    bounds = stats.t.ppf((1 + level) / 2, larger - 1)
    enough = stats.nct.sf(bounds, larger - 1, effect * np.sqrt(larger)) >= power
    return int(larger[enough.argmax()]) if enough.any() else None


def flip_power(effect: float, n: int, alpha: float, seed: int = 0) -> float:
    """Return how often the exact sign-flip test finds a difference, by simulation.

    Args:
        effect: The true mean of normal differences, in their standard deviations.
        n: Seeds, at most 17.
        alpha: Level of the test.
        seed: Of the draws; the same ones for every effect.

    Example:
        >>> flip_power(50.0, 6, 0.05), flip_power(50.0, 5, 0.05)
        (1.0, 0.0)
    """
    if n > EXACT_SEEDS:
        raise RunError(f"The power of {n} seeds is not simulated; at most {EXACT_SEEDS}.")
    most = math.floor(alpha * 2 ** (n - 1) + 1e-9)  # so many flips may be as far off
    signs = 1 - 2 * (np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1)
    x = effect + np.random.default_rng([seed, n]).standard_normal((SIMULATED, n))
    found = 0
    for part in np.array_split(x, max(1, len(signs) * SIMULATED // 2**21)):
        sums = np.abs(part @ signs.T.astype(np.float64))
        found += int(((sums >= sums[:, :1] * (1 - TIE)).sum(axis=1) <= most).sum())
    return found / SIMULATED
