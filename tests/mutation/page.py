"""The counts in docs/reliability.md: ``python -m tests.mutation.page [FILE [AGAIN...]]``.

With files the counts in ``results.csv`` are made anew from them: one row per mutant, as ``python -m
tests.mutation --csv FILE`` writes them, then runs with ``--again`` after tests had been written.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .tally import OUTCOMES, key_of, read, reasons, score

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
RESULTS = Path(__file__).with_name("results.csv")
FIELDS = ("sample", "module", "at_first", "now", "count")
EXPLAINED = "survived, explained"
BEGIN, END = "<!-- mutants: begin -->", "<!-- mutants: end -->"
HEAD = ("mutants", "noticed when drawn", *OUTCOMES, "of these explained", "noticed now")
Counts = dict[str, Counter[tuple[str, str]]]  # module: outcome when drawn, and now


def gather(first: Path, again: Sequence[Path]) -> None:
    """Count what a run found, and what became of its survivors in later ones; keep the counts."""
    later = {key_of(row): row["outcome"] for path in again for row in read(path)}
    known, found = reasons(), Counter[tuple[str, str, str, str]]()
    for row in read(first):
        now = row["outcome"]
        if now == "survived":
            now = later.get(key_of(row), now)
        if now == "survived" and key_of(row) in known:
            now = EXPLAINED
        found[row["sample"], row["module"], row["outcome"], now] += 1
    with RESULTS.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(FIELDS)
        table.writerows((*key, found[key]) for key in sorted(found))


def counts() -> tuple[str, Counts]:
    """Return the sample's name and the committed counts, those of all modules last."""
    found: Counts = {}
    with RESULTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        of_module = found.setdefault(row["module"], Counter())
        of_module[row["at_first"], row["now"]] += int(row["count"])
    return rows[0]["sample"], {**found, "all": sum(found.values(), Counter())}


def scores(row: Counter[tuple[str, str]]) -> tuple[float, float]:
    """Return the share that was noticed when the sample was drawn, and now, in per cent."""
    first, now = Counter[str](), Counter[str]()
    for (a, b), n in row.items():
        first[a] += n
        now["survived" if b == EXPLAINED else b] += n
    return score(first), score(now)


def table() -> str:
    """Return the table of the page."""
    sample, found = counts()
    lines = [_line([f"sample of {sample}", *HEAD]), _line(["---", *["--:"] * len(HEAD)])]
    for name, row in found.items():
        now = Counter[str]()
        for (_, outcome), n in row.items():
            now[outcome] += n
        first, last = scores(row)
        numbers = [now["killed"], now["timed out"], now["survived"] + now[EXPLAINED],
                   now[EXPLAINED]]  # fmt: skip
        lines.append(_line([name, str(row.total()), f"{first:.1f} %", *map(str, numbers),
                            f"{last:.1f} %"]))  # fmt: skip
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the tables into the page."""
    if files := [Path(word) for word in sys.argv[1:]]:
        gather(files[0], files[1:])
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
