"""Drawings as inline SVG that fit a page in light and in dark, on paper and on a phone.

Matplotlib draws them without pyplot, so that no state outlives a drawing. Its colours are then
replaced by CSS variables, which the page sets for light and dark. Text stays text. Identifiers are
the same in every run, and are given a prefix so that two drawings on a page share none.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure as Drawing

from purenoise.report.document import Figure

# Okabe and Ito's colours, told apart by the colour-blind, without the yellow that white swallows.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7d6608", "#4b4b4b")
INK, MUTED, GRID, PAPER = "#1b2530", "#5c6773", "#dde2e7", "#fefefe"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")  # as large as each other to the eye
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "//", r"\\", "--", "||", "xx", "++", "/")
WIDTH = 4.7  # inches; narrow, so that letters stay readable on a phone

VARIABLES = {colour: f"var(--s{i})" for i, colour in enumerate(SERIES)} | {
    INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)",
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "purenoise", "svg.id": None,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9.5,
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "axes.facecolor": "none",
    "figure.facecolor": "none", "savefig.facecolor": "none", "xtick.color": MUTED,
    "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.titlesize": 9.5, "axes.labelsize": 9.5,
    "axes.titlelocation": "left", "legend.frameon": False, "legend.fontsize": 9,
    "axes.unicode_minus": False, "hatch.color": PAPER, "hatch.linewidth": 0.8,
    "lines.markeredgewidth": 0.6,  # white edges part marks that overlap, and must not eat thin ones
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How one method looks in every drawing."""

    colour: str
    marker: str
    dashes: str
    hatch: str


def style(index: int) -> Style:
    """Return the look of the method with this place.

    All of it moves on by one where colours begin anew, so that no two of 64 places have the same
    colour with the same marker or hatch, and no two of 32 the same colour with the same dashes.
    """
    again, colour = divmod(index, len(SERIES))
    shift = colour + again
    return Style(
        SERIES[colour],
        MARKERS[shift % len(MARKERS)],
        DASHES[shift % len(DASHES)],
        HATCHES[shift % len(HATCHES)],
    )


def draw(
    key: str,
    title: str,
    description: str,
    caption: str,
    height: float,
    paint: Callable[[Drawing], None],
) -> Figure:
    """Draw a figure.

    Args:
        key: ``[a-z-]+``, another one for each figure of a page.
        title: Its name.
        description: What it shows, for those who do not see it.
        caption: How to read it.
        height: In inches.
        paint: Draws on an empty drawing.
    """
    known: Any = {k: v for k, v in SETTINGS.items() if k in matplotlib.rcParams}
    with matplotlib.rc_context(known), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has it
        drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
        paint(drawing)
        text = io.StringIO()
        empty = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawing.savefig(text, format="svg", metadata=empty)
    svg = inline(text.getvalue(), key, title, description)
    return Figure(title, description, caption, svg)


def inline(svg: str, key: str, title: str, description: str) -> Markup:
    """Return Matplotlib's SVG file as an element of a page.

    Args:
        svg: The file.
        key: Prefix of its identifiers.
        title: Its accessible name.
        description: Its accessible description.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<title>.*?</title>|<!--.*?-->",
        "",
        body,
        flags=re.S,
    )
    body = re.sub(r"<[^>]*>", lambda tag: _adapted(tag[0], key), body)  # a class's name is text
    box = re.search(r'viewBox="([^"]+)"', body)
    assert box is not None
    head = (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box[1]}" role="img" '
        f'aria-labelledby="{key}-t {key}-d"><title id="{key}-t">{escape(title)}</title>'
        f'<desc id="{key}-d">{escape(description)}</desc>'
    )
    rest = body[body.index(">") + 1 :]
    return Markup(re.sub(r"\n\s*", "\n", head + rest))


def _adapted(tag: str, key: str) -> str:
    """Give a tag identifiers of this drawing, the page's colours and the page's letters."""
    tag = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', tag)
    tag = re.sub(r"url\(#", f"url(#{key}-", tag)
    tag = re.sub(r'href="#', f'href="#{key}-', tag)
    for colour, variable in VARIABLES.items():
        tag = tag.replace(colour, variable)
    return re.sub(r"font: ([\d.]+)px 'DejaVu Sans'[^;\"]*", r"font-size: \1px", tag)
