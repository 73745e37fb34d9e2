"""What may be concluded from a comparison, in sentences. Imports no torch."""

from __future__ import annotations

from purenoise.lab.comparison import Comparison, Difference
from purenoise.lab.intervals import LEVEL

FEWEST = 5  # seeds from which on it is said how many would settle a difference


def verdict(difference: Difference) -> str:
    """Say in one sentence what may be concluded from a difference in accuracy."""
    found = difference.headline
    name = f"{difference.label} against {difference.baseline}"
    if found is None:
        return f"{name}: not measured."
    e = found.estimate
    if e.low is None or e.high is None:
        return f"{name}: {points(e.mean)} points with one seed; nothing can be concluded from it."
    if e.sd == 0 and e.mean == 0:
        return f"{name}: no difference in any of {e.n} seeds."
    agree = e.sd == 0  # to the image: there is no spread to make an interval of
    spread = "the same" if agree else f"95 % interval {points(e.low)} to {points(e.high)}"
    text = f"{name}: {points(e.mean)} points, {spread}, {e.n} seeds"
    beyond = not agree and (e.low > 0 or e.high < 0)
    needed = _needed(difference, e.n)
    least_p = min(1.0, difference.comparisons * found.least_p)
    if least_p > 1 - LEVEL:
        among = f" and {difference.comparisons} comparisons" if difference.comparisons > 1 else ""
        least = f"with {e.n} seeds{among} the exact test cannot go below p = {least_p:.3g}"
        if beyond:
            return f"{text}; the interval leaves out 0, but {least}.{needed}"
        return f"{text}. Not settled: {least}.{needed}"
    p = difference.p_holm if difference.p_holm is not None else found.p
    shown = f"p = {p:.2g} after Holm's correction"
    if _is_settled(difference):
        return f"{text}, {shown}: {_sign(difference)}."
    return f"{text}, {shown}. Not settled.{needed}"


def verdicts(comparison: Comparison) -> list[str]:
    """Say what may be concluded: over all differences, if there are several, then one by one."""
    differences = comparison.differences
    settled = [d for d in differences if _is_settled(d)]
    said = []
    if len(differences) > 1:
        which = [f"{d.label} is {_sign(d)}" for d in settled]
        names = " and ".join(filter(None, [", ".join(which[:-1]), *which[-1:]]))
        n, k = len(settled), len(differences)
        said = [
            f"Against {comparison.baseline}, {n} of {k} differences "
            f"{'is' if n == 1 else 'are'} settled: {names}."
            if settled
            else f"Against {comparison.baseline}, none of {k} differences is settled."
        ]
    return said + [verdict(difference) for difference in differences]


def _is_settled(difference: Difference) -> bool:
    p = difference.p_holm
    return p is not None and p <= 1 - LEVEL


def _sign(difference: Difference) -> str:
    found = difference.headline
    return "better" if found is not None and found.estimate.mean > 0 else "worse"


def points(value: float) -> str:
    """Return a difference of accuracies in percentage points, with its sign."""
    return f"{100 * value:+.2f}"


def _needed(difference: Difference, n: int) -> str:
    """Say how many seeds would settle a difference; nothing where the spread is hardly known."""
    if n < FEWEST:
        return ""
    seen = "if the true difference and spread are those seen"
    if difference.needed is None:
        return f" More than 1,000 seeds would be needed, {seen}."
    return f" About {difference.needed} seeds would settle it in 4 of 5 cases, {seen}."
