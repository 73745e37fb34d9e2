"""A report as Markdown: its sentences and tables; its figures by their descriptions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from purenoise.report.document import (
    Cell,
    Document,
    Facts,
    Figure,
    Lines,
    Part,
    Pictures,
    Sentences,
    Table,
)

MARK = "<!-- purenoise report -->"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&])")


def to_markdown(document: Document, mark: str = MARK) -> str:
    """Return a document as Markdown (with tables as GitHub reads them), marked as what it is."""
    lines = [mark, f"# {escape(document.title)}", "", escape(document.subtitle), ""]
    for section in document.sections:
        lines += [f"## {escape(section.heading)}", ""]
        for part in section.parts:
            lines += [*_part(part), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def escape(text: str) -> str:
    r"""Return text that Markdown shows as it is, on one line.

    Example:
        >>> print(escape("<b>|*x*"))
        \<b\>\|\*x\*
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _part(part: Part) -> list[str]:
    match part:
        case Sentences(items, kind):
            if kind == "text":
                return [line for item in items for line in (escape(item), "")][:-1]
            return [f"- {escape(item)}" for item in items]
        case Table():
            return _table(part)
        case Facts(pairs):
            return [f"- {escape(name)}: {escape(value)}" for name, value in pairs]
        case Lines(items):
            return ["```", *(item.replace("```", "'''") for item in items), "```"]
        case Figure():
            return [f"*Figure: {escape(part.title)}.* {escape(part.description)}"]
        case Pictures():
            return [f"*Pictures:* {escape(part.caption)}"]


def _table(table: Table) -> list[str]:
    head = "| " + " | ".join(map(escape, table.columns)) + " |"
    rule = "|" + " --- |" + " ---: |" * (len(table.columns) - 1)
    rows = [f"| {' | '.join(_cells(row))} |" for row in table.rows]
    return [escape(table.caption), "", head, rule, *rows]


def _cells(row: Sequence[Cell]) -> list[str]:
    return [escape(f"{c.text} ({c.sub})" if c.sub else c.text) for c in row]
