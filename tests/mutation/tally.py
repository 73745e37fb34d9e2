"""Verdicts as lines and as CSV, and the reasons why some mutants may survive."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .warm import Verdict  # needs a platform with fork

FIELDS = ("sample", "module", "function", "line", "kind", "before", "after", "outcome", "by")
REASONS = Path(__file__).with_name("survivors.csv")
OUTCOMES = ("killed", "timed out", "survived")
Row = dict[str, str]


def row_of(verdict: Verdict, sample: str) -> Row:
    """Return a verdict as a row of CSV."""
    m = verdict.mutant
    values = (sample, m.module, m.function, str(m.line), m.kind, m.before, m.after,
              verdict.outcome, verdict.by)  # fmt: skip
    return dict(zip(FIELDS, values, strict=True))


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read(path: Path) -> list[Row]:
    """Read rows of CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reasons(path: Path = REASONS) -> dict[tuple[str, str, str, str], str]:
    """Return why mutants may survive, by module, function, and the line before and after."""
    return {key_of(row): row["reason"] for row in read(path)}


def key_of(row: Row) -> tuple[str, str, str, str]:
    """Return what names the mutant of a row, also after other lines have changed."""
    return row["module"], row["function"], row["before"], row["after"]


def place_of(row: Row) -> tuple[str, int]:
    """Return what rows are sorted by."""
    return row["module"], int(row["line"])


def counts(rows: Sequence[Row], by: str) -> dict[str, Counter[str]]:
    """Count outcomes for each value of a column, and for ``all``."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(row[by], Counter())[row["outcome"]] += 1
    return {**dict(sorted(found.items())), "all": Counter(row["outcome"] for row in rows)}


def score(outcomes: Counter[str]) -> float:
    """Return the share of mutants that were noticed, in per cent; explained ones were not."""
    return 100 * (1 - outcomes["survived"] / max(1, outcomes.total()))


def text(rows: Sequence[Row]) -> str:
    """Return the counts, and each survivor with its reason, as lines."""
    lines = []
    for by in ("module", "kind"):
        lines.append(
            f"{by:24} {'mutants':>8} " + " ".join(f"{o:>9}" for o in OUTCOMES) + "   score"
        )
        for name, outcomes in counts(rows, by).items():
            numbers = " ".join(f"{outcomes[o]:9}" for o in OUTCOMES)
            lines.append(f"{name:24} {outcomes.total():8} {numbers} {score(outcomes):6.1f} %")
        lines.append("")
    known = reasons()
    for row in rows:
        if row["outcome"] == "survived":
            why = known.get(key_of(row), "NOT EXPLAINED")
            place = f"src/purenoise/{row['module']}.py:{row['line']}"
            lines.append(f"{place} {row['function']} ({row['kind']}): {why}\n"
                         f"  - {row['before']}\n  + {row['after']}")  # fmt: skip
    return "\n".join(lines)
