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
import signal
import sys
from pathlib import Path

from . import tally
from .bench import run
from .mutants import Mutant, mutants_of, sample
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
    parser.add_argument("--again", type=Path, help="only what survived according to such a file")
    given = parser.parse_args()
    if given.n < 1 or given.jobs < 1:
        parser.error("--n and --jobs are at least 1")
    if given.again and not given.again.is_file():
        parser.error(f"there is no file {given.again}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # children are ended as well
    if given.again:
        drawn, name = survivors(given.again), f"survivors of {given.again.name}"
    else:
        drawn = sample(given.module or [*TESTS], given.n, given.seed)
        name = f"{len(drawn)}, seed {given.seed}"
    rows: list[tally.Row] = []
    try:
        for verdict in run(drawn, given.jobs, given.minutes):
            rows.append(tally.row_of(verdict, name))
            if given.csv:
                tally.write(given.csv, sorted(rows, key=tally.place_of))
    except KeyboardInterrupt:
        print("Stopped; what was found until then:")
    print(tally.text(rows))
    known = tally.reasons()
    if len(rows) < len(drawn):
        print(f"{len(drawn) - len(rows)} of {len(drawn)} were not tried.")
    return any(row["outcome"] == "survived" and tally.key_of(row) not in known for row in rows)


def survivors(path: Path) -> list[Mutant]:
    """Return the mutants that survived in an earlier run and can still be made."""
    keys = {tally.key_of(row) for row in tally.read(path) if row["outcome"] == "survived"}
    every = (m for module in sorted({key[0] for key in keys}) for m in mutants_of(module))
    return [mutant for mutant in every if mutant.key in keys]


if __name__ == "__main__":
    sys.exit(main())
