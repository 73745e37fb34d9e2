"""The counts in docs/reliability.md: ``python -m tests.mutation.page [FILE...]``.

With files (one row per mutant, of ``python -m tests.mutation --csv FILE``) the counts in
``results.csv`` are made anew from them, the first being the sample that tests were written against.
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
FIELDS = ("sample", "module", "outcome", "count")
EXPLAINED = "survived, explained"
BEGIN, END = "<!-- mutants: begin -->", "<!-- mutants: end -->"
Counts = dict[str, dict[str, Counter[str]]]  # sample, module, outcome


def gather(files: Sequence[Path]) -> None:
    """Count what files with one row per mutant hold, and keep the counts."""
    known = reasons()
    found: Counter[tuple[str, str, str]] = Counter()
    for row in (row for file in files for row in read(file)):
        explained = row["outcome"] == "survived" and key_of(row) in known
        found[row["sample"], row["module"], EXPLAINED if explained else row["outcome"]] += 1
    with RESULTS.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(FIELDS)
        table.writerows((*key, n) for key, n in found.items())


def counts() -> Counts:
    """Return the committed counts."""
    found: Counts = {}
    with RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            modules = found.setdefault(row["sample"], {})
            modules.setdefault(row["module"], Counter())[row["outcome"]] = int(row["count"])
    return found


def tables() -> str:
    """Return one table per sample."""
    parts = []
    for sample, modules in counts().items():
        head = [f"sample of {sample}", "mutants", *OUTCOMES, "of these explained", "noticed"]
        lines = [_line(head), _line(["---", *["--:"] * (len(head) - 1)])]
        whole = sum(modules.values(), Counter[str]())
        for name, row in [*sorted(modules.items()), ("all", whole)]:
            outcomes = Counter(row)
            outcomes["survived"] += outcomes.pop(EXPLAINED, 0)
            numbers = [outcomes.total(), *(outcomes[o] for o in OUTCOMES), row[EXPLAINED]]
            lines.append(_line([name, *map(str, numbers), f"{score(outcomes):.1f} %"]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the tables into the page."""
    if files := [Path(word) for word in sys.argv[1:]]:
        gather(files)
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
