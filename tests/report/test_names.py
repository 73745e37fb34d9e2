"""In a figure no two methods look alike, and no two names read alike."""

from __future__ import annotations

import html
import re
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Drawing
from matplotlib.markers import MarkerStyle

from purenoise.lab.intervals import t_interval
from purenoise.report.behaviourcharts import curve_chart
from purenoise.report.charts import (
    Series,
    accuracy_chart,
    class_chart,
    difference_chart,
    group_chart,
)
from purenoise.report.figures import MARKERS, SETTINGS, WIDTH, style
from purenoise.report.legends import legend, legend_room
from purenoise.report.wording import LONGEST, short_names

ALIKE = [
    "open+balanced-softmax:delta=0.2:prior=natural:tau=0.5",
    "open+balanced-softmax:delta=0.2:prior=all:tau=0.5",
    "open+balanced-softmax:delta=0.3:prior=all:tau=0.5",
    "open",
]


def test_no_two_methods_look_alike():
    """Colour with marker, with hatch and with dashes tells methods apart, also far beyond eight."""
    looks = [style(i) for i in range(64)]
    assert len({(s.colour, s.marker) for s in looks}) == 64
    assert len({(s.colour, s.hatch) for s in looks}) == 64
    assert len({(s.colour, s.dashes) for s in looks[:32]}) == 32
    assert len({s.colour for s in looks[:8]}) == len({s.marker for s in looks[:8]}) == 8


def test_no_marker_drowns_in_its_edge():
    """Every marker that is drawn is filled, and at least half as large as the disc."""

    def area(marker: str) -> float:
        found = MarkerStyle(marker)
        path = found.get_path().transformed(found.get_transform())
        return abs(sum(
            (a[0] * b[1] - b[0] * a[1]) / 2
            for polygon in path.to_polygons()
            for a, b in pairwise(polygon)
        ))  # fmt: skip

    for marker in MARKERS:
        assert MarkerStyle(marker).is_filled()
        assert area(marker) > 0.5 * area("o")


@given(st.lists(st.text("ab-=\n", max_size=60), max_size=12, unique=True))
def test_names_of_a_figure_are_short_and_unique(names):
    """However long and alike names are, those of one figure differ, and short ones stay."""
    found = short_names(names)
    assert len(set(found)) == len(names)
    assert all(len(name) <= LONGEST for name in found)


def test_long_names_lose_their_middle_or_show_what_differs():
    """The end of a name stays; names that differ in the middle show the middle."""
    (one,) = short_names(["label-aware-smoothing:head=0.3:tail=0"])
    assert (one[:12], one[-6:]) == ("label-aware-", "tail=0")
    first, second, third, last = short_names(ALIKE)
    assert first.endswith("ural:tau=0.5")
    assert "=0.2:prior=all" in second
    assert "=0.3:prior=all" in third
    assert last == "open"


def drawn(figure) -> str:
    """Return the text of a figure's drawing."""
    return html.unescape(re.sub(r"<[^>]*>", "\n", str(figure.svg).partition("</desc>")[2]))


def figures() -> dict[str, object]:
    """Return figures of all kinds that name several methods."""
    values = [[0.1, 0.2], [0.3, 0.4]]
    series = [Series(name, values) for name in ALIKE]
    estimate = t_interval([0.1, 0.2])
    return {
        "accuracy": accuracy_chart([(name, [0.1, 0.2], estimate) for name in ALIKE]),
        "groups": group_chart("g", ["many", "few"], series, "c"),
        "classes": class_chart(["a", "b"], [9, 5], series),
        "differences": difference_chart(
            ["a", "b"],
            [(i, name, [estimate] * 2) for i, name in enumerate(ALIKE[:3])], ALIKE[3], "c",
        ),
        "curves": curve_chart([("loss", {name: [{0: 1.0, 1: 0.5}] for name in ALIKE})], []),
    }  # fmt: skip


@pytest.mark.parametrize("kind", list(figures()))
def test_every_chart_names_every_method_apart(kind):
    """Each chart shows as many different names as there are methods."""
    lines = set(drawn(figures()[kind]).split("\n"))
    expected = short_names(ALIKE)
    shown = [name for name in expected if name in lines or any(name in s for s in lines)]
    assert shown == expected


def test_a_long_legend_gets_room_and_is_not_cut(tmp_path: Path):
    """A drawing grows with the lines of its legend, and the legend ends within the drawing."""
    names = [f"open+balanced-softmax:{i:02d}:prior=natural:tau=0.5" for i in range(12)]
    assert legend_room(names[:4]) == 0 < legend_room(names[:6]) < legend_room(names)
    with matplotlib.rc_context(SETTINGS):
        for n in (2, 3, 12):
            page = Drawing(figsize=(WIDTH, 3.0 + legend_room(names[:n])), layout="constrained")
            axes = page.subplots()
            for name in short_names(names[:n]):
                axes.plot([0, 1], [0, 1], "o-", label=name)
            legend(page, axes, n)
            page.savefig(tmp_path / "x.svg")
            box = page.legends[0].get_window_extent()
            assert box.x1 <= page.bbox.x1
            assert axes.get_window_extent().height > 1.5 * page.dpi
