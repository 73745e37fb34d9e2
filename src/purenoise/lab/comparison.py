"""What a set of finished runs says: means over seeds, differences seed by seed, and how sure.

Runs are one comparison only if they were trained and tested on the same images by the same
protocol; what differs otherwise is named and, unless asked for, refused. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from purenoise.errors import RecipeError, RunError, did_you_mean
from purenoise.lab.intervals import (
    BOOTSTRAP_COVERAGE,
    BOOTSTRAP_SEEDS,
    LEVEL,
    Estimate,
    Paired,
    bootstrap_interval,
    holm,
    paired,
    t_interval,
)
from purenoise.lab.power import PEEKING, seeds_needed
from purenoise.lab.records import METRICS, Record, protocol_differences

HEADLINE = "accuracy"
FAIR_BASELINE = "drs"


@dataclass(frozen=True)
class Row:
    """One variant.

    Args:
        label: Of the variant.
        records: Its runs, by seed.
        estimates: Per metric; None where a run has no such number.
        optimistic: Mean of the best epoch on the test images: no result, shown to warn.
    """

    label: str
    records: tuple[Record, ...]
    estimates: Mapping[str, Estimate | None]
    optimistic: float | None

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return [record.seed for record in self.records]


@dataclass(frozen=True)
class Difference:
    """One variant against the baseline.

    Args:
        label: Of the variant.
        baseline: Of the other.
        seeds: That both ran with.
        metrics: Variant minus baseline per metric; None where one has no such number.
        p_holm: Of the headline metric, corrected for all comparisons with the baseline.
        needed: About how many seeds would settle a difference of this size among as many
            comparisons; None: over 1,000.
        classes: Variant minus baseline for each class; None for a class without test images.
        classes_p_holm: Of each class, corrected for all classes.
        comparisons: How many there are with the baseline.
    """

    label: str
    baseline: str
    seeds: tuple[int, ...]
    metrics: Mapping[str, Paired | None]
    p_holm: float | None
    needed: int | None
    classes: tuple[Paired | None, ...]
    classes_p_holm: tuple[float | None, ...]
    comparisons: int = 1

    @property
    def headline(self) -> Paired | None:
        """The difference in accuracy."""
        return self.metrics[HEADLINE]


@dataclass(frozen=True)
class Comparison:
    """A set of runs, understood.

    Args:
        rows: One per variant.
        baseline: Label of the variant that the others are compared with.
        differences: One per other variant that has a seed in common with it.
        notes: What a reader has to know, one sentence each.
        left_out: Runs that could not be used, with the reason.
        command: The line that made the comparison, if it was one.
    """

    rows: tuple[Row, ...]
    baseline: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @property
    def records(self) -> list[Record]:
        """All runs."""
        return [record for row in self.rows for record in row.records]


def analyse(
    records: Sequence[Record],
    baseline: str | None = None,
    *,
    mixed: bool = False,
    left_out: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare runs.

    Args:
        records: At least one.
        baseline: Label of a variant; None: ``drs`` if it is among them, else the first.
        mixed: Whether runs by different protocols, or on different images, are compared all the
            same; what differs is then noted.
        left_out: Runs that could not be used, with the reason.

    Raises:
        RunError: If there are no runs, a variant has a seed twice, or protocols differ.
        RecipeError: If the baseline is not among the variants.
    """
    if not records:
        raise RunError("There are no finished runs to compare.", _first(left_out))
    labels = list(dict.fromkeys(record.label for record in records))
    base = _baseline(baseline, labels)
    differing = protocol_differences(records)
    if differing and not mixed:
        raise RunError(
            "These runs are no comparison, because they differ in more than their method:\n"
            + "\n".join(f"  - {text}" for text in differing),
            "Leave some out, or add mixed=true to set them side by side all the same.",
        )
    rows = tuple(_row(label, [r for r in records if r.label == label]) for label in labels)
    others = [row for row in rows if row.label != base]
    reference = next(row for row in rows if row.label == base)
    differences = _with_holm([d for row in others if (d := _difference(row, reference))])
    notes = [f"Not by one protocol: {text}." for text in differing]
    notes += _notes(rows, differences)
    return Comparison(rows, base, tuple(differences), tuple(notes), dict(left_out or {}))


def _baseline(wanted: str | None, labels: Sequence[str]) -> str:
    """Find the baseline by its label, or by its method alone if only one label begins so."""
    name = wanted or FAIR_BASELINE
    found = [name] if name in labels else [x for x in labels if x.partition(":")[0] == name]
    if len(found) == 1:
        return found[0]
    if wanted is not None:
        raise RecipeError(
            f"The baseline {wanted!r} is not among the methods.", did_you_mean(wanted, labels)
        )
    return labels[0]


def _first(left_out: Mapping[str, str] | None) -> str:
    return "".join(f"{path}: {why}. " for path, why in list((left_out or {}).items())[:3]).strip()


def _row(label: str, records: Sequence[Record]) -> Row:
    ordered = sorted(records, key=lambda r: r.seed)
    for one, other in pairwise(ordered):
        if one.seed == other.seed:
            raise RunError(
                f"{label} has seed {one.seed} twice: {one.folder} and {other.folder}.",
                "Leave one of them out.",
            )
    estimates = {metric: _estimate(ordered, metric) for metric in METRICS}
    best = [r.summary.get("optimistic_best_on_test", {}).get("accuracy") for r in ordered]
    known = [float(b) for b in best if b is not None]
    return Row(label, tuple(ordered), estimates, sum(known) / len(known) if known else None)


def _estimate(records: Sequence[Record], metric: str) -> Estimate | None:
    values = [record.value(metric) for record in records]
    known = [v for v in values if v is not None]
    return t_interval(known) if len(known) == len(values) else None


