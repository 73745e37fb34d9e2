"""The metrics of all methods, and their differences to the baseline, as tables that fit a page.

Accuracies stand in one table and what is none in another: all in one would be wider than paper.
"""

from __future__ import annotations

from purenoise.lab.comparison import Comparison
from purenoise.lab.records import METRICS
from purenoise.report.document import Cell, Table
from purenoise.report.wording import (
    BOUNDS,
    HEADS,
    clean,
    estimate_cell,
    over_common_seeds,
    over_seeds,
    paired_cell,
)

OTHERS = ("macro-F1", "G-mean", "NLL", "ECE")
ACCURACIES = tuple(metric for metric in METRICS if metric not in OTHERS)
LESS_IS_BETTER = " Of NLL and ECE less is better."


def metrics_tables(comparison: Comparison) -> list[Table]:
    """Return all metrics of each method with intervals."""
    bounds = f" {BOUNDS}"
    how = over_seeds(comparison, "mean over seeds with its 95 % interval") or "one seed"
    last = f"on the test images after the last epoch, {how}."
    return [
        _metrics(comparison, ACCURACIES,
                 f"Accuracies {last} A group without classes has no column."
                 f"{over_seeds(comparison, bounds)}"),
        _metrics(comparison, OTHERS, f"Other metrics {last}{LESS_IS_BETTER}"),
    ]  # fmt: skip


def _metrics(comparison: Comparison, metrics: tuple[str, ...], caption: str) -> Table:
    shown = [m for m in metrics if any(row.estimates[m] is not None for row in comparison.rows)]
    rows = tuple(
        (Cell(clean(row.label)), *(estimate_cell(m, row.estimates[m]) for m in shown))
        for row in comparison.rows
    )
    return Table(caption, ("method", *(HEADS[m] for m in shown)), rows)


def differences_tables(comparison: Comparison) -> list[Table]:
    """Return the difference of each metric to the baseline with intervals; none without one."""
    if not comparison.differences:
        return []
    how = over_common_seeds(
        comparison,
        ", seed by seed, with 95 % intervals. These intervals are not corrected for their number",
    )
    minus = f"minus that of {clean(comparison.baseline)}"
    return [
        _minus(comparison, ACCURACIES, f"Each accuracy {minus}, in points{how}."),
        _minus(comparison, OTHERS,
               f"Each other metric {minus}, in points (NLL as it is){how}.{LESS_IS_BETTER}"),
    ]  # fmt: skip


def _minus(comparison: Comparison, metrics: tuple[str, ...], caption: str) -> Table:
    found = comparison.differences
    shown = [m for m in metrics if any(d.metrics[m] is not None for d in found)]
    rows = tuple(
        (Cell(clean(d.label)), *(paired_cell(m, d.metrics[m]) for m in shown)) for d in found
    )
    return Table(caption, ("method", *shown), rows)
