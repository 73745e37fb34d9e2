"""Give purenoise thousands of hostile inputs, and count what it does with them.

Run ``python -m tests.hostile --n 2000 --seed 0``. With ``--csv FILE`` the counts are kept, beside
those of other seeds that are there; ``python -m tests.hostile.page`` writes them into the docs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from . import page
from .fuzz import generated
from .kind import Kind, Outcome, attempt
from .table import KINDS
from .warm import warm_up


def main() -> int:
    """Run the kinds made by hand, then generated ones; print counts and every failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--n", type=int, default=2000, help="generated inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="where the counts are written as well")
    parser.add_argument("--only", default="", help="kinds whose names begin so")
    given = parser.parse_args()
    warm_up()
    random, begun = np.random.default_rng(given.seed), time.perf_counter()
    by_hand = [_told(attempt(k, random, warm=True)) for k in KINDS if _is_asked(k, given.only)]
    made = [_told(attempt(k, random, warm=True)) for k in generated(given.n, random)]
    _show("made by hand", by_hand)
    _show("generated", made)
    if given.csv:
        page.write(given.csv, given.seed, by_hand, made)
    failed = [o for o in [*by_hand, *made] if o.wrong]
    print(f"{time.perf_counter() - begun:.0f} s")
    return 1 if failed else 0


def _is_asked(kind: Kind, start: str) -> bool:
    return kind.name.startswith(start)


def _told(outcome: Outcome) -> Outcome:
    """Print what failed at once: thousands of attempts take minutes."""
    if outcome.wrong:
        print(f"FAILED {outcome.kind.name}: {'; '.join(outcome.wrong)}", flush=True)
    return outcome


def _show(title: str, outcomes: list[Outcome]) -> None:
    if not outcomes:
        return
    groups = list(dict.fromkeys(o.kind.group for o in outcomes))
    print(f"{title:24}{'tried':>8}{'refused':>9}{'harmless':>10}{'failed':>8}")
    for group in [*groups, ""]:
        of = Counter(o.result for o in outcomes if group in ("", o.kind.group))
        row = (of.total(), of["refused"], of["harmless"], of["failed"])
        print(f"{group or 'all':24}{row[0]:8,}{row[1]:9,}{row[2]:10,}{row[3]:8,}")


if __name__ == "__main__":
    sys.exit(main())
