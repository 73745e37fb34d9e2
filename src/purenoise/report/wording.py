"""How numbers and names are written in a report."""

from __future__ import annotations

from collections.abc import Sequence

from purenoise.lab.comparison import Comparison
from purenoise.lab.intervals import Estimate, Paired
from purenoise.lab.records import METRICS
from purenoise.report.document import Cell
from purenoise.terminal.tables import ALL_EQUAL, printable

NA = "n/a"
LONGEST = 28  # letters of a name in a figure
BOUNDS = "These intervals know nothing of bounds: near 100 % they may reach beyond it."
HEADS = {name: name if name == "NLL" else f"{name} %" for name in METRICS}


def number(metric: str, value: float | None, *, signed: bool = False) -> str:
    """Return a metric as it is written: percent with one digit, NLL with three."""
    if value is None:
        return NA
    digits, shown = (3, value) if metric == "NLL" else (1, 100 * value)
    shown = round(shown, digits) + 0.0  # without -0.0
    return f"{shown:{'+' if signed else ''}.{digits}f}"


def estimate_cell(metric: str, found: Estimate | None) -> Cell:
    """Return a mean with its interval below."""
    if found is None:
        return Cell(NA)
    sub = ""
    if found.sd == 0:
        sub = ALL_EQUAL
    elif found.low is not None and found.high is not None:
        sub = f"{number(metric, found.low)} to {number(metric, found.high)}"
    return Cell(number(metric, found.mean), sub, found.mean)


def paired_cell(metric: str, found: Paired | None) -> Cell:
    """Return a mean difference with its interval below."""
    if found is None:
        return Cell(NA)
    e, sub = found.estimate, ""
    if e.sd == 0:
        sub = ALL_EQUAL
    elif e.low is not None and e.high is not None:
        low, high = (number(metric, end, signed=True) for end in (e.low, e.high))
        sub = f"{low} to {high}"
    return Cell(number(metric, e.mean, signed=True), sub, e.mean)


def over_seeds(comparison: Comparison, text: str = ", mean over seeds") -> str:
    """Return ``text`` if a method ran with several seeds, else nothing."""
    return text if any(len(row.records) > 1 for row in comparison.rows) else ""


def over_common_seeds(comparison: Comparison, text: str = ", mean over seeds") -> str:
    """Return ``text`` if a method has several seeds in common with the baseline, else nothing."""
    return text if any(len(d.seeds) > 1 for d in comparison.differences) else ""


def clean(text: object) -> str:
    """Return text on one line that cannot turn a line around or hide in it."""
    return printable(str(text).replace("\n", " "))


def short(text: object) -> str:
    """Return a name for a figure, cut where it is too long."""
    name = clean(text)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def several(values: Sequence[object], most: int = 4) -> str:
    """Return the different values in order, joined."""
    found = list(dict.fromkeys(map(str, values)))
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
