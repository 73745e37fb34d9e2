"""Runs mutants, some at a time, after the modules as they are have passed their tests."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .mutants import SOURCE, Mutant
from .warm import Child, Verdict, end_group, look, start, warm_up

PATIENCE = 600.0  # seconds for a module as it is
SLACK, TIMES = 20.0, 5.0  # a mutant may take so much longer than the module as it is


def run(mutants: Sequence[Mutant], jobs: int, minutes: float) -> Iterator[Verdict]:
    """Yield the verdict on each mutant, in the order in which they end.

    Raises:
        SystemExit: If a module as it is does not pass, with a sentence.
    """
    until = time.monotonic() + 60 * minutes
    warm_up()
    whole = [_as_it_is(module) for module in dict.fromkeys(m.module for m in mutants)]
    seconds = {}
    for verdict in _side_by_side(((mutant, PATIENCE) for mutant in whole), jobs):
        if verdict.outcome != "survived":
            sys.exit(f"{verdict.mutant.module} as it is: {verdict.outcome} by {verdict.by}.")
        seconds[verdict.mutant.module] = verdict.seconds
        print(f"{verdict.mutant.module} as it is: {verdict.seconds:.1f} s", flush=True)
    work = ((m, SLACK + TIMES * seconds[m.module]) for m in mutants if time.monotonic() < until)
    for verdict in _side_by_side(work, jobs):
        m = verdict.mutant
        mark = {"killed": ".", "timed out": "T", "survived": "S"}[verdict.outcome]
        print(f"{mark} {m.module}:{m.line} {verdict.seconds:.1f} s {verdict.by}", flush=True)
        yield verdict


def _as_it_is(module: str) -> Mutant:
    text = (SOURCE / f"{module}.py").read_text(encoding="utf-8")
    return Mutant(module, "", 0, "none", "", "", text)


def _side_by_side(work: Iterable[tuple[Mutant, float]], jobs: int) -> Iterator[Verdict]:
    """Run mutants with their time limits, so many at a time."""
    waiting, number = iter(work), 0
    running: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="purenoise-mutants-") as root:
        try:
            while True:
                while len(running) < jobs and (following := next(waiting, None)) is not None:
                    running.append(start(following[0], Path(root) / str(number), following[1]))
                    number += 1
                if not running:
                    return
                time.sleep(0.01)
                for child in list(running):
                    if (verdict := look(child)) is not None:
                        running.remove(child)
                        yield verdict
        finally:  # interrupted: children have groups of their own, and would go on
            for child in running:
                end_group(child.pid)
