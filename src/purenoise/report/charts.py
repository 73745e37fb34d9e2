"""The charts of a report, from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from purenoise.lab.intervals import Estimate
from purenoise.report.document import Figure
from purenoise.report.figures import GRID, INK, MUTED, PAPER, Drawing, draw, style
from purenoise.report.wording import short

MOST_NAMED = 24  # classes whose names fit below an axis
MOST_MARKED = 40  # classes that get a marker each
FEWEST = 10  # predictions that a point of the reliability diagram stands for


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


def legend(drawing: Drawing, axes: Any, n: int) -> None:
    """Put the names above the drawing, if there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if n > 1:
        drawing.legend(handles, labels, loc="outside upper left", ncols=2 if n > 3 else 3,
                       borderaxespad=0, columnspacing=1.2, handletextpad=0.5)  # fmt: skip


CAPTION = (
    "Large marks: mean over seeds. Lines: 95 % interval of that mean. Small marks: the seeds. "
    "Overlapping lines do not mean that methods are equal: the differences below are taken seed by "
    "seed."
)


def accuracy_chart(
    rows: Sequence[tuple[str, Sequence[float], Estimate]], about: str = "accuracy"
) -> Figure:
    """Draw the accuracy of each method, of the kind ``about``: its seeds, mean and interval."""

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
        axes.set_yticks(range(len(rows)), [short(label) for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"{about} on the test images, %")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)

    said = "; ".join(f"{label}: {100 * e.mean:.1f} %" for label, _, e in rows)
    return draw(
        "accuracy", f"{about.capitalize()} of each method", said,
        CAPTION if any(e.n > 1 for _, _, e in rows) else "One seed of each method.",
        0.85 + 0.38 * len(rows), paint,
    )  # fmt: skip


def group_chart(key: str, names: Sequence[str], series: Sequence[Series], caption: str) -> Figure:
    """Draw accuracies of groups of classes as bars, with the seeds as points."""
    width = 0.84 / len(series)

    def paint(drawing: Drawing) -> None:
        axes = drawing.subplots()
        for i, s in enumerate(series):
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
                label=short(s.label),
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
    return draw(key, f"Accuracy by group: {', '.join(names)}", said, caption, 3.0, paint)


def class_chart(names: Sequence[str], counts: Sequence[int], series: Sequence[Series]) -> Figure:
    """Draw accuracy class by class, largest class first, above the sizes of the classes."""
    few = len(names) <= MOST_MARKED

    def paint(drawing: Drawing) -> None:
        top, below = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        x = np.arange(len(names))
        for i, s in enumerate(series):
            look, values = style(i), 100 * means(s.values)
            if few:
                shift = (i - (len(series) - 1) / 2) * 0.5 / len(series)
                top.plot(x + shift, values, look.marker, ls=look.dashes, color=look.colour, lw=1,
                         markersize=5, markeredgecolor=PAPER, label=short(s.label))  # fmt: skip
            else:
                top.plot(x, values, look.marker, color=look.colour, markersize=2.2, alpha=0.35,
                         markeredgewidth=0)  # fmt: skip
                top.plot(x, running_mean(values), ls=look.dashes, color=look.colour, lw=1.8,
                         label=short(s.label))  # fmt: skip
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
        3.9, paint,
    )  # fmt: skip


