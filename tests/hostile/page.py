"""The counts in docs/reliability.md, from the committed ones: ``python -m tests.hostile.page``."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from .kind import Outcome

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results.csv")
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- hostile: begin -->", "<!-- hostile: end -->"
FIELDS = ("how", "seed", "group", "tried", "refused", "harmless", "failed")
NUMBERS = FIELDS[3:]
BY_HAND, GENERATED = "made by hand", "generated"
Row = dict[str, str]


def write(path: Path, seed: int, by_hand: Sequence[Outcome], made: Sequence[Outcome]) -> None:
    """Write the counts of a run into a file, in the place of an earlier one of the same seed."""
    rows = [row for row in read(path) if row["seed"] != str(seed)] if path.exists() else []
    for how, outcomes in ((BY_HAND, by_hand), (GENERATED, made)):
        of: dict[str, Counter[str]] = defaultdict(Counter)
        for outcome in outcomes:
            of[outcome.kind.group][outcome.result] += 1
        for group, counts in sorted(of.items()):
            numbers = {"tried": counts.total(), **{key: counts[key] for key in NUMBERS[1:]}}
            rows.append({"how": how, "seed": str(seed), "group": group,
                         **{key: str(value) for key, value in numbers.items()}})  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: (row["seed"], row["how"], row["group"])))


def read(path: Path = RESULTS) -> list[Row]:
    """Return the counts."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sums(rows: Sequence[Row]) -> Counter[str]:
    """Return the counts of several rows together."""
    return sum((Counter({key: int(row[key]) for key in NUMBERS}) for row in rows), Counter())


def section() -> str:
    """Return what was tried, in words and as a table."""
    rows = read()
    seeds = sorted({row["seed"] for row in rows}, key=int)
    first = [row for row in rows if row["how"] == BY_HAND and row["seed"] == seeds[0]]
    made = [row for row in rows if row["how"] == GENERATED]
    hand, generated = sums(first), sums(made)
    both = hand + generated
    lines = [
        f"{hand['tried']:,} made by hand (a fault in a place of a file, for each reader), "
        f"{generated['tried']:,} inputs generated with the "
        f"seeds {' and '.join(seeds)}: {both['refused']:,} were refused in a sentence, "
        f"{both['harmless']:,} were used and did no harm, {both['failed']:,} did anything else.",
        "",
        "| input | by hand | refused | used | failed | generated | refused | used | failed |",
        "| --- " + "| --: " * 8 + "|",
    ]
    for group in [*sorted({row["group"] for row in rows}), None]:
        cells = []
        for part in (first, made):
            of = sums([row for row in part if group in (None, row["group"])])
            cells += [f"{of[key]:,}" for key in NUMBERS]
        lines.append(f"| {group or 'all'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write the section into the page."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{section()}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
