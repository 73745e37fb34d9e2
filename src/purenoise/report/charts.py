"""The charts of accuracies: of methods, of groups of classes, of classes; from plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from purenoise.lab.intervals import Estimate
from purenoise.report.document import Figure
from purenoise.report.figures import INK, MUTED, PAPER, Drawing, draw, style
from purenoise.report.legends import legend, legend_room, name_classes
from purenoise.report.wording import short_names

MOST_MARKED = 40  # classes that get a marker each


@dataclass(frozen=True)
class Series:
    """One method in a chart.

    Args:
        label: Its name.
        values: Of every seed, shape (seeds, points) or (seeds,); NaN where there is none.
    """

    label: str
    values: Any


def means(values: Any) -> Any:
    """Return the mean over seeds of each point; NaN where a seed has none."""
    return np.asarray(values, np.float64).mean(axis=0)


CAPTION = "Large marks: mean over seeds. Lines: 95 % interval of that mean. Small marks: the seeds."
OVERLAP = (
    " Overlapping lines do not mean that methods are equal: the differences below are taken seed "
    "by seed."
)


def accuracy_chart(
    rows: Sequence[tuple[str, Sequence[float], Estimate]],
    about: str = "accuracy",
    compared: bool = True,
) -> Figure:
    """Draw the accuracy of each method, of the kind ``about``: its seeds, mean and interval.

    Args:
        rows: Label, accuracy of each seed, and their mean, of each method.
        about: Which accuracy.
        compared: Whether differences follow.
    """

    def paint(drawing: Drawing) -> None:
        axes = drawing.subplots()
        for y, (_, seeds, e) in enumerate(rows):
            look = style(y)
            axes.plot(100 * np.asarray(seeds), np.full(len(seeds), y + 0.22), look.marker,
                      color=look.colour, markersize=4, alpha=0.6, markeredgewidth=0)  # fmt: skip
            if e.low is not None and e.high is not None:
                axes.plot([100 * e.low, 100 * e.high], [y, y], "-", color=look.colour, lw=2)
            axes.plot([100 * e.mean], [y], look.marker, color=look.colour, markersize=8,
                      markeredgecolor=PAPER)  # fmt: skip
        axes.set_yticks(range(len(rows)), short_names([label for label, _, _ in rows]))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"{about} on the test images, %")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)

    said = "; ".join(f"{label}: {100 * e.mean:.1f} %" for label, _, e in rows)
    return draw(
        "accuracy", f"{about.capitalize()} of each method", said,
        CAPTION + OVERLAP * compared if any(e.n > 1 for _, _, e in rows)
        else "One seed of each method.",
        0.85 + 0.38 * len(rows), paint,
    )  # fmt: skip


def group_chart(key: str, names: Sequence[str], series: Sequence[Series], caption: str) -> Figure:
    """Draw accuracies of groups of classes as bars, with the seeds as points."""
    width = 0.84 / len(series)
    labels = [s.label for s in series]

    def paint(drawing: Drawing) -> None:
        axes = drawing.subplots()
        for i, (s, name) in enumerate(zip(series, short_names(labels), strict=True)):
            look, values = style(i), 100 * np.asarray(s.values, np.float64)
            x = np.arange(len(names)) + (i - (len(series) - 1) / 2) * width
            axes.bar(
                x,
                means(values),
                width * 0.92,
                color=look.colour,
                alpha=0.75,
                hatch=look.hatch,
                edgecolor=PAPER,
                linewidth=0.5,
                label=name,
            )
            for row in values if len(values) > 1 else []:
                axes.plot(x, row, look.marker, color=INK, markersize=3.2, markeredgecolor=PAPER,
                          markeredgewidth=0.4)  # fmt: skip
        axes.set_xticks(range(len(names)), names)
        axes.set_ylim(0, 103)
        axes.set_ylabel("accuracy, %")
        axes.grid(axis="x", visible=False)
        legend(drawing, axes, len(series))

    said = "; ".join(
        f"{s.label}: " + ", ".join(f"{n} {100 * v:.1f} %"
                                   for n, v in zip(names, means(s.values), strict=True))
        for s in series
    )  # fmt: skip
    return draw(key, f"Accuracy by group: {', '.join(names)}", said, caption,
                3.0 + legend_room(labels), paint)  # fmt: skip


def class_chart(names: Sequence[str], counts: Sequence[int], series: Sequence[Series]) -> Figure:
    """Draw accuracy class by class, largest class first, above the sizes of the classes."""
    few = len(names) <= MOST_MARKED
    labels = [s.label for s in series]

    def paint(drawing: Drawing) -> None:
        top, below = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        x = np.arange(len(names))
        for i, (s, name) in enumerate(zip(series, short_names(labels), strict=True)):
            look, values = style(i), 100 * means(s.values)
            if few:
                shift = (i - (len(series) - 1) / 2) * 0.5 / len(series)
                top.plot(x + shift, values, look.marker, ls=look.dashes, color=look.colour, lw=1,
                         markersize=5, markeredgecolor=PAPER, label=name)  # fmt: skip
            else:
                top.plot(x, values, look.marker, color=look.colour, markersize=2.2, alpha=0.35,
                         markeredgewidth=0)  # fmt: skip
                top.plot(x, running_mean(values), ls=look.dashes, color=look.colour, lw=1.8,
                         label=name)  # fmt: skip
        top.set_ylim(-3, 103)
        top.set_ylabel("accuracy, %")
        below.set_yscale("log")
        if few:
            below.bar(x, counts, 0.8, color=MUTED, alpha=0.6)
        else:  # a bar each would take seconds for thousands of classes
            least = 0.7 * max(1, min(counts))
            below.fill_between(x, least, counts, step="mid", color=MUTED, alpha=0.6, lw=0)
        below.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        below.yaxis.set_minor_formatter(NullFormatter())
        below.set_ylabel("images")
        below.grid(axis="x", visible=False)
        name_classes(below, names)
        legend(drawing, top, len(series))

    several = any(len(s.values) > 1 for s in series)
    how = "Marks: mean over seeds. " if few and several else ""
    if not few:
        how = "Dots: classes. Lines: running mean over them. "
    return draw(
        "classes", "Accuracy of each class against its size",
        "Above: accuracy of each class, largest class first. Below: its training images on a "
        "logarithmic scale. The numbers are in the table of classes.",
        f"{how}Largest class on the left; below, its number of training images (logarithmic).",
        3.9 + legend_room(labels), paint,
    )  # fmt: skip


def running_mean(values: Any) -> Any:
    """Return the mean of each point and its neighbours, a tenth of all; NaN counts for nothing."""
    half = max(1, len(values) // 20)
    return np.array(
        [np.nanmean(part) if np.isfinite(part).any() else np.nan
         for part in (values[max(0, i - half) : i + half + 1] for i in range(len(values)))]
    )  # fmt: skip


def difference_chart(
    names: Sequence[str],
    differences: Sequence[tuple[int, str, Sequence[Estimate | None]]],
    baseline: str,
    caption: str,
) -> Figure:
    """Draw the difference of each class to the baseline with its interval.

    Args:
        names: Of the classes.
        differences: Place of the method (for its look), its name, and one estimate per class.
        baseline: Name of the baseline.
        caption: How to read it.
    """
    m = len(differences)
    labels = [baseline, *(label for _, label, _ in differences)]
    height = 1.0 + len(names) * max(0.22, min(0.1 * m, 0.7) + 0.06)

    def paint(drawing: Drawing) -> None:
        axes = drawing.subplots()
        axes.axvline(0, color=INK, lw=1)
        base, *called = short_names(labels)
        for j, (place, _, found) in enumerate(differences):
            look, first = style(place), True
            for row, e in enumerate(found):
                if e is None:
                    continue
                y = row + (j - (m - 1) / 2) * 0.7 / m
                if e.low is not None and e.high is not None:
                    axes.plot([100 * e.low, 100 * e.high], [y, y], "-", color=look.colour, lw=1.3)
                axes.plot([100 * e.mean], [y], look.marker, color=look.colour, markersize=5,
                          markeredgecolor=PAPER, label=called[j] if first else None)  # fmt: skip
                first = False
        axes.set_yticks(range(len(names)), short_names(names))
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(f"accuracy minus that of {base}, points")
        axes.tick_params(axis="y", length=0)
        legend(drawing, axes, max(2, m))

    return draw(
        "class-differences", f"Differences to {baseline} class by class",
        "One row per class; right of the line the method is better than the baseline. The numbers "
        "are in the table of classes.",
        caption, height + legend_room(labels[1:]), paint,
    )  # fmt: skip
