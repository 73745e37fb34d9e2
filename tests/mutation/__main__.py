"""The long form: ``python -m tests.mutation --n 500 --seed 0 [--csv FILE]``.

Puts small faults into the method's modules, one at a time, and prints which of them no test
noticed. Leaves with 1 if one of those is not explained in ``survivors.csv``. Run it from the root
of a checkout (Linux).
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a parent without threads

import argparse
import math
import sys
from pathlib import Path

from . import tally
from .bench import run
from .mutants import sample
from .targets import TESTS


def main() -> int:
    """Draw mutants, run their tests, print what survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--n", type=int, default=500, help="mutants, drawn from all")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--module", action="append", choices=[*TESTS], help="only of this one")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin none after so many")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--csv", type=Path, help="where one row per mutant is written")
    given = parser.parse_args()
    drawn = sample(given.module or [*TESTS], given.n, given.seed)
    rows = []
    for verdict in run(drawn, given.jobs, given.minutes):
        rows.append(tally.row_of(verdict, f"{len(drawn)}, seed {given.seed}"))
        if given.csv:
            tally.write(given.csv, sorted(rows, key=lambda row: (row["module"], int(row["line"]))))
    print(tally.text(rows))
    known = tally.reasons()
    return any(row["outcome"] == "survived" and tally.key_of(row) not in known for row in rows)


if __name__ == "__main__":
    sys.exit(main())