def _difference(row: Row, base: Row) -> Difference | None:
    """Compare with the baseline over the seeds that both have."""
    theirs = {record.seed: record for record in base.records}
    pairs = [(r, theirs[r.seed]) for r in row.records if r.seed in theirs]
    if not pairs:
        return None
    metrics: dict[str, Paired | None] = {}
    for metric in METRICS:
        a, b = ([r.value(metric) for r in side] for side in zip(*pairs, strict=True))
        metrics[metric] = _paired(a, b)
    classes = _class_differences(pairs)
    seeds = tuple(r.seed for r, _ in pairs)
    return Difference(row.label, base.label, seeds, metrics, None, None, classes,
                      _holm([c.p if c else None for c in classes]))  # fmt: skip


def _class_differences(pairs: Sequence[tuple[Record, Record]]) -> tuple[Paired | None, ...]:
    """Compare class by class; runs with other classes, set side by side by force, have none."""
    if len({tuple(r.summary["class_names"]) for pair in pairs for r in pair}) > 1:
        return ()
    a_all, b_all = ([r.summary["test"]["per_class"] for r in side]
                    for side in zip(*pairs, strict=True))  # fmt: skip
    return tuple(
        _paired(list(a), list(b))
        for a, b in zip(zip(*a_all, strict=True), zip(*b_all, strict=True), strict=True)
    )


def _paired(a: Sequence[float | None], b: Sequence[float | None]) -> Paired | None:
    if any(v is None for v in (*a, *b)):
        return None
    return paired([float(v or 0) for v in a], [float(v or 0) for v in b])


def _holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Correct those p values that there are."""
    there = [i for i, p in enumerate(p_values) if p is not None]
    corrected = holm([p for p in p_values if p is not None])
    out: list[float | None] = [None] * len(p_values)
    for i, p in zip(there, corrected, strict=True):
        out[i] = float(p)
    return tuple(out)


def _with_holm(differences: Sequence[Difference]) -> list[Difference]:
    corrected = _holm([d.headline.p if d.headline else None for d in differences])
    return [
        replace(d, p_holm=p, needed=_needed(d, p, len(differences)), comparisons=len(differences))
        for d, p in zip(differences, corrected, strict=True)
    ]


def _needed(difference: Difference, p: float | None, comparisons: int) -> int | None:
    """About how many seeds would settle a difference, which so many as there are did not."""
    found = difference.headline
    if found is None or found.estimate.sd is None:
        return None
    level = 1 - (1 - LEVEL) / comparisons
    needed = seeds_needed(found.estimate.mean, found.estimate.sd, level)
    if needed is None or (p is not None and p <= 1 - LEVEL):
        return needed
    return max(needed, found.estimate.n + 1)


def _identical(rows: Sequence[Row]) -> list[str]:
    """Name methods that gave the same answers with every seed, which seldom is a coincidence."""
    answers: dict[str, list[str]] = {}
    for row in rows:
        found = repr([(r.seed, r.summary["test"]["confusion"], r.summary["test"]["nll"])
                      for r in row.records])  # fmt: skip
        answers.setdefault(found, []).append(row.label)
    return [
        f"{' and '.join(labels)} came out identical with every seed: what they differ in had no "
        "effect."
        for labels in answers.values() if len(labels) > 1
    ]  # fmt: skip


def _notes(rows: Sequence[Row], differences: Sequence[Difference]) -> list[str]:
    """What a reader has to know."""
    notes = _identical(rows)
    seeds = {tuple(row.seeds) for row in rows}
    if len(seeds) > 1:
        notes.append(
            "Not all methods ran with the same seeds: differences are over those in common."
        )
    small = min(len(row.records) for row in rows)
    k = len(differences)
    takes = math.ceil(1 + math.log2(max(1, k) / (1 - LEVEL)) - 1e-9)
    if small < takes and k:
        among = f" and {k} comparisons" if k > 1 else ""
        notes.append(
            f"With {small} seed{'s' * (small > 1)}{among} an exact sign-flip test cannot reach "
            f"p = 0.05; that takes {takes} seeds."
        )
    if k and small > 1:
        notes.append(
            "p holds for a number of seeds that was fixed beforehand. Adding seeds until it is "
            f"small calls equal methods different in about {100 * PEEKING:.0f} % of cases, not 5 % "
            "(simulated, with a test at every number from 6 to 17)."
        )
    if max(len(row.records) for row in rows) > 1:
        notes.append(
            "Intervals are Student's t over seeds. They hold for this subset of training images "
            "and these test images, which every seed shares; another subset or test set may "
            "differ more."
        )
    else:
        notes.append(
            "Each method ran with one seed: nothing here says how much another seed, subset or "
            "test set would change."
        )
    if small >= BOOTSTRAP_SEEDS:
        found = {r.label: bootstrap_interval([v.value(HEADLINE) or 0 for v in r.records])
                 for r in rows}  # fmt: skip
        shown = "; ".join(
            f"{label} {100 * (e.low or 0):.1f} to {100 * (e.high or 0):.1f}"
            for label, e in found.items()
        )
        notes.append(
            f"Bootstrap intervals of the accuracies (BCa, 95 %, which cover about "
            f"{100 * BOOTSTRAP_COVERAGE:.0f} % with 10 normal values): {shown}."
        )
    machines = {
        (e.get("cpu"), e.get("device"), e.get("threads"), e.get("torch"))
        for row in rows for r in row.records if (e := r.summary["environment"])
    }  # fmt: skip
    if len(machines) > 1:
        notes.append(
            f"The runs were made on {len(machines)} different machines or versions: seeds are "
            "comparable, single numbers are not bit for bit."
        )
    return notes
