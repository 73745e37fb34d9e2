"""How numbers and names are written in a report."""

from __future__ import annotations

from collections.abc import Sequence

from purenoise.lab.comparison import Comparison
from purenoise.lab.intervals import Estimate, Paired
from purenoise.lab.records import METRICS
from purenoise.report.document import Cell
from purenoise.terminal.plaintext import printable
from purenoise.terminal.tables import ALL_EQUAL

NA = "n/a"
LONGEST = 25  # letters of a name in a figure
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


def short_names(texts: Sequence[object]) -> list[str]:
    """Return names for one figure: of at most ``LONGEST`` letters, and no two alike.

    Long names lose their middle; those that would be alike then show where they begin to differ,
    and if that is not enough they are numbered.
    """
    names = list(map(clean, texts))
    shown = [_without_middle(name) for name in names]
    for one in {s for s in shown if shown.count(s) > 1}:
        alike = [i for i, s in enumerate(shown) if s == one]
        columns = zip(*(names[i] for i in alike), strict=False)
        differ = next((at for at, letters in enumerate(columns) if len(set(letters)) > 1), 0)
        for i in alike:
            shown[i] = _around(names[i], differ)
    return _numbered(shown)


def _without_middle(name: str) -> str:
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[half + 1 - LONGEST :]}"


def _around(name: str, place: int) -> str:
    """Return the beginning of a name and what stands around a place in it."""
    begin, before = LONGEST // 4, 3
    if len(name) <= LONGEST:
        return name
    rest, room = name[max(begin, place - before) :], LONGEST - begin - 1
    return f"{name[:begin]}…{rest if len(rest) <= room else rest[: room - 1] + '…'}"


def _numbered(names: Sequence[str]) -> list[str]:
    """Return names with a number where they were there before."""
    found: list[str] = []
    taken = set(names)
    for name in names:
        shown, n = name, 1
        while shown in found or (n > 1 and shown in taken):
            n += 1
            shown = f"{name[: LONGEST - len(f' ({n})')]} ({n})"
        found.append(shown)
    return found


def several(values: Sequence[object], most: int = 4) -> str:
    """Return the different values in order, joined."""
    found = list(dict.fromkeys(map(str, values)))
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more
