"""Kill a run at random moments and inside its writes, let it go on, compare with one left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .sabotage import Sabotage
from .tally import Row, Tally
from .warm import COMMAND, Ended, differences, do, start, train, wait

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT,
           signal.SIGHUP)  # fmt: skip
LEAVES_WITHIN = 10.0  # seconds on a busy machine; the largest is told


class Reference:
    """A run that was left alone: its folder, how long it took, what it did to the disk."""

    def __init__(self, root: Path) -> None:
        self.folder, log = root / "whole", root / "calls"
        said = root / "said"

        def counted() -> None:
            Sabotage(0, log=log).install()
            train(self.folder)

        first = do(counted, said)
        assert first.code == 0, first.said
        self.calls = log.read_text().splitlines()
        second = do(lambda: train(root / "again"), said)
        assert second.code == 0, second.said
        assert differences(root / "again", self.folder) == []
        self.seconds = second.seconds


def run(root: Path, n: int, seed: int, told: Tally) -> None:
    """Kill at least ``n`` times; every kill is counted by its signal and its place."""
    whole = Reference(root)
    dice = random.Random(seed)
    slowest, done = 0.0, 0
    while done < n and not told.is_over:
        folder = root / f"run-{done}"
        kills = [*_kills(folder, whole, dice, root / "said")]
        ends = do(lambda folder=folder: train(folder), root / "said")
        faults = [fault for _, fault, _ in kills if fault]
        if ends.code != 0:
            faults.append(f"went on with code {ends.code}: {ends.said[-500:]}")
        else:
            faults += [f"differs in {what}" for what in differences(folder, whole.folder)]
        for kind, _, seconds in kills:
            told.add(Row("kills", kind, "went on, equal" if not faults else "LOST"))
            slowest = max(slowest, seconds)
        for fault in faults:
            told.fault(f"kills seed {seed} run {done}: {fault}")
        done += len(kills)
        shutil.rmtree(folder, ignore_errors=True)
    told.note("kills", "seconds from a signal to the end, at most", f"{slowest:.2f}")


def _kills(
    folder: Path, whole: Reference, dice: random.Random, said: Path
) -> Iterator[tuple[str, str, float]]:
    """Kill one run up to three times; yield where, what was wrong, and seconds to its end."""
    for _ in range(dice.randint(1, 3)):
        number = dice.choice(SIGNALS)
        if dice.random() < 0.5:
            child = start(lambda: train(folder), said)
            time.sleep(dice.uniform(0, whole.seconds))
            sent = time.monotonic()
            os.kill(child, number)
            place = "at a moment"
        else:
            at, when = dice.randint(1, len(whole.calls)), dice.choice(("before", "half", "after"))

            def struck(at: int = at, when: str = when, number: int = number) -> None:
                Sabotage(at, when, number).install()
                train(folder)

            sent = time.monotonic()
            child, place = start(struck, said), ""
        ended = wait(child, said, sent)
        if not place and "struck at" not in ended.said:
            continue  # it had less to do than a whole run
        if not place:
            call, name = ended.said.split("struck at ")[1].splitlines()[0].split(" ", 1)
            place, sent = f"in {call} of {_short(name)}", 0.0
        if ended.code == 0 and (number == signal.SIGKILL or place == "at a moment"):
            continue  # it was over before
        seconds = ended.seconds if place == "at a moment" and number != signal.SIGKILL else 0.0
        yield f"{signal.Signals(number).name} {place}", _wrong(ended, number), seconds


def _wrong(ended: Ended, number: int) -> str:
    """Say what a stopped run should not have done."""
    if number == signal.SIGKILL:
        return "" if ended.code == -number else f"SIGKILL ended it with {ended.code}"
    if ended.seconds > LEAVES_WITHIN * 3:
        return f"took {ended.seconds:.1f} s to leave"
    if ended.code in (-number, 0) or (ended.code == 130 and "Stopped;" not in ended.said):
        return ""  # before training began, or while its end was written
    if ended.code == 130 and f"To go on: {COMMAND}" in ended.said and ended.is_clean:
        return ""
    return f"{signal.Signals(number).name} ended it with {ended.code}: {ended.said[-300:]}"


def _short(name: str) -> str:
    return name if "." in name or name in ("state", "lock") else "a folder"


def places(told: Tally) -> Counter[str]:
    """Return how often each file was being written."""
    return Counter(row.kind.split(" ", 1)[1] for row in told.rows if row.bench == "kills")
