"""Sentences of docs/pitfalls.md whose numbers come from rows of trained runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from results.rows import HERE
from results.rows import read as read_results

from pages.measured import COMMANDS, column, read
from purenoise.lab.intervals import Estimate, paired, t_interval

WRONG_NOISE = "open:kind=normal:space=normalized:clip=false"


def _spread(e: Estimate) -> str:
    """Return mean and half width."""
    return f"{e.mean:.1f} ± {(e.high or e.mean) - e.mean:.1f}"


def _gap(values: Sequence[float], baseline: Sequence[float]) -> str:
    """Return the difference seed by seed, its interval and the exact test."""
    found = paired(values, baseline)
    e = found.estimate
    return (
        f"{e.mean:+.2f} points ({e.low:+.2f} to {e.high:+.2f}; n = {e.n} seeds, exact sign-flip "
        f"p = {found.p:.2g})"
    )


def best_epoch() -> str:
    """How much the best of 60 epochs, and of 6, is above the last."""
    lines = ["| | last epoch | best of 6 looks | best of 60 looks |", "|---|---|---|---|"]
    for method in ("erm", "drs", "open"):
        last = column(read(), "accuracy", method, 60)
        gains = []
        for looks in (6, 60):
            best = column(read(), "optimistic", method, looks)
            mine = column(read(), "accuracy", method, looks)
            gains.append(f"+{_spread(t_interval(np.subtract(best, mine)))}")
        lines.append(f"| `{method}` | {_spread(t_interval(last))} | {' | '.join(gains)} |")
    lines += ["", f"n = 10 seeds; `{COMMANDS[0]}` looks at the test images 6 times, "
              f"`{COMMANDS[1]}` after every epoch."]  # fmt: skip
    return "\n".join(lines)


def seeds() -> str:
    """What all choices of three among ten seeds would have said."""
    mine, theirs = (column(read(), "accuracy", m) for m in ("open", "drs"))
    gaps = np.subtract(mine, theirs)
    trios = np.array([np.mean(gaps[list(trio)]) for trio in combinations(range(len(gaps)), 3)])
    least = paired(gaps[:3], np.zeros(3)).least_p
    return (
        f"OPeN minus `drs` over all ten seeds: {_gap(mine, theirs)}. Three of these seeds, in all "
        f"{len(trios)} ways to choose them, give between {trios.min():+.2f} and "
        f"{trios.max():+.2f} points; in {100 * (trios < 0).mean():.0f} % of them `drs` is ahead. "
        f"Over three seeds the exact test cannot go below p = {least:g}."
    )


def unequal() -> str:
    """Accuracy by the training's class shares, against accuracy with equal classes."""
    parts = []
    for name, words in (("as_trained", "with the training's class shares"),
                        ("accuracy", "with as many test images of each class")):  # fmt: skip
        drs, erm = (column(read(), name, m) for m in ("drs", "erm"))
        parts.append(
            f"{words}, `erm` has {_spread(t_interval(erm))} %, `drs` {_spread(t_interval(drs))} %, "
            f"a difference of {_gap(drs, erm)}"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}. The first is made from the recall of each class."


def deferred() -> str:
    """Class-balanced sampling throughout, against deferred."""
    rows = [r for r in read_results(HERE / "digits-lt.csv") if r["method"] in ("rs", "drs")]
    rows.sort(key=lambda r: int(r["seed"]))
    rs, drs = (
        [100 * float(r["accuracy"]) for r in rows if r["method"] == m] for m in ("rs", "drs")
    )
    return (
        f"`rs` minus `drs`: {_gap(rs, drs)}. On CIFAR-10-LT with imbalance ratio 100 and "
        "WRN-28-10 the paper's reproduction has 74.8 % for sampling from the start, 81.2 % for "
        "plain training and 83.2 % deferred (one run each)."
    )


def twice() -> str:
    """Logit adjustment on top of what has no prior any more."""
    lines = ["| | as it was | after `purenoise adjust RUN` | difference |", "|---|---|---|---|"]
    for method in ("erm", "drs", "balanced-softmax"):
        before, after = (column(read(), name, method) for name in ("accuracy", "adjusted"))
        gap = paired(after, before).estimate
        lines.append(
            f"| `{method}` | {_spread(t_interval(before))} | {_spread(t_interval(after))} | "
            f"{gap.mean:+.2f} ({gap.low:+.2f} to {gap.high:+.2f}) |"
        )
    lines += ["", "Accuracy %, n = 10 seeds. For plain training, in the first line, the adjustment "
              "is what it is made for."]  # fmt: skip
    return "\n".join(lines)


def normalised() -> str:
    """OPeN with noise put in after normalisation, unclipped."""
    wrong, right = (column(read(), "accuracy", m) for m in (WRONG_NOISE, "open"))
    return (
        "On the digits, `open:noise.space=normalized:noise.clip=false` minus `open`: "
        f"{_gap(wrong, right)}."
    )


def shared() -> str:
    """OPeN with one batch norm for images and noise."""
    one, dar, drs = (column(read(), "accuracy", m)
                     for m in ("open:batch_norm=shared", "open", "drs"))  # fmt: skip
    return (
        f"On the digits, `open:batch_norm=shared` minus `open`: {_gap(one, dar)}; minus `drs`, "
        f"without noise: {_gap(one, drs)}. On CIFAR-10-LT with imbalance ratio 100 and WRN-28-10 "
        "the paper, as its reproduction quotes it, has 81.5 % with one batch norm and 84.6 % with "
        "DAR-BN; the reproduction has 81.8 % and 85.0 % (one run each)."
    )


PARTS: dict[str, Callable[[], str]] = {
    "best-epoch": best_epoch,
    "seeds": seeds,
    "unequal": unequal,
    "deferred": deferred,
    "twice": twice,
    "normalised": normalised,
    "shared": shared,
}
