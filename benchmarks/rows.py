"""Rows of measurements: what they hold, and the file they are kept in."""

from __future__ import annotations

import csv
import datetime
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from purenoise.runtime import environment

COLUMNS = (
    "benchmark", "case", "metric", "unit", "n", "median", "low", "high", "size", "device", "cpu",
    "threads", "python", "torch", "torchvision", "purenoise", "commit", "date",
)  # fmt: skip
KEY = ("benchmark", "case", "metric", "size", "device", "cpu")


@dataclass
class Rows:
    """Measurements on this machine, kept in a CSV file; a new one replaces the old of its kind.

    Args:
        path: The file; need not exist.
        size: ``toy``, ``small`` or ``full``.
        device: Where the work is done.
        threads: Of torch.
    """

    path: Path
    size: str
    device: torch.device
    threads: int
    where: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        found = environment(self.device, self.threads)
        known = {key: found[key] for key in COLUMNS if key in found}
        self.where = {key: "" if value is None else value for key, value in known.items()}
        self.where["date"] = datetime.date.today().isoformat()
        self.where["size"] = self.size

    def add(
        self, benchmark: str, case: str, metric: str, unit: str, values: Sequence[float]
    ) -> None:
        """Keep values of one metric: their number, median, smallest and largest."""
        row = {
            "benchmark": benchmark, "case": case, "metric": metric, "unit": unit,
            "n": len(values), "median": f"{statistics.median(values):.5g}",
            "low": f"{min(values):.5g}", "high": f"{max(values):.5g}", **self.where,
        }  # fmt: skip
        old = [r for r in read(self.path) if _key(r) != _key(row)]
        write(self.path, [*old, row])
        spread = f" ({row['low']} to {row['high']}, n {row['n']})" if len(values) > 1 else ""
        print(f"  {case:<28} {metric:<34} {row['median']:>9} {unit}{spread}", flush=True)

    def has(self, benchmark: str) -> bool:
        """Whether this benchmark was finished at this size, on this machine, at this commit."""
        wanted = {key: str(self.where[key]) for key in ("size", "device", "cpu", "commit")}
        wanted |= {"benchmark": benchmark, "metric": "finished"}
        return any(wanted.items() <= row.items() for row in read(self.path))


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file, none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write all rows; the file is replaced whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    beside.replace(path)


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY)
