"""The tables of docs/reliability.md, from the committed counts: ``python -m tests.faults.page``."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from .tally import BAD, FIELDS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results.csv")
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"


def read(path: Path = RESULTS) -> tuple[list[tuple[str, str, str, int]], list[tuple[str, ...]]]:
    """Return counts, and notes that are no counts."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [tuple(row[name] for name in FIELDS) for row in csv.DictReader(file)]
    counts = [(a, b, c, int(n)) for a, b, c, n in rows if n != "note"]
    return counts, [row[:3] for row in rows if row[3] == "note"]


def group(bench: str, kind: str) -> str:
    """Return the row of a table that a trial belongs to."""
    if bench == "kills":
        number, _, place = kind.partition(" ")
        moment = place.startswith("at a moment")
        where = place.replace("a moment", "a random moment") if moment else "inside a write"
        return f"{number}, {where}"
    if bench == "files":
        return kind.partition(" of a ")[2].replace("run in progress, ", "run in progress: ")
    return kind


def tables() -> str:
    """Return one table per bench."""
    counts, notes = read()
    parts = []
    for bench in ("kills", "files", "disk", "soak"):
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for _, kind, outcome, n in (row for row in counts if row[0] == bench):
            found[group(bench, kind)][outcome] += n
        if not found:
            continue
        outcomes = sorted({o for row in found.values() for o in row} - {BAD})
        lines = [_line([bench, "tried", *outcomes, "lost"]), _line(["---", *["--:"] * (len(outcomes)
                                                                   + 2)])]  # fmt: skip
        for name, row in [*sorted(found.items()), ("all", sum(found.values(), Counter()))]:
            numbers = [row.total(), *(row[o] for o in outcomes), row[BAD]]
            lines.append(_line([name, *(f"{n:,}" for n in numbers)]))
        parts.append("\n".join(lines))
    parts += [f"{kind} ({bench}): {value}." for bench, kind, value in notes]
    return "\n\n".join(parts)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
