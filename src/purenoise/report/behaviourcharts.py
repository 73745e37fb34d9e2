"""The charts of behaviour: how networks learned, how sure they are, what they say of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from purenoise.report.document import Figure
from purenoise.report.figures import GRID, MUTED, PAPER, Drawing, draw, style
from purenoise.report.legends import legend, legend_room, name_classes
from purenoise.report.wording import short_names

LOSSES = (
    "Losses of different methods cannot be compared: that of OPeN counts noise rows, that of "
    "balanced softmax has a prior in it, others weigh or mix. "
)
FEWEST = 10  # predictions that a point of the reliability diagram stands for


def curve_chart(
    panels: Sequence[tuple[str, Mapping[str, Sequence[Mapping[int, float]]]]], marks: Sequence[int]
) -> Figure:
    """Draw training curves: mean over seeds, and the range of the seeds.

    Args:
        panels: Name of the axis, and for each method the values per epoch of each seed.
        marks: Epochs at which a phase begins.
    """
    labels = list(panels[0][1])
    names = dict(zip(labels, short_names(labels), strict=True))

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
                          color=look.colour, lw=1.5, label=names[label])  # fmt: skip
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
        f"{how}{'Dotted: where a second phase begins. ' if marks else ''}"
        f"{LOSSES if len(labels) > 1 else ''}Only the last epoch counts; the course on the test "
        "images is shown to be looked at, not to be chosen from.",
        0.7 + 1.6 * len(panels) + legend_room(labels), paint,
    )  # fmt: skip


def reliability_chart(series: Sequence[tuple[int, str, Any, Any, Any]], how: str = "") -> Figure:
    """Draw accuracy against confidence.

    Args:
        series: Place, name, and per bin: mean confidence, accuracy and number of predictions.
        how: What the caption says of the seeds.
    """
    labels = [label for _, label, *_ in series]
    names = short_names(labels)

    def paint(drawing: Drawing) -> None:
        axes = drawing.subplots()
        axes.plot([0, 100], [0, 100], color=MUTED, lw=1, ls=":")
        for name, (place, _, confidence, accuracy, n) in zip(names, series, strict=True):
            look, there = style(place), n >= FEWEST
            axes.plot(100 * confidence[there], 100 * accuracy[there], ls=look.dashes,
                      color=look.colour, lw=1.2, label=name)  # fmt: skip
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
        f"too careful. The larger the mark, the more predictions are that sure.{how} "
        f"What stands for fewer than {FEWEST} predictions is not drawn.",
        3.7 + legend_room(labels), paint,
    )  # fmt: skip


def share_chart(
    names: Sequence[str],
    training: Sequence[float],
    panels: Sequence[tuple[str, Sequence[tuple[int, str, Any]]]],
) -> Figure:
    """Draw which classes are predicted for images of no class, beside the training share."""
    labels = list(dict.fromkeys(label for _, series in panels for _, label, _ in series))
    called = dict(zip(labels, short_names(labels), strict=True))
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
                          markersize=5, markeredgecolor=PAPER, label=called[label])  # fmt: skip
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
        0.8 + 1.7 * len(panels) + legend_room(labels), paint,
    )  # fmt: skip
