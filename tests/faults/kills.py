"""Kill a run at random moments and inside its writes, let it go on, compare with one left alone.

A signal that can be heard must have saved the last step that was taken, see
:mod:`tests.faults.stages`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .sabotage import Sabotage
from .stages import Stage, not_saved, stage_of, without_stages
from .tally import BAD, Row, Tally
from .warm import COMMAND, METHOD, NEVER, Ended, differences, do, start, train, wait

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT,
           signal.SIGHUP)  # fmt: skip
LEAVES_WITHIN = 10.0  # seconds on a busy machine; the largest is told


class Reference:
    """A run that was left alone: its folder, how long it took, what it did to the disk."""

    def __init__(self, root: Path, method: str = METHOD) -> None:
        root.mkdir(exist_ok=True)
        self.root, self.method = root, method
        self.folder, log = root / "whole", root / "calls"
        self.said = root / "said"

        def counted() -> None:
            Sabotage(0, log=log).install()
            train(self.folder, method)

        first = do(counted, self.said)
        assert first.code == 0, first.said
        self.calls = log.read_text().splitlines()
        second = do(lambda: train(root / "again", method), self.said)
        assert second.code == 0, second.said
        assert differences(root / "again", self.folder) == []
        self.seconds = second.seconds


@dataclass(frozen=True)
class Kill:
    """One kill: its signal and place, what was wrong (empty: nothing), seconds to the end."""

    kind: str
    fault: str
    seconds: float


def run(root: Path, n: int, seed: int, told: Tally, methods: Sequence[str] = (METHOD,)) -> None:
    """Kill at least ``n`` times, methods in turn; each is counted by its signal and its place."""
    wholes = [Reference(root / f"method-{i}", method) for i, method in enumerate(methods)]
    dice = random.Random(seed)
    by_method: Counter[str] = Counter()
    slowest, done, turn = 0.0, 0, 0
    while done < n and not told.is_over:
        whole = wholes[turn % len(wholes)]
        folder = root / f"run-{turn}"
        kills = [*_kills(folder, whole, dice)]
        ends = do(lambda folder=folder, whole=whole: train(folder, whole.method), whole.said)
        faults = [kill.fault for kill in kills if kill.fault]
        if ends.code != 0:
            faults.append(f"went on with code {ends.code}: {without_stages(ends.said)[-500:]}")
        else:
            faults += [f"differs in {what}" for what in differences(folder, whole.folder)]
        for kill in kills:
            told.add(Row("kills", kill.kind, "went on, equal" if not faults else BAD))
            slowest = max(slowest, kill.seconds)
        for fault in faults:
            told.fault(f"kills seed {seed} run {turn} ({whole.method}, "
                       f"{', '.join(kill.kind for kill in kills)}): {fault}")  # fmt: skip
        done, turn = done + len(kills), turn + 1
        by_method[whole.method] += len(kills)
        shutil.rmtree(folder, ignore_errors=True)
    told.note("kills", "seconds from a signal to the end, at most", f"{slowest:.2f}")
    shown = ", ".join(f"{method} {count}" for method, count in by_method.most_common())
    told.note("kills", "by method", shown)


def _kills(folder: Path, whole: Reference, dice: random.Random) -> Iterator[Kill]:
    """Kill one run up to three times; what was over before the signal is no kill."""
    for _ in range(dice.randint(1, 3)):
        if (folder / "summary.json").exists():
            return  # a signal was heard after the end: there is nothing left to kill
        number = dice.choice(SIGNALS)
        kill = (_at_a_moment if dice.random() < 0.5 else _in_a_write)(folder, whole, dice, number)
        if kill is not None:
            yield kill


def _at_a_moment(folder: Path, whole: Reference, dice: random.Random, number: int) -> Kill | None:
    """Send a signal at a random moment; half of these runs keep no state but on a signal."""
    save = dice.choice((0.0, NEVER))
    child = start(lambda: train(folder, whole.method, save), whole.said)
    time.sleep(dice.uniform(0, whole.seconds))
    sent = time.monotonic()
    os.kill(child, number)
    # Read after the signal: what it says may be later than the signal by some lines, never earlier.
    stage = stage_of(whole.said.read_text() if whole.said.exists() else "")
    ended = wait(child, whole.said, sent)
    if ended.code == 0 and (number == signal.SIGKILL or stage.is_over):
        return None
    place = f"at a moment{', no other save' if save else ''}"
    fault = _wrong(ended, number, stage, folder)
    seconds = 0.0 if number == signal.SIGKILL else ended.seconds
    return Kill(f"{signal.Signals(number).name} {place}", fault, seconds)


def _in_a_write(folder: Path, whole: Reference, dice: random.Random, number: int) -> Kill | None:
    """Have a run send itself a signal while it does something to the disk."""
    at, when = dice.randint(1, len(whole.calls)), dice.choice(("before", "half", "after"))

    def struck() -> None:
        Sabotage(at, when, number).install()
        train(folder, whole.method)

    ended = wait(start(struck, whole.said), whole.said)
    before, found, after = ended.said.partition("struck at ")
    if not found:
        return None  # it had less to do than a whole run
    call, name = after.splitlines()[0].split(" ", 1)
    if ended.code == 0 and number == signal.SIGKILL:
        return None
    fault = _wrong(ended, number, stage_of(before), folder)
    return Kill(f"{signal.Signals(number).name} in {call} of {_short(name)}", fault, 0.0)


def _wrong(ended: Ended, number: int, stage: Stage, folder: Path) -> str:
    """Say what a run should not have done on a signal that came at a stage of it."""
    if number == signal.SIGKILL:
        return "" if ended.code == -number else f"SIGKILL ended it with {ended.code}"
    if ended.seconds > LEAVES_WITHIN * 3:
        return f"took {ended.seconds:.1f} s to leave"
    said, last = without_stages(ended.said), stage_of(ended.said)
    if ended.code == 130 and f"To go on: {COMMAND}" in said and ended.is_clean:
        return not_saved(folder, last)
    if ended.code in (130, -number) and "Stopped;" not in said and (not last.began or last.is_over):
        return ""  # nothing was to be saved yet, or everything was and is written
    return f"{signal.Signals(number).name} at {stage} ended it with {ended.code}: {said[-300:]}"


def _short(name: str) -> str:
    return name if "." in name or name in ("state", "lock") else "a folder"


def places(told: Tally) -> Counter[str]:
    """Return how often each file was being written."""
    return Counter(row.kind.split(" ", 1)[1] for row in told.rows if row.bench == "kills")
