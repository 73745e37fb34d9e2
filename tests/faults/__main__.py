"""The long form: ``python -m tests.faults [kills|files|disk|soak|all] --n 500 [--csv FILE]``.

Prints counts; leaves with 1 if anything was lost. Run it from the root of a checkout.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a parent without threads

import argparse
import importlib
import math
import sys
import tempfile
import time
from pathlib import Path

from .tally import Tally

BENCHES = ("kills", "files", "disk")  # of `all`; a long run is asked for by name


def main() -> int:
    """Run benches and print what became of each trial."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("bench", choices=[*BENCHES, "soak", "all"])
    parser.add_argument("--n", type=int, default=500, help="trials of each bench; epochs of soak")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--methods", nargs="+", help="of kills, in turn; the recipe's own if none")
    parser.add_argument("--csv", type=Path, help="where the counts are written as well")
    given = parser.parse_args()
    told = Tally(until=time.monotonic() + 60 * given.minutes)
    for name in BENCHES if given.bench == "all" else (given.bench,):
        bench = importlib.import_module(f"tests.faults.{name}")
        with tempfile.TemporaryDirectory(prefix="purenoise-faults-") as root:
            more = {"methods": given.methods} if given.methods and name == "kills" else {}
            bench.run(Path(root), given.n, given.seed, told, **more)
    if given.csv:
        told.write(given.csv)
    print(told.text())
    return bool(told.faults)


if __name__ == "__main__":
    sys.exit(main())
