"""What may be concluded from a comparison, in sentences. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from purenoise.lab.comparison import Comparison, Difference
from purenoise.lab.intervals import LEVEL, Estimate
from purenoise.lab.records import ACCURACY

FEWEST = 5  # seeds from which on it is said how many would settle a difference
WHOLE = 2  # differences that get whole sentences; of more, what they have in common is said once
SEEN = "if the true difference and spread are those seen"


def verdict(difference: Difference) -> str:
    """Say in one sentence what may be concluded from a difference."""
    found = difference.headline
    name = f"{difference.label} against {difference.baseline}"
    if found is None:
        return f"{name}: not measured."
    e = found.estimate
    if e.low is None or e.high is None:
        return f"{name}: {_size(difference, e)} over one seed; nothing can be concluded from it."
    if e.sd == 0 and e.mean == 0:
        return f"{name}: no difference in any of {e.n} seeds."
    text = f"{name}: {_size(difference, e)}, {_spread(e)}, {e.n} seeds"
    shown = f"p = {_p(difference):.3g}" + " after Holm's correction" * (difference.comparisons > 1)
    if _is_settled(difference):
        return f"{text}, {shown}: {_sign(difference)}."
    needed = _needed(difference)
    if _is_hopeless(difference):
        among = f" and {difference.comparisons} comparisons" if difference.comparisons > 1 else ""
        least = f"with {e.n} seeds{among} the exact test cannot go below p = {_least(difference)}"
        if e.sd and (e.low > 0 or e.high < 0):
            return f"{text}; the interval leaves out 0, but {least}.{needed}"
        return f"{text}. Not settled: {least}.{needed}"
    return f"{text}, {shown}. Not settled.{needed}"


def verdicts(comparison: Comparison) -> list[str]:
    """Say what may be concluded: over all differences, if there are several, then one by one."""
    differences = comparison.differences
    if not differences:
        return _nothing(comparison)
    if len(differences) <= WHOLE:
        return [*_overall(comparison), *map(verdict, differences)]
    said = [*_overall(comparison), *map(_brief, differences)]
    k = differences[0].comparisons
    if k > 1 and any(map(_has_p, differences)):
        said.append(f"Each p is after Holm's correction for {k} comparisons.")
    if any(_is_guessed(d) for d in differences):
        said.append(
            f"Numbers of seeds that would settle a difference hold in 4 of 5 cases, {SEEN}."
        )
    return said


def _nothing(comparison: Comparison) -> list[str]:
    """Say why there is nothing to compare; of one run nobody expected it."""
    if len(comparison.records) == 1:
        return []
    if len(comparison.rows) == 1:
        return [f"{comparison.baseline}: nothing to compare it with."]
    return [
        f"No method has a seed in common with the baseline {comparison.baseline}: nothing can be "
        "compared."
    ]


def _overall(comparison: Comparison) -> list[str]:
    """Say which differences are settled; and if none can be, why."""
    differences = comparison.differences
    if len(differences) < 2:
        return []
    settled = [f"{d.label} is {_sign(d)}" for d in differences if _is_settled(d)]
    against, k = f"Against {comparison.baseline}, ", len(differences)
    if settled:
        verb = "is" if len(settled) == 1 else "are"
        return [f"{against}{len(settled)} of {k} differences {verb} settled: {_joined(settled)}."]
    why = ""
    n = max((d.headline.estimate.n for d in differences if d.headline), default=0)
    if n == 1:
        why = ": over one seed no p can be had"
    elif all(map(_is_hopeless, differences)) and len({_least(d) for d in differences}) == 1:
        why = (f": with {n} seeds and {differences[0].comparisons} comparisons the exact test "
               f"cannot go below p = {_least(differences[0])}")  # fmt: skip
    return [f"{against}none of {k} differences is settled{why}."]


def _brief(difference: Difference) -> str:
    """Say the same as :func:`verdict` without what is common to several differences."""
    found = difference.headline
    if found is None or not _has_p(difference):
        return verdict(difference)
    e = found.estimate
    if _is_settled(difference):
        end = f"{_sign(difference)} (p = {_p(difference):.3g})"
    else:
        end = f"not settled (p = {_p(difference):.3g})"
        if _is_guessed(difference):
            more = "more than 1,000" if difference.needed is None else f"about {difference.needed}"
            end += f", {more} seeds would settle it"
    return f"{difference.label}: {_size(difference, e)}, {_spread(e)}, {e.n} seeds: {end}."


def points(value: float) -> str:
    """Return a difference of accuracies in percentage points, with its sign."""
    return f"{100 * value:+.2f}"


def _size(difference: Difference, e: Estimate) -> str:
    kind = "" if difference.about == ACCURACY else f" of {difference.about}"
    return f"{points(e.mean)} points{kind}"


def _spread(e: Estimate) -> str:
    if e.sd == 0:  # to the image: there is no spread to make an interval of
        return "the same"
    return f"95 % interval {points(e.low or 0)} to {points(e.high or 0)}"


def _joined(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def _has_p(difference: Difference) -> bool:
    """Whether there is a p, and its sentence says it: not where nothing differs at all."""
    e = difference.headline.estimate if difference.headline else None
    return e is not None and e.n > 1 and not e.sd == e.mean == 0


def _p(difference: Difference) -> float:
    """The corrected p; 1 for one seed, which settles nothing."""
    return 1.0 if difference.p_holm is None else difference.p_holm


def _least(difference: Difference) -> str:
    return f"{1.0 if difference.least_p is None else difference.least_p:.3g}"


def _is_settled(difference: Difference) -> bool:
    return _p(difference) <= 1 - LEVEL


def _is_hopeless(difference: Difference) -> bool:
    """Whether so many seeds cannot settle any difference."""
    return difference.least_p is None or difference.least_p > 1 - LEVEL


def _sign(difference: Difference) -> str:
    found = difference.headline
    return "better" if found is not None and found.estimate.mean > 0 else "worse"


def _is_guessed(difference: Difference) -> bool:
    """Whether it is said how many seeds would do: not where the spread is hardly known.

    Nor where the mean is 0: no number of seeds settles a difference that is not there.
    """
    found = difference.headline
    return (found is not None and found.estimate.n >= FEWEST and found.estimate.mean != 0
            and not _is_settled(difference))  # fmt: skip


def _needed(difference: Difference) -> str:
    """Say how many seeds would settle a difference, where that can be guessed."""
    if not _is_guessed(difference):
        return ""
    if difference.needed is None:
        return f" More than 1,000 seeds would be needed, {SEEN}."
    return f" About {difference.needed} seeds would settle it in 4 of 5 cases, {SEEN}."
