"""Give purenoise thousands of hostile inputs, and count what it does with them.

Run ``python -m tests.hostile --n 2000 --seed 0``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import numpy as np

from .fuzz import generated
from .kind import Outcome, attempt
from .table import KINDS
from .warm import warm_up


def main() -> int:
    """Run the kinds made by hand, then generated ones; print counts and every failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--n", type=int, default=2000, help="generated inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds whose names begin so")
    given = parser.parse_args()
    warm_up()
    random, begun = np.random.default_rng(given.seed), time.perf_counter()
    outcomes = [attempt(k, random, warm=True) for k in KINDS if k.name.startswith(given.only)]
    _show("made by hand", outcomes)
    generated_ = [attempt(k, random, warm=True) for k in generated(given.n, random)]
    if generated_:
        _show("generated", generated_)
    failed = [o for o in [*outcomes, *generated_] if o.wrong]
    for outcome in failed:
        print(f"FAILED {outcome.kind.name}: {'; '.join(outcome.wrong)}")
    print(f"{time.perf_counter() - begun:.0f} s")
    return 1 if failed else 0


def _show(title: str, outcomes: list[Outcome]) -> None:
    groups = list(dict.fromkeys(o.kind.group for o in outcomes))
    print(f"{title:24}{'tried':>8}{'refused':>9}{'harmless':>10}{'failed':>8}")
    for group in [*groups, ""]:
        of = Counter(o.result for o in outcomes if group in ("", o.kind.group))
        row = (of.total(), of["refused"], of["harmless"], of["failed"])
        print(f"{group or 'all':24}{row[0]:8,}{row[1]:9,}{row[2]:10,}{row[3]:8,}")


if __name__ == "__main__":
    sys.exit(main())
