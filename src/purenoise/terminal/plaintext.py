"""Text of strangers as terminals, tables and spreadsheets may have it. Imports next to nothing."""

from __future__ import annotations

import re
from typing import Any

# What begins a formula: in a cell, behind what separates cells elsewhere, or behind a quote there.
# The last group may be empty, so that no letter is looked at twice.
FORMULA = re.compile('((?:^|[;|\t])[\\s";|]*)([-=+@\uff1d\uff0b\uff0d\uff20]?)')


def printable(text: str) -> str:
    """Return text that cannot move the cursor or turn the line around."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def one_line(text: str) -> str:
    r"""Return printable text on one line, for a row of a table.

    Example:
        >>> one_line("a\nb\x1b[2J").isprintable()
        True
    """
    return printable(text.replace("\n", " "))


def csv_cell(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula, and no terminal for a command.

    Example:
        >>> csv_cell("=1+1"), csv_cell("a; =1+1"), csv_cell(-0.5)
        ("'=1+1", "a; '=1+1", -0.5)
    """
    if not isinstance(value, str):
        return value
    if value[:1] in ("\t", "\r", "\n"):
        value = f"'{value}"
    return one_line(FORMULA.sub(lambda m: m[1] + ("'" + m[2] if m[2] else ""), value))
