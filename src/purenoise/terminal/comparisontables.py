"""A comparison as tables for the terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from purenoise.lab.comparison import Comparison, Difference, Row
from purenoise.lab.intervals import Estimate
from purenoise.lab.verdicts import points, verdicts
from purenoise.terminal.tables import ALL_EQUAL, broken, p_value, percent, printable


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the table of methods, the differences, and what may be concluded."""
    console.print(comparison_tables(comparison))
    console.print()
    for said in verdicts(comparison):
        console.print(printable(said), markup=False, highlight=False)
    for path, why in comparison.left_out.items():
        console.print(f"left out: {printable(path)}: {printable(why)}", markup=False)
    for note in comparison.notes:
        console.print(f"note: {printable(note)}", markup=False, highlight=False)


def comparison_tables(comparison: Comparison) -> Group:
    """Return the tables of a comparison; groups without a class give way to thirds of classes."""
    rows = comparison.rows
    there = [c for c in ("many", "medium", "few") if any(r.estimates[c] for r in rows)]
    groups = there if len(there) > 1 else ["head", "mid", "tail"]
    table = Table("method", box=None, header_style="bold", pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in ("seeds", "accuracy %", "sd", "95 % interval", *groups, "(best)"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, groups, row.label == comparison.baseline))
    parts: list[Table | Text | str] = [
        table,
        Text(
            "sd: over seeds; (best): in the best epoch on the test images, which nobody could have "
            "chosen"
        ),
    ]
    if comparison.differences:
        parts += ["", Text(f"against {comparison.baseline}, seed by seed", style="bold"),
                  _differences(comparison.differences, groups)]  # fmt: skip
    return Group(*parts)


def _cells(row: Row, groups: list[str], is_baseline: bool) -> list[str]:
    accuracy = row.estimates["accuracy"]
    assert accuracy is not None  # runs without test images are left out
    spread = "n/a" if accuracy.sd is None else f"{100 * accuracy.sd:.1f}"
    label = escape(broken(row.label)) + (" (baseline)" if is_baseline else "")
    means = [None if (e := row.estimates[g]) is None else e.mean for g in groups]
    return [label, str(len(row.records)), percent(accuracy.mean), spread, interval(accuracy),
            *map(percent, means), f"({percent(row.optimistic)})"]  # fmt: skip


def interval(estimate: Estimate) -> str:
    """Return an interval in percent, or n/a."""
    if estimate.low is None or estimate.high is None:
        return "n/a"
    if estimate.sd == 0:
        return ALL_EQUAL
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def _differences(differences: tuple[Difference, ...], groups: list[str]) -> Table:
    table = Table("method", box=None, header_style="bold", pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in ("points", "95 % interval", "p", "p (Holm)", *groups):
        table.add_column(column, justify="right", no_wrap=True)
    for d in differences:
        found = d.headline
        if found is None:
            continue
        e = found.estimate
        ends = "n/a" if e.low is None or e.high is None else f"{points(e.low)} to {points(e.high)}"
        ends = ALL_EQUAL if e.sd == 0 else ends
        parts = [d.metrics[g] for g in groups]
        table.add_row(
            escape(broken(d.label)), points(e.mean), ends, p_value(found.p), p_value(d.p_holm),
            *("n/a" if part is None else points(part.estimate.mean) for part in parts),
        )  # fmt: skip
    return table
