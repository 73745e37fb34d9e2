"""Adjusted runs as tables: before, after and the change, for one run or over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from purenoise.lab.intervals import Estimate, t_interval
from purenoise.terminal.plaintext import printable

if TYPE_CHECKING:
    from purenoise.posthoc.running import Adjusted

# Name, place in the metrics, and whether it is a percentage.
ROWS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("accuracy %", ("accuracy",), True),
    ("balanced accuracy %", ("balanced_accuracy",), True),
    ("macro-F1 %", ("macro_f1",), True),
    ("worst class %", ("worst_class",), True),
    *((f"{name} %", ("groups", name), True) for name in ("many", "medium", "few")),
    *((f"{name} %", ("groups", name), True) for name in ("head", "mid", "tail")),
    ("calibration error (ECE) %", ("ece",), True),
    ("NLL", ("nll",), False),
)


def adjusted_table(found: Adjusted) -> Group:
    """Return what an adjustment changed, as a table."""
    base, how = found.summary["base"], found.summary["adjusted"]
    table = _empty()
    for name, place, in_percent in ROWS:
        before, after = _value(found.before, place), _value(found.metrics, place)
        table.add_row(name, *_cells(before, after, in_percent))
    at = how["accuracy_at_prior"]
    if how["prior"]["name"] != "uniform":
        table.add_row("accuracy % at the prior", *_cells(at["before"], at["after"], True))
    title = f"{base['recipe']} · {base['method']} · seed {base['seed']} · {described(how)}"
    if how["method"] == "temperature":
        title += f" · T {how['temperature']:.3f}"
    if how["method"] == "offsets":
        title += f" · fitted strength {how['fitted']['strength']:.2f}"
    said = [Text(printable(note)) for note in found.notes]
    places = [f"\nadjusted run: {found.folder}"]
    places += [f"weights:      {how['weights']}"] * (how["weights"] is not None)
    return Group(Text(printable(title), style="bold"), table, *said,
                 *(Text(printable(place)) for place in places))  # fmt: skip


def seeds_table(found: Sequence[Adjusted]) -> Group:
    """Return what an adjustment changed over several runs that differ in their seed.

    Changes are taken run by run: mean and half of Student's 95 % interval.
    """
    table = _empty()
    for name, place, in_percent in ROWS:
        pairs = [(_value(one.before, place), _value(one.metrics, place)) for one in found]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if len(known) < len(pairs):
            table.add_row(name, "n/a", "n/a", "")
            continue
        three = ([a for a, _ in known], [b for _, b in known], [b - a for a, b in known])
        columns = [t_interval(values) for values in three]
        table.add_row(name, *(_spread(e, in_percent, i == 2) for i, e in enumerate(columns)))
    base, how = found[0].summary["base"], found[0].summary["adjusted"]
    title = f"{base['recipe']} · {base['method']} · {len(found)} seeds · {described(how)}"
    said = dict.fromkeys(note for one in found for note in one.notes)
    places = [f"seed {one.summary['seed']}: {one.folder}" for one in found]
    end = "Mean and 95 % interval (Student's t over seeds); changes are taken seed by seed."
    return Group(Text(printable(title), style="bold"), table, Text(end),
                 *(Text(printable(text)) for text in (*said, "", *places)))  # fmt: skip


def _empty() -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("test images")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    return table


def _spread(e: Estimate, in_percent: bool, signed: bool) -> str:
    k, digits = (100, 1) if in_percent else (1, 3)
    sign = "+" if signed else ""
    text = f"{k * e.mean:{sign}.{digits}f}"
    return text if e.high is None else f"{text} ± {k * (e.high - e.mean):.{digits}f}"


def described(how: Mapping[str, Any]) -> str:
    """Say in a few words what was done."""
    words = [str(how["method"])]
    if how["tau"] is not None:
        words.append(f"tau {how['tau']:g}")
    if how["method"] != "tau-norm":
        words.append(f"prior {how['prior']['name']}")
    return ", ".join(words)


def _value(metrics: Mapping[str, Any], place: tuple[str, ...]) -> float | None:
    found: Any = metrics
    for key in place:
        found = found[key]
    return found


def _cells(before: float | None, after: float | None, in_percent: bool) -> tuple[str, str, str]:
    if before is None or after is None:
        return "n/a", "n/a", ""
    k, digits = (100, 1) if in_percent else (1, 3)
    change = k * (after - before)
    return f"{k * before:.{digits}f}", f"{k * after:.{digits}f}", f"{change:+.{digits}f}"
