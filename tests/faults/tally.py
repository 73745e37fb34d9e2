"""Counts of what was tried and what became of it; written as CSV, and as the table of the docs."""

from __future__ import annotations

import csv
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

FIELDS = ("bench", "kind", "outcome", "count")
BAD = "LOST"


@dataclass(frozen=True)
class Row:
    """One trial: of which bench, what was done, what became of it."""

    bench: str
    kind: str
    outcome: str


@dataclass
class Tally:
    """All trials, and sentences on those that went wrong."""

    rows: list[Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[tuple[str, str, str]] = field(default_factory=list)
    until: float = math.inf  # of the monotonic clock

    @property
    def is_over(self) -> bool:
        """Whether the time that was given has passed; what was counted until then is told."""
        return time.monotonic() >= self.until

    def add(self, row: Row) -> None:
        """Count a trial."""
        self.rows.append(row)

    def fault(self, text: str) -> None:
        """Keep what went wrong."""
        self.faults.append(text)
        print(text, flush=True)

    def note(self, bench: str, kind: str, value: str) -> None:
        """Keep a number that is no count, or why something could not be tried."""
        self.notes.append((bench, kind, value))

    def counts(self) -> list[tuple[str, str, str, int]]:
        """Return the counts, in order."""
        found = Counter((row.bench, row.kind, row.outcome) for row in self.rows)
        return [(*key, found[key]) for key in sorted(found)]

    def write(self, path: Path) -> None:
        """Write the counts and notes as CSV."""
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(FIELDS)
            table.writerows(self.counts())
            table.writerows((bench, kind, value, "note") for bench, kind, value in self.notes)

    def text(self) -> str:
        """Return the counts as lines."""
        lines = [f"{count:6} {bench:6} {kind}: {outcome}"
                 for bench, kind, outcome, count in self.counts()]  # fmt: skip
        lines += [f"       {bench:6} {kind}: {value}" for bench, kind, value in self.notes]
        bad = sum(row.outcome == BAD for row in self.rows)
        return "\n".join([*lines, f"{len(self.rows)} tried, {bad} lost"])
