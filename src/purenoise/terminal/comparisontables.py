"""A comparison as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from purenoise.lab.comparison import Comparison, Difference, Row
from purenoise.lab.intervals import Estimate
from purenoise.lab.records import ACCURACY
from purenoise.lab.verdicts import points, verdicts
from purenoise.terminal.plaintext import printable
from purenoise.terminal.tables import ALL_EQUAL, broken, p_value, percent

GAP = 2  # letters between columns
NAMES, MOST = 10, 26  # letters of a line of a method's name, at least and at most
EXPLAINED = {
    "sd": "sd: over seeds",
    "(best)": "(best): in the best of the tested epochs, which nobody could have chosen",
}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the table of methods, the differences, and what may be concluded."""
    console.print(comparison_tables(comparison, console.width))
    console.print()
    for said in verdicts(comparison):
        console.print(printable(said), markup=False, highlight=False)
    for path, why in comparison.left_out.items():
        said = f"left out: {printable(path)}: {printable(why)}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    for note in comparison.notes:
        console.print(f"note: {printable(note)}", markup=False, highlight=False)


@dataclass(frozen=True)
class Column:
    """A column of numbers, one for each method.

    Args:
        head: Above it.
        cells: From top to bottom.
        spare: On a narrow terminal the columns with the largest number give way first; 0 stays.
    """

    head: str
    cells: Sequence[str]
    spare: int = 0

    @property
    def width(self) -> int:
        """Of the widest cell or line of the head, with the space before it."""
        return max(map(len, [*self.head.split("\n"), *self.cells])) + GAP


def comparison_tables(comparison: Comparison, width: int = 80) -> Group:
    """Return the tables of a comparison; groups without a class give way to thirds of classes.

    Args:
        comparison: What was found.
        width: Of the terminal, in letters.
    """
    rows, about = comparison.rows, comparison.about
    there = [c for c in ("many", "medium", "few") if any(r.estimates[c] for r in rows)]
    groups = there if len(there) > 1 else ["head", "mid", "tail"]
    found = [e for row in rows if (e := row.estimates[about])]  # without test images: left out
    columns = [
        Column("seeds", [str(e.n) for e in found], 1),
        Column(f"{about} %".replace(" a", "\na"), [percent(e.mean) for e in found]),
        Column("sd", ["n/a" if e.sd is None else f"{100 * e.sd:.1f}" for e in found], 3),
        Column("95 % interval", [interval(e) for e in found]),
        *(Column(g, [percent(_mean(row, g)) for row in rows], 2) for g in groups),
    ]
    if about == ACCURACY:
        columns.append(Column("(best)", [f"({percent(row.optimistic)})" for row in rows], 4))
    else:
        columns.append(Column(f"{ACCURACY} %", [percent(_mean(row, ACCURACY)) for row in rows], 4))
    names = [row.label + " (baseline)" * (row.label == comparison.baseline) for row in rows]
    shown = _that_fit(columns, width)
    below = [said for column in shown if (said := EXPLAINED.get(column.head))]
    parts: list[Table | Text | str] = [_table(names, shown, width)]
    parts += [Text("; ".join(below))] if below else []
    if comparison.differences:
        parts += ["", Text(f"against {comparison.baseline}, seed by seed", style="bold"),
                  _differences(comparison.differences, groups, width)]  # fmt: skip
    return Group(*parts)


def _mean(row: Row, metric: str) -> float | None:
    found = row.estimates[metric]
    return None if found is None else found.mean


def _that_fit(columns: Sequence[Column], width: int) -> list[Column]:
    """Return those columns for which there is room beside the names."""
    left = list(columns)
    while width - sum(c.width for c in left) < NAMES and (spare := max(c.spare for c in left)):
        left = [c for c in left if c.spare < spare]
    return left


def _table(names: Sequence[str], columns: Sequence[Column], width: int) -> Table:
    """Return a table of methods."""
    room = max(1, min(MOST, width - sum(c.width for c in columns)))
    table = Table("method", box=None, header_style="bold", pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True)
    for i, name in enumerate(names):
        table.add_row(escape(broken(name, room)), *(c.cells[i] for c in columns))
    return table


def interval(estimate: Estimate) -> str:
    """Return an interval in percent, or n/a."""
    if estimate.low is None or estimate.high is None:
        return "n/a"
    if estimate.sd == 0:
        return ALL_EQUAL
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def _differences(differences: Sequence[Difference], groups: Sequence[str], width: int) -> Table:
    found = [(d, d.headline) for d in differences if d.headline is not None]
    columns = [
        Column("points", [points(h.estimate.mean) for _, h in found]),
        Column("95 % interval", [_ends(h.estimate) for _, h in found]),
        Column("p", [p_value(h.p) for _, h in found], 2),
        Column("p (Holm)", [p_value(d.p_holm) for d, _ in found], 1),
    ]
    for group in groups:
        parts = [d.metrics[group] for d, _ in found]
        means = ["n/a" if part is None else points(part.estimate.mean) for part in parts]
        columns.append(Column(group, means, 3))
    return _table([d.label for d, _ in found], _that_fit(columns, width), width)


def _ends(e: Estimate) -> str:
    """Return the interval of a difference in points."""
    if e.low is None or e.high is None:
        return "n/a"
    return ALL_EQUAL if e.sd == 0 else f"{points(e.low)} to {points(e.high)}"
