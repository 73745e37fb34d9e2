"""Results as tables for the terminal: per group, per class, and what to try next."""

from __future__ import annotations

import csv
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from purenoise.ourlines import is_our_line
from purenoise.recipe import method_names
from purenoise.terminal.plaintext import csv_cell, one_line, printable

MOST_CLASSES = 30
ALL_EQUAL = "all seeds equal"  # in place of an interval without width
GROUP_RULES = {
    "many": "> 100 images",
    "medium": "20 to 100",
    "few": "< 20",
    "head": "largest third",
    "mid": "middle third",
    "tail": "smallest third",
}


def percent(value: float | None) -> str:
    """Return an accuracy as a percentage, or n/a."""
    return "n/a" if value is None else f"{100 * value:.1f}"


def p_value(p: float | None) -> str:
    """Return a p value, or n/a."""
    if p is None:
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def result_table(summary: Mapping[str, Any], metrics: Mapping[str, Any], title: str) -> Group:
    """Return the tables of one evaluation.

    Args:
        summary: Of the run: class names and counts.
        metrics: From :func:`purenoise.metrics.evaluate_logits`.
        title: Above the tables.
    """
    overall = Table(show_header=False, box=None)
    overall.add_column()
    overall.add_column(justify="right")
    for name, key in (
        ("accuracy %", "accuracy"),
        ("balanced accuracy %", "balanced_accuracy"),
        ("macro-F1 %", "macro_f1"),
        ("G-mean %", "g_mean"),
        ("worst class %", "worst_class"),
        ("calibration error (ECE) %", "ece"),
    ):
        overall.add_row(name, percent(metrics[key]))
    heading = Text(one_line(title), style="bold")
    return Group(heading, overall, "", _groups(metrics), "", _classes(summary, metrics))


def _groups(metrics: Mapping[str, Any]) -> Table:
    table = Table("group", "training images", box=None, header_style="bold")
    table.add_column("accuracy %", justify="right")
    for name, rule in GROUP_RULES.items():
        table.add_row(name, rule, percent(metrics["groups"][name]))
    return table


def _classes(summary: Mapping[str, Any], metrics: Mapping[str, Any]) -> Table:
    """Per class, largest first; of very many classes only the ends are shown."""
    table = Table("class", box=None, header_style="bold")
    for column in ("train", "test", "accuracy %"):
        table.add_column(column, justify="right")
    counts = summary["counts"]
    order = sorted(range(len(counts)), key=lambda c: (-counts[c], c))
    half = MOST_CLASSES // 2
    for place, c in enumerate(order):
        if len(order) > MOST_CLASSES and half <= place < len(order) - half:
            if place == half:
                table.add_row(f"... {len(order) - MOST_CLASSES} more", "", "", "")
            continue
        table.add_row(
            escape(one_line(summary["class_names"][c])),
            str(counts[c]),
            str(metrics["n_test"][c]),
            percent(metrics["per_class"][c]),
        )
    return table


def broken(name: str, width: int = 26) -> str:
    r"""Return a long name on several lines, cut after ``:+=_-`` or a space, not inside words.

    Example:
        >>> broken("open+balanced-softmax:stop_gradient=affine")
        'open+balanced-softmax:\nstop_gradient=affine'
    """
    lines = [""]
    for part in re.split(r"(?<=[:+=_ -])", one_line(name)):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """Return a time as people say it, such as ``3 min 05 s``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def print_run(console: Console, summary: Mapping[str, Any], folder: str) -> None:
    """Print a finished run: tables, where it lies, what to try next."""
    title = f"{summary['recipe']} · {summary['method']} · seed {summary['seed']}"
    if summary["test"] is None:
        said = f"{one_line(title)}: there are no test images, so nothing was measured."
        console.print(said, markup=False)
    else:
        console.print(result_table(summary, summary["test"], f"{title} · test, last epoch"))
    console.print(f"\nrun folder: {one_line(folder)}", markup=False, soft_wrap=True)
    following = printable(next_command(summary, folder))  # a newline within quotes belongs to it
    console.print(f"try next:   {following}", markup=False, soft_wrap=True)


def next_command(summary: Mapping[str, Any], folder: str) -> str:
    """Return the command that makes the result worth more: a baseline, then another seed."""
    command = summary.get("command", "")
    if not (command.startswith("purenoise train") and is_our_line(command)):
        return f"purenoise evaluate {shlex.quote(folder)}"
    words = [w for w in shlex.split(command) if not w.startswith(("method=", "seed="))]
    if len(words) > 2 and (Path(words[2]) / "recipe.yaml").is_file():  # a run takes no changes
        return f"purenoise evaluate {shlex.quote(folder)}"
    other = "drs" if "open" in method_names(summary["method"]) else "open"
    return shlex.join([*words, f"method={other}", *_seed(summary)])


def _seed(summary: Mapping[str, Any]) -> list[str]:
    return [f"seed={summary['seed']}"] if summary["seed"] else []


def inspection_tables(found: Any) -> Group:
    """Return the tables of :class:`purenoise.inspection.Inspection`."""
    facts = Table(show_header=False, box=None)
    for name, value in found.facts.items():
        facts.add_row(name, escape(one_line(str(value))))
    classes = Table("class", box=None, header_style="bold")
    for column in ("train", "val", "test", "noise %"):
        classes.add_column(column, justify="right")
    for row in found.classes[: 4 * MOST_CLASSES]:
        classes.add_row(
            escape(one_line(row["class"])), str(row["train"]), str(row["val"]), str(row["test"]),
            percent(row["noise"]),
        )  # fmt: skip
    if len(found.classes) > 4 * MOST_CLASSES:
        classes.add_row(f"... {len(found.classes) - 4 * MOST_CLASSES} more", "", "", "", "")
    said = [Text(f"found: {printable(text)}") for text in found.faults]
    said += [Text(f"advice: {printable(text)}") for text in found.advice]
    return Group(Text(printable(found.name), style="bold"), facts, "", classes, "", *said)


def print_predictions_csv(predictions: Sequence[Any], top: int) -> None:
    """Print predictions as CSV, for eyes and spreadsheets: names as `csv_cell` gives them.

    JSON has every name as it is.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    pairs = [f"{kind}_{i + 1}" for i in range(top) for kind in ("class", "probability")]
    writer.writerow(["image", *pairs, "error"])
    for p in predictions:
        row = [v for pair in zip(p.classes, p.probabilities, strict=True) for v in pair]
        cells = [p.image, *row, *[""] * (2 * top - len(row)), p.error]
        writer.writerow([csv_cell(v) for v in cells])


def predictions_table(predictions: Sequence[Any]) -> Table:
    """Return predictions as a table."""
    table = Table(box=None, header_style="bold")
    for column in ("image", "class"):
        table.add_column(column, overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("then")
    for p in predictions:
        ranked = list(zip(p.classes, p.probabilities, strict=True))
        first = ranked[0] if ranked else (p.error, None)
        table.add_row(
            escape(one_line(p.image)),
            escape(one_line(first[0])),
            "" if first[1] is None else f"{first[1]:.3f}",
            escape(one_line(", ".join(f"{c} {v:.3f}" for c, v in ranked[1:]))),
        )
    return table


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
