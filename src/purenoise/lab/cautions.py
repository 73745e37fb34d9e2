"""What a reader of a comparison has to know, one sentence each. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from purenoise.lab.intervals import (
    BOOTSTRAP_COVERAGE,
    BOOTSTRAP_SEEDS,
    EXACT_SEEDS,
    FLIPS,
    LEVEL,
    bootstrap_interval,
)
from purenoise.lab.power import PEEKING
from purenoise.lab.records import ACCURACY, UNEVEN

if TYPE_CHECKING:
    from purenoise.lab.comparison import Difference, Row


def cautions(rows: Sequence[Row], differences: Sequence[Difference], about: str) -> list[str]:
    """Return what has to be known about the metric, the tests, the intervals and the machines.

    Args:
        rows: All methods.
        differences: To the baseline.
        about: The metric that is compared.
    """
    return [*_headline(rows, about), *_identical(rows), *_tests(rows, differences),
            *_intervals(rows, about), *_machines(rows)]  # fmt: skip


def _headline(rows: Sequence[Row], about: str) -> list[str]:
    """Say why it is not accuracy that counts."""
    if about == ACCURACY:
        return []
    tested = [n for row in rows for r in row.records for n in r.summary["test"]["n_test"] if n]
    return [
        f"Test images are imbalanced ({min(tested):,} to {max(tested):,} a class, over {UNEVEN} "
        f"times), so it is {about} that is compared, in which classes count alike; the "
        "largest classes decide accuracy."
    ]


def _identical(rows: Sequence[Row]) -> list[str]:
    """Name methods that gave the same answers with every seed, which seldom is a coincidence."""
    answers: dict[str, list[str]] = {}
    for row in rows:
        found = repr([(r.seed, r.summary["test"]["confusion"],
                       f"{r.summary['test']['nll']:.5g}")
                      for r in row.records])  # fmt: skip
        answers.setdefault(found, []).append(row.label)
    return [
        f"{' and '.join(labels)} came out identical with every seed: what they differ in had no "
        "effect."
        for labels in answers.values() if len(labels) > 1
    ]  # fmt: skip


def _tests(rows: Sequence[Row], differences: Sequence[Difference]) -> list[str]:
    """Say what p values can and cannot do."""
    found = [d.headline.estimate.n for d in differences if d.headline]
    if not found:
        return []
    notes = []
    if len({tuple(row.seeds) for row in rows}) > 1:
        notes.append(
            "Not all methods ran with the same seeds: differences are over those in common."
        )
    fewest, k = min(found), len(found)  # those of one seed are tests as soon as they have more
    takes = math.ceil(1 + math.log2(k / (1 - LEVEL)) - 1e-9)
    if any(d.least_p is None or d.least_p > 1 - LEVEL for d in differences):
        among = f" and {k} comparisons" if k > 1 else ""
        notes.append(
            f"With {fewest} seed{'s' * (fewest > 1)}{among} an exact sign-flip test cannot reach "
            f"p = 0.05; that takes {takes} seeds."
        )
    if max(found) > EXACT_SEEDS:
        notes.append(f"Over more than {EXACT_SEEDS} seeds p is of {FLIPS:,} sign flips drawn.")
    if max(found) > 1:
        notes.append(
            "p holds for a number of seeds that was fixed beforehand. Adding seeds until it is "
            f"small calls equal methods different in about {100 * PEEKING:.0f} % of cases, not 5 % "
            "(simulated, with a test at every number from 6 to 17)."
        )
    return notes


def _intervals(rows: Sequence[Row], about: str) -> list[str]:
    """Say what intervals hold for; from ten seeds on give those of the bootstrap too."""
    if max(len(row.records) for row in rows) == 1:
        return [
            "Each method ran with one seed: nothing here says how much another seed, subset or "
            "test set would change."
        ]
    notes = [
        "Intervals are Student's t over seeds. They hold for this subset of training images and "
        "these test images, which every seed shares; another subset or test set may differ more."
    ]
    if min(len(row.records) for row in rows) >= BOOTSTRAP_SEEDS:
        found = {r.label: bootstrap_interval([v.value(about) or 0 for v in r.records])
                 for r in rows}  # fmt: skip
        shown = "; ".join(
            f"{label} {100 * (e.low or 0):.1f} to {100 * (e.high or 0):.1f}"
            for label, e in found.items()
        )
        notes.append(
            f"Bootstrap intervals of {about} (BCa, 95 %, which cover about "
            f"{100 * BOOTSTRAP_COVERAGE:.0f} % with 10 normal values): {shown}."
        )
    return notes


def _machines(rows: Sequence[Row]) -> list[str]:
    machines = {
        (e.get("cpu"), e.get("device"), e.get("threads"), e.get("torch"))
        for row in rows for r in row.records if (e := r.summary["environment"])
    }  # fmt: skip
    if len(machines) < 2:
        return []
    return [
        f"The runs were made on {len(machines)} different machines, versions or numbers of "
        "threads: seeds are comparable, single numbers are not bit for bit."
    ]
