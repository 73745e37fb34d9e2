"""What a set of finished runs says: means over seeds, differences seed by seed, and how sure.

Runs are one comparison only if they were trained and tested on the same images by the same
protocol; what differs otherwise is named and, unless asked for, refused. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from purenoise.errors import RecipeError, RunError, did_you_mean
from purenoise.lab.cautions import cautions
from purenoise.lab.intervals import LEVEL, Estimate, Paired, holm, paired, t_interval
from purenoise.lab.power import seeds_needed
from purenoise.lab.records import ACCURACY, METRICS, Record, protocol_differences, what_counts

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
        about: The metric that the comparison is about.
        p_holm: Of that metric, corrected for all comparisons with the baseline.
        least_p: The smallest such p that so many seeds can give; None for one seed.
        needed: About how many seeds would settle a difference of this size among as many
            comparisons; None: over 1,000.
        classes: Variant minus baseline for each class; None for a class without test images.
        classes_p_holm: Of each class, corrected for all classes.
        comparisons: How many there are that have a p.
    """

    label: str
    baseline: str
    seeds: tuple[int, ...]
    metrics: Mapping[str, Paired | None]
    about: str
    classes: tuple[Paired | None, ...]
    classes_p_holm: tuple[float | None, ...]
    p_holm: float | None = None
    least_p: float | None = None
    needed: int | None = None
    comparisons: int = 1

    @property
    def headline(self) -> Paired | None:
        """The difference in what the comparison is about."""
        return self.metrics[self.about]


@dataclass(frozen=True)
class Comparison:
    """A set of runs, understood.

    Args:
        rows: One per variant.
        baseline: Label of the variant that the others are compared with.
        differences: One per other variant that has a seed in common with it.
        about: The metric that p values and sentences are about; see
            :func:`purenoise.lab.records.what_counts`.
        notes: What a reader has to know, one sentence each.
        left_out: Runs that could not be used, with the reason.
        command: The line that made the comparison, if it was one.
    """

    rows: tuple[Row, ...]
    baseline: str
    differences: tuple[Difference, ...]
    about: str = ACCURACY
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
    about = what_counts(records)
    found = _with_holm([d for row in others if (d := _difference(row, reference, about))])
    notes = [f"Not by one protocol: {text}." for text in differing]
    notes += cautions(rows, found, about)
    return Comparison(rows, base, tuple(found), about, tuple(notes), dict(left_out or {}))


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
    said = [f"{path}: {why.rstrip('.')}." for path, why in (left_out or {}).items()]
    return " ".join(said[:3])


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


def _difference(row: Row, base: Row, about: str) -> Difference | None:
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
    return Difference(row.label, base.label, seeds, metrics, about, classes,
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
    """Correct p, and the least p that there can be, for all differences that have a p."""
    tested = [d.headline if d.headline and d.headline.p is not None else None for d in differences]
    corrected = _holm([t.p if t else None for t in tested])
    least = _holm([t.least_p if t else None for t in tested])  # Holm's p grows with every p
    k = max(1, sum(t is not None for t in tested))
    return [
        replace(d, p_holm=p, least_p=low, needed=_needed(d, p, k), comparisons=k)
        for d, p, low in zip(differences, corrected, least, strict=True)
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
