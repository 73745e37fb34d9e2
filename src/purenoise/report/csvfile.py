"""All numbers of a report as one CSV table, one number a line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from purenoise.lab.comparison import Comparison
from purenoise.lab.intervals import Estimate
from purenoise.lab.records import METRICS
from purenoise.report.classes import per_class, same_classes
from purenoise.terminal.plaintext import csv_cell

COLUMNS = ("what", "method", "baseline", "metric", "class", "train_images", "seed", "seeds",
           "value", "sd", "low", "high", "p", "p_holm")  # fmt: skip


def to_csv(comparison: Comparison) -> str:
    """Return all numbers: of each run, means over seeds, and differences to the baseline.

    ``what`` is ``run``, ``mean``, ``difference``, ``class mean``, ``class difference`` or ``best on
    test`` (no result). Accuracies are shares, not percent; ``low`` and ``high`` are the 95 %
    interval.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for rows in (_runs(comparison), _means(comparison), _differences(comparison),
                 _classes(comparison)):  # fmt: skip
        for row in rows:
            table.writerow({k: "" if v is None else csv_cell(v) for k, v in row.items()})
    return text.getvalue()


def _numbers(found: Estimate) -> dict[str, Any]:
    return {"seeds": found.n, "value": found.mean, "sd": found.sd, "low": found.low,
            "high": found.high}  # fmt: skip


def _runs(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for record in comparison.records:
        for metric in METRICS:
            value = record.value(metric)
            if value is not None:
                yield {"what": "run", "method": record.label, "metric": metric,
                       "seed": record.seed, "value": value}  # fmt: skip


def _means(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for row in comparison.rows:
        for metric, found in row.estimates.items():
            if found is not None:
                yield {"what": "mean", "method": row.label, "metric": metric, **_numbers(found)}
        if row.optimistic is not None:
            yield {"what": "best on test", "method": row.label, "metric": "accuracy",
                   "seeds": len(row.records), "value": row.optimistic}  # fmt: skip


def _differences(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for d in comparison.differences:
        for metric, found in d.metrics.items():
            if found is not None:
                yield {"what": "difference", "method": d.label, "baseline": d.baseline,
                       "metric": metric, **_numbers(found.estimate), "p": found.p,
                       "p_holm": d.p_holm if metric == d.about else None}  # fmt: skip


def _classes(comparison: Comparison) -> Iterator[dict[str, Any]]:
    if not same_classes(comparison):
        return
    summary = comparison.records[0].summary
    names, counts = summary["class_names"], summary["counts"]
    for row in comparison.rows:
        for c, value in enumerate(per_class(row).mean(axis=0)):
            yield {"what": "class mean", "method": row.label, "metric": "accuracy",
                   "class": names[c], "train_images": counts[c], "seeds": len(row.records),
                   "value": float(value) if value == value else None}  # fmt: skip
    for d in comparison.differences:
        for c, found in enumerate(d.classes):
            if found is not None:
                yield {"what": "class difference", "method": d.label, "baseline": d.baseline,
                       "metric": "accuracy", "class": names[c], "train_images": counts[c],
                       **_numbers(found.estimate), "p": found.p,
                       "p_holm": d.classes_p_holm[c]}  # fmt: skip
