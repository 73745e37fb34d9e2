"""How long a comparison of many methods takes, with first phases shared and without."""

from __future__ import annotations

import tempfile

from benchmarks.commands import run_command
from benchmarks.rows import Rows

METHODS = "erm,rs,drs,drw,ldam-drw,balanced-softmax,open,open+balanced-softmax"
SEEDS = {"toy": 1, "small": 10, "full": 10}


def measure(rows: Rows) -> None:
    """Measure ``purenoise compare digits`` from nothing to its report, both ways in turns."""
    methods = "erm,drs,open" if rows.size == "toy" else METHODS
    seeds, changes = SEEDS[rows.size], ["epochs=2"] if rows.size == "toy" else []
    case = f"digits, {methods.count(',') + 1} methods x {seeds} seeds"
    times: dict[str, list[float]] = {"true": [], "false": []}
    for share in ("true", "false") if rows.size == "toy" else ("true", "false", "false", "true"):
        with tempfile.TemporaryDirectory() as out:
            words = [f"methods={methods}", f"seeds={seeds}", f"share={share}", f"out={out}"]
            times[share].append(run_command("compare", "digits", *words, *changes)[0])
    rows.add("comparing", case, "phases shared", "s", times["true"])
    rows.add("comparing", case, "nothing shared", "s", times["false"])
    ratios = [a / b for a, b in zip(times["true"], times["false"], strict=True)]
    rows.add("comparing", case, "shared / not: time", "", ratios)
