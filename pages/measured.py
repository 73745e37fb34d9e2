"""What was measured for docs/pitfalls.md: one row per run, in ``pages/measured.csv``.

The runs are those of the two lines in ``COMMANDS``; ``python -m pages collect RUNS`` takes their
numbers and adjusts each run once more, as `purenoise adjust` does by default.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from results.rows import row_of

from purenoise.errors import RunError
from purenoise.lab.records import Record, read_records

ROWS = Path(__file__).parent / "measured.csv"
COMMANDS = (
    "purenoise compare digits methods=erm,drs,open,balanced-softmax,open:batch_norm=shared,"
    "open:noise.space=normalized:noise.clip=false seeds=10",
    "purenoise compare digits methods=erm,drs,open seeds=10 eval.every=1",
)
METHODS = ("erm", "drs", "open", "balanced-softmax", "open:batch_norm=shared",
           "open:kind=normal:space=normalized:clip=false")  # fmt: skip
KEPT = ("method", "seed", "accuracy", "few", "optimistic", "commit", "hardware", "versions",
        "digest")  # fmt: skip
COLUMNS = ("looks", *KEPT[:5], "as_trained", "adjusted", *KEPT[5:])
Row = Mapping[str, str]


def collect(runs: str | Path) -> str:
    """Write the rows anew from the runs below a folder; return what was done.

    Raises:
        RunError: If a run of ``COMMANDS`` is not there.
    """
    records, left_out = read_records([runs])
    rows = sorted((_row(r) for r in records), key=lambda r: (int(r["looks"]), r["method"],
                                                             int(r["seed"])))  # fmt: skip
    _refuse_gaps(rows, left_out)
    with ROWS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return f"measured.csv: {len(rows)} runs. Now: python -m pages write"


def read() -> list[Row]:
    """Return the rows."""
    with ROWS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(rows: Sequence[Row], name: str, method: str, looks: int = 6) -> list[float]:
    """Return one number per seed, in per cent, in the order of the seeds."""
    found = [r for r in rows if r["method"] == method and r["looks"] == str(looks)]
    return [100 * float(r[name]) for r in sorted(found, key=lambda r: int(r["seed"]))]


def _row(record: Record) -> dict[str, str]:
    """Return a run's row, with its accuracy under two other readings."""
    whole = row_of(record, "measured")
    test, counts = record.summary["test"], record.summary["counts"]
    shares = [n / sum(counts) for n in counts]
    as_trained = sum(s * recall for s, recall in zip(shares, test["per_class"], strict=True))
    looks = -(-record.recipe.train.epochs // record.recipe.eval.every)
    return {
        **{name: whole[name] for name in KEPT}, "looks": str(looks),
        "as_trained": f"{as_trained:.6g}", "adjusted": f"{_adjusted(record.folder):.6g}",
    }  # fmt: skip


def _adjusted(folder: Path) -> float:
    """Return the accuracy after `purenoise adjust`, which is done on a copy of the run."""
    from purenoise.posthoc.running import adjust_run

    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(folder, Path(place) / "run", ignore=shutil.ignore_patterns("tb"))
        return float(adjust_run(copy).metrics["accuracy"])


def _refuse_gaps(rows: Sequence[Row], left_out: Mapping[str, str]) -> None:
    """Refuse to write fewer runs than the page speaks of."""
    found = {(r["looks"], r["method"], int(r["seed"])) for r in rows}
    wanted = [("6", m, s) for m in METHODS for s in range(10)]
    wanted += [("60", m, s) for m in METHODS[:3] for s in range(10)]
    missing = [w for w in wanted if w not in found]
    if missing or len(rows) != len(wanted):
        raise RunError(
            f"{len(rows)} runs were found, and {len(missing)} of those wanted are not among them "
            f"(the first: {missing[:1]}; unfinished: {len(left_out)}).",
            "Run, in an empty folder: " + "; ".join(COMMANDS),
        )
