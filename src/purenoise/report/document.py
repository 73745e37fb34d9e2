"""A report before it is HTML or Markdown: sections of sentences, tables, figures and pictures.

Whatever makes a report makes these plain values, and whatever writes one (:mod:`html`,
:mod:`markdown`) reads them: no page is written twice, and all text is escaped in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: What it says.
        sub: What it says below, smaller: an interval, a count.
        value: By which the column is sorted; None: by the text.
        shade: How strongly it is coloured, 0 to 1.
    """

    text: str
    sub: str = ""
    value: float | None = None
    shade: float = 0.0


@dataclass(frozen=True)
class Table:
    """A table; the first column names its rows.

    Args:
        caption: What it shows and how to read it.
        columns: Heads.
        rows: As many cells each as there are columns.
        kind: ``plain``, or ``heat``: small square cells that are coloured.
        sortable: Whether a reader may sort it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kind: Literal["plain", "heat"] = "plain"
    sortable: bool = True


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Args:
        title: Its name for those who do not see it.
        description: What it shows, likewise.
        caption: How to read it.
        svg: Inline SVG, already safe.
    """

    title: str
    description: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Picture:
    """A small image.

    Args:
        source: ``data:image/png;base64,...``.
        alt: What it shows.
        label: Below it.
    """

    source: str
    alt: str
    label: str = ""


@dataclass(frozen=True)
class Pictures:
    """Images in a row, with one caption."""

    caption: str
    items: tuple[Picture, ...]


@dataclass(frozen=True)
class Sentences:
    """Text.

    Args:
        items: One paragraph or point each.
        kind: ``text``, ``verdict`` (set large), ``list`` or ``small`` (a list in small print).
    """

    items: tuple[str, ...]
    kind: Literal["text", "verdict", "list", "small"] = "text"


@dataclass(frozen=True)
class Facts:
    """Names with what they are."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Lines:
    """Lines to be typed as they stand."""

    items: tuple[str, ...]


Part = Table | Figure | Pictures | Sentences | Facts | Lines


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it.

    Args:
        key: Its place in addresses, ``[a-z-]+``.
        heading: Its name.
        parts: In order.
        aside: Whether it is set apart, as what is no result.
    """

    key: str
    heading: str
    parts: tuple[Part, ...]
    aside: bool = False


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...] = field(default=())


def text_cells(*texts: str) -> tuple[Cell, ...]:
    """Return cells that only say something."""
    return tuple(map(Cell, texts))


def section(
    key: str, heading: str, parts: Sequence[Part | None], *, aside: bool = False
) -> Section:
    """Return a section of those parts that there are."""
    return Section(key, heading, tuple(p for p in parts if p is not None), aside)
