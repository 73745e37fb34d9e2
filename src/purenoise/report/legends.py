"""The names in a drawing: those of methods above it, those of classes below an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from purenoise.report.figures import Drawing
from purenoise.report.wording import short_names

MOST_NAMED = 24  # classes whose names fit below an axis
LINE = 0.17  # inches of a line of a legend
LINES = 2  # that a drawing has room for as it is
BRIEF = 15  # letters of names of which three stand side by side


def legend(drawing: Drawing, axes: Any, n: int) -> None:
    """Put the names above the drawing, if there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if n > 1:
        drawing.legend(handles, labels, loc="outside upper left", ncols=_columns(labels),
                       borderaxespad=0, borderpad=0, columnspacing=0.8, handletextpad=0.5,
                       handlelength=1.6)  # fmt: skip


def legend_room(labels: Sequence[object]) -> float:
    """Return by how many inches a drawing has to grow for a legend of many lines."""
    names = short_names(labels)
    return LINE * max(0, math.ceil(len(names) / _columns(names)) - LINES)


def _columns(names: Sequence[str]) -> int:
    return 3 if len(names) <= 3 and max(map(len, names), default=0) <= BRIEF else 2


def name_classes(axes: Any, names: Sequence[str]) -> None:
    """Name the classes below an axis where there is room."""
    if len(names) <= MOST_NAMED:
        long = max(map(len, names)) > 3 and len(names) > 3
        axes.set_xticks(range(len(names)), short_names(names),
                        rotation=90 if long else 0)  # fmt: skip
    else:
        axes.set_xlabel("classes, largest first")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