def running_mean(values: Any) -> Any:
    """Return the mean of each point and its neighbours, a tenth of all; NaN counts for nothing."""
    half = max(1, len(values) // 20)
    return np.array(
        [np.nanmean(part) if np.isfinite(part).any() else np.nan
         for part in (values[max(0, i - half) : i + half + 1] for i in range(len(values)))]
    )  # fmt: skip


def name_classes(axes: Any, names: Sequence[str]) -> None:
    """Name the classes below an axis where there is room."""
    if len(names) <= MOST_NAMED:
        long = max(map(len, names)) > 3 and len(names) > 3
        axes.set_xticks(range(len(names)), [short(n) for n in names],
                        rotation=90 if long else 0)  # fmt: skip
    else:
        axes.set_xlabel("classes, largest first")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


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

    def paint(drawing: Drawing) -> None:
        axes = drawing.subplots()
        axes.axvline(0, color=INK, lw=1)
        for j, (place, label, found) in enumerate(differences):
            look, first = style(place), True
            for row, e in enumerate(found):
                if e is None:
                    continue
                y = row + (j - (m - 1) / 2) * 0.7 / m
                if e.low is not None and e.high is not None:
                    axes.plot([100 * e.low, 100 * e.high], [y, y], "-", color=look.colour, lw=1.3)
                axes.plot([100 * e.mean], [y], look.marker, color=look.colour, markersize=5,
                          markeredgecolor=PAPER, label=short(label) if first else None)  # fmt: skip
                first = False
        axes.set_yticks(range(len(names)), [short(n) for n in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(f"accuracy minus that of {short(baseline)}, points")
        axes.tick_params(axis="y", length=0)
        legend(drawing, axes, max(2, m))

    return draw(
        "class-differences", f"Differences to {baseline} class by class",
        "One row per class; right of the line the method is better than the baseline. The numbers "
        "are in the table of classes.",
        caption, 1.0 + len(names) * max(0.22, 0.1 * m + 0.06), paint,
    )  # fmt: skip


def curve_chart(
    panels: Sequence[tuple[str, Mapping[str, Sequence[Mapping[int, float]]]]], marks: Sequence[int]
) -> Figure:
    """Draw training curves: mean over seeds, and the range of the seeds.

    Args:
        panels: Name of the axis, and for each method the values per epoch of each seed.
        marks: Epochs at which a phase begins.
    """

    def paint(drawing: Drawing) -> None:
        places = drawing.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, methods) in zip(places, panels, strict=True):
            for epoch in marks:
                axes.axvline(epoch, color=MUTED, lw=0.9, ls=":")
            for i, (label, seeds) in enumerate(methods.items()):
                look = style(i)
                epochs = sorted({e for seed in seeds for e in seed})
                at = [[s[e] for s in seeds if e in s] for e in epochs]
                axes.plot([e + 1 for e in epochs], [sum(v) / len(v) for v in at], ls=look.dashes,
                          marker=look.marker if len(epochs) == 1 else "",  # no line to be seen
                          color=look.colour, lw=1.5, label=short(label))  # fmt: skip
                axes.fill_between(
                    [e + 1 for e in epochs],
                    [min(v) for v in at],
                    [max(v) for v in at],
                    color=look.colour,
                    alpha=0.15,
                    lw=0,
                )
            axes.set_ylabel(name)
        places[-1].set_xlabel("epoch")
        places[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(drawing, places[0], len(panels[0][1]))

    several = any(len(seeds) > 1 for seeds in panels[0][1].values())
    how = "Lines: mean over seeds. Bands: from the lowest to the highest seed. " if several else ""
    return draw(
        "curves", "Training curves",
        "Over the epochs: " + ", ".join(name for name, _ in panels) + ", a line per method.",
        f"{how}Dotted: where a second phase begins. Only the last epoch counts; the course on the "
        "test images is shown to be looked at, not to be chosen from.",
        0.7 + 1.6 * len(panels), paint,
    )  # fmt: skip


def reliability_chart(series: Sequence[tuple[int, str, Any, Any, Any]]) -> Figure:
    """Draw accuracy against confidence.

    Args:
        series: Place, name, and per bin: mean confidence, accuracy and number of predictions.
    """

    def paint(drawing: Drawing) -> None:
        axes = drawing.subplots()
        axes.plot([0, 100], [0, 100], color=MUTED, lw=1, ls=":")
        for place, label, confidence, accuracy, n in series:
            look, there = style(place), n >= FEWEST
            axes.plot(100 * confidence[there], 100 * accuracy[there], ls=look.dashes,
                      color=look.colour, lw=1.2, label=short(label))  # fmt: skip
            axes.scatter(100 * confidence[there], 100 * accuracy[there],
                         16 + 90 * n[there] / n.sum(),
                         marker=look.marker, color=look.colour, edgecolors=PAPER,
                         linewidths=0.5)  # fmt: skip
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.set_xlabel("largest probability, %")
        axes.set_ylabel("right, %")
        legend(drawing, axes, len(series))

    return draw(
        "reliability", "Reliability diagram",
        "How often predictions are right, against how sure the network is, a line per method.",
        "On the dotted line a network is right as often as it says; below it is too sure, above "
        "too careful. The larger the mark, the more predictions are that sure. All seeds together; "
        f"what stands for fewer than {FEWEST} predictions is not drawn.",
        3.7, paint,
    )  # fmt: skip


def share_chart(
    names: Sequence[str],
    training: Sequence[float],
    panels: Sequence[tuple[str, Sequence[tuple[int, str, Any]]]],
) -> Figure:
    """Draw which classes are predicted for images of no class, beside the training share."""
    n_methods = len(panels[0][1])

    def paint(drawing: Drawing) -> None:
        places = drawing.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        x = np.arange(len(names))
        for axes, (title, series) in zip(places, panels, strict=True):
            axes.bar(x, 100 * np.asarray(training), 0.85, color=GRID, edgecolor=MUTED, lw=0.5)
            for j, (place, label, share) in enumerate(series):
                look = style(place)
                shift = (j - (n_methods - 1) / 2) * 0.6 / n_methods
                axes.plot(x + shift, 100 * np.asarray(share), look.marker, color=look.colour,
                          markersize=5, markeredgecolor=PAPER, label=short(label))  # fmt: skip
            axes.set_title(title)
            axes.set_ylabel("share, %")
            axes.grid(axis="x", visible=False)
        name_classes(places[-1], names)
        legend(drawing, places[0], n_methods)

    return draw(
        "shares", "Which classes are predicted for images of no class",
        "Marks: share of the predictions per class. Bars: share of the training images.",
        "Marks: share of the predictions that name a class. Grey bars: the class's share "
        "of the training images. Largest class on the left.",
        0.8 + 1.7 * len(panels), paint,
    )  # fmt: skip
