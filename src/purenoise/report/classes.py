"""Groups, classes and confusions in a report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from purenoise.confusion import Confusion
from purenoise.lab.comparison import Comparison, Difference, Row
from purenoise.report.charts import Series, class_chart, difference_chart, group_chart
from purenoise.report.document import Cell, Part, Section, Sentences, Table, section
from purenoise.report.metrictables import differences_tables, metrics_tables
from purenoise.report.wording import clean, over_common_seeds, over_seeds, paired_cell
from purenoise.terminal.tables import GROUP_RULES, p_value, percent

MOST_ROWS = 120  # of a table of classes; the CSV has all
MOST_DIFFERENCES = 40  # classes in a figure, fewer with many methods
MOST_LINES = 80  # in such a figure
MOST_CONFUSED = 20  # classes of a confusion matrix that is shown whole
WORST = 15
MOST_WIDE = 8  # methods with one column each in a table that fits a sheet of paper
MOST_WITH_P = 3  # with two columns each
Of = TypeVar("Of")
Shares = dict[tuple[int, int], float]
GROUPS = {
    "by-count": (("many", "medium", "few"), "absolute size"),
    "by-rank": (("head", "mid", "tail"), "thirds of the classes"),
}


def groups_section(comparison: Comparison) -> Section:
    """Return accuracies of groups of classes."""
    parts: list[Part | None] = []
    for key, (names, what) in GROUPS.items():
        there = [n for n in names if all(row.estimates[n] for row in comparison.rows)]
        missing = [n for n in names if n not in there]
        if there:
            rules = "; ".join(f"{n}: {GROUP_RULES[n]}" for n in there)
            series = [
                Series(row.label, [[r.value(n) for n in there] for r in row.records])
                for row in comparison.rows
            ]
            caption = (
                f"Accuracy by {what} of the training set ({rules})."
                f"{over_seeds(comparison, ' Bars: mean over seeds; marks: the seeds.')}"
            )
            parts.append(group_chart(key, there, series, caption))
        if missing:
            parts.append(Sentences((f"No class with test images is in: {', '.join(missing)}.",)))
    single = len(comparison.records) == 1
    parts += [] if single else metrics_tables(comparison)
    parts += differences_tables(comparison)
    return section("groups", "Common and rare classes", parts)


def order(comparison: Comparison) -> list[int]:
    """Return the classes, largest first."""
    counts = comparison.records[0].summary["counts"]
    return sorted(range(len(counts)), key=lambda c: (-counts[c], c))


def same_classes(comparison: Comparison) -> bool:
    """Whether all runs have the same classes with the same numbers of training images."""
    kinds = {
        (tuple(r.summary["class_names"]), tuple(r.summary["counts"])) for r in comparison.records
    }
    return len(kinds) == 1


def classes_section(comparison: Comparison, pictures: Sequence[Part]) -> Section:
    """Return accuracies class by class, and what changed against the baseline."""
    heading = "Class by class"
    if not same_classes(comparison):
        said = "These runs differ in classes or in their sizes: there is no table of classes."
        return section("classes", heading, [Sentences((said,))])
    summary, classes = comparison.records[0].summary, order(comparison)
    names = [clean(summary["class_names"][c]) for c in classes]
    counts = [summary["counts"][c] for c in classes]
    series = [Series(row.label, per_class(row)[:, classes]) for row in comparison.rows]
    return section(
        "classes", heading,
        [class_chart(names, counts, series), _difference_figure(comparison, classes),
         *class_tables(comparison, classes), *pictures],
    )  # fmt: skip


def per_class(row: Row) -> Any:
    """Return the accuracies of all seeds and classes, (seeds, C); NaN for no test images."""
    values = [r.summary["test"]["per_class"] for r in row.records]
    return np.array([[np.nan if v is None else v for v in run] for run in values], np.float64)


def _difference_figure(comparison: Comparison, classes: Sequence[int]) -> Part | None:
    differences = [d for d in comparison.differences if d.classes]
    if not differences:
        return None
    chosen = list(classes)
    how = over_common_seeds(comparison, ", mean over seeds, with its 95 % interval")
    caption = f"Difference in accuracy{how}. Largest class at the top."
    most = min(MOST_DIFFERENCES, max(10, MOST_LINES // len(differences)))
    if len(chosen) > most:
        size = {
            c: max((abs(p.estimate.mean) for d in differences if (p := d.classes[c])), default=0.0)
            for c in chosen
        }
        kept = set(sorted(chosen, key=lambda c: -size[c])[:most])
        chosen = [c for c in chosen if c in kept]
        caption += f" Only the {most} classes that changed most are shown."
    names = [comparison.records[0].summary["class_names"][c] for c in chosen]
    places = {row.label: i for i, row in enumerate(comparison.rows)}
    found = [
        (places[d.label], d.label, [p.estimate if (p := d.classes[c]) else None for c in chosen])
        for d in differences
    ]
    return difference_chart(names, found, comparison.baseline, caption)


def class_tables(comparison: Comparison, classes: Sequence[int]) -> list[Table]:
    """Return accuracy and differences of each class; of very many classes only the ends.

    Many methods get several tables, so that none is wider than a sheet of paper.
    """
    shown, left = list(classes), ""
    if len(shown) > MOST_ROWS:
        half = MOST_ROWS // 2
        left = f" The {len(shown) - MOST_ROWS} classes in the middle are in the CSV file."
        shown = [*shown[:half], *shown[-half:]]
    differences = [d for d in comparison.differences if d.classes]
    most = MOST_WITH_P if over_common_seeds(comparison) else MOST_WIDE
    return [
        *(_accuracies(comparison, shown, rows, which + left)
          for rows, which in parted(comparison.rows, MOST_WIDE)),
        *(_minus(comparison, shown, found, which + left)
          for found, which in parted(differences, most)),
    ]  # fmt: skip


def parted(methods: Sequence[Of], most: int) -> Iterator[tuple[Sequence[Of], str]]:
    """Yield methods in parts that are about equal, at most ``most`` each, with a word on which."""
    n = len(methods)
    size = math.ceil(n / max(1, math.ceil(n / most)))
    for first in range(0, n, max(1, size)):
        part = methods[first : first + size]
        which = f" Methods {first + 1} to {first + len(part)} of {n}." if len(part) > 1 else (
            f" Method {n} of {n}.")  # fmt: skip
        yield part, which if size < n else ""


def _begin(comparison: Comparison, c: int) -> list[Cell]:
    """Return name and sizes of a class."""
    summary = comparison.records[0].summary
    n_train, n_test = summary["counts"][c], summary["test"]["n_test"][c]
    return [Cell(clean(summary["class_names"][c])), Cell(f"{n_train:,}", value=n_train),
            Cell(f"{n_test:,}", value=n_test)]  # fmt: skip


def _accuracies(
    comparison: Comparison, classes: Sequence[int], methods: Sequence[Row], more: str
) -> Table:
    values = np.array([per_class(row).mean(axis=0) for row in methods])  # (methods, C)
    rows = []
    for c in classes:
        known = [float(v) if np.isfinite(v) else None for v in values[:, c]]
        rows.append((*_begin(comparison, c), *(Cell(percent(v), value=v) for v in known)))
    caption = f"Accuracy of each class{over_seeds(comparison)}, largest class first.{more}"
    heads = ("class", "train", "test", *(f"{clean(row.label)} %" for row in methods))
    return Table(caption, heads, tuple(rows))


def _minus(
    comparison: Comparison, classes: Sequence[int], methods: Sequence[Difference], more: str
) -> Table:
    tested = bool(over_common_seeds(comparison))
    rows = []
    for c in classes:
        cells = _begin(comparison, c)[:2]
        for d in methods:
            p = d.classes_p_holm[c]
            cells += [paired_cell("accuracy", d.classes[c]), Cell(p_value(p), value=p)][
                : 1 + tested
            ]
        rows.append(tuple(cells))
    heads = ["class", "train"]
    for d in methods:
        heads += [clean(d.label), "p after Holm"][: 1 + tested]
    how = over_common_seeds(
        comparison, ", with 95 % intervals seed by seed; p is corrected for all classes"
    )
    caption = (
        f"Accuracy of each class minus that of {clean(comparison.baseline)}, in points{how}.{more}"
    )
    return Table(caption, tuple(heads), tuple(rows))


def confusion_section(comparison: Comparison) -> Section | None:
    """Return which classes are taken for which others."""
    if not same_classes(comparison):
        return None
    classes = order(comparison)
    shares = {row.label: confusion_shares(row) for row in comparison.rows}
    if len(classes) <= MOST_CONFUSED:
        names = [clean(comparison.records[0].summary["class_names"][c]) for c in classes]
        parts: list[Part] = [
            _matrix(label, [[share.get((i, j), 0.0) for j in classes] for i in classes], names,
                    over_seeds(comparison))
            for label, share in shares.items()
        ]  # fmt: skip
        return section("confusions", "Confusions", parts)
    return section("confusions", "Confusions", _worst(comparison, shares))


def confusion_shares(row: Row) -> Shares:
    """Return the share of each true class given each prediction, mean over seeds, where not 0."""
    whole: Counter[tuple[int, int]] = Counter()
    for record in row.records:
        test = record.summary["test"]
        found = Confusion.read(test["confusion"], len(test["per_class"]))
        share = found.images / found.support[found.true] / len(row.records)
        cells = zip(found.true.tolist(), found.predicted.tolist(), strict=True)
        whole.update(dict(zip(cells, share.tolist(), strict=True)))
    return dict(whole)


def _matrix(label: str, share: list[list[float]], names: Sequence[str], how: str) -> Table:
    rows = tuple(
        (Cell(name), *(Cell(f"{100 * v:.0f}" if v >= 0.005 else "", value=float(v),
                            shade=float(v)) for v in row))
        for name, row in zip(names, share, strict=True)
    )  # fmt: skip
    return Table(
        f"{clean(label)}: percent of the test images of each class (row) that are taken for each "
        f"class (column){how}. Largest class first; empty: below 0.5.",
        ("class", *names), rows, "heat", sortable=False,
    )  # fmt: skip


def _worst(comparison: Comparison, shares: dict[str, Shares]) -> list[Table]:
    """Return the most frequent confusions of any method."""
    summary = comparison.records[0].summary
    names, counts = summary["class_names"], summary["counts"]
    wrong = {cell for share in shares.values() for cell in share if cell[0] != cell[1]}
    most = {cell: max(share.get(cell, 0.0) for share in shares.values()) for cell in wrong}
    worst = sorted(most, key=lambda cell: (-most[cell], cell))[:WORST]
    tables = []
    for labels, which in parted(list(shares), MOST_WIDE):
        rows = []
        for true, other in worst:
            cells = [Cell(clean(names[true])), Cell(clean(names[other])),
                     Cell(f"{counts[true]:,}", value=counts[true]),
                     Cell(f"{counts[other]:,}", value=counts[other])]  # fmt: skip
            values = [shares[label].get((true, other), 0.0) for label in labels]
            rows.append((*cells, *(Cell(percent(v), value=v) for v in values)))
        tables.append(Table(
            f"The {WORST} most frequent confusions: percent of the test images of a class that are "
            f"taken for another{over_seeds(comparison)}.{which}",
            ("class", "taken for", "train", "train of the other",
             *(f"{clean(label)} %" for label in labels)),
            tuple(rows),
        ))  # fmt: skip
    return tables
