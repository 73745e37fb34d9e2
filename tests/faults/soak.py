"""A long run: thousands of epochs without a stop, and the same again with a kill every minute.

What is watched: resident memory and open files of the process, which must not grow, and the final
result, which must be equal bit for bit. Between a quarter of the epochs and the end a run may gain
what its own history takes, and little more.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from purenoise.experiment import run_recipe
from purenoise.recipe import load_recipe, plain_recipe

from .tally import BAD, Row, Tally
from .warm import COMMAND, DATA, differences, start, wait

MIB = 1 << 20
GAIN = 64 * MIB  # of resident memory after a quarter of the epochs
MINUTE = 60.0


@dataclass
class Watched:
    """What was seen of one process: (epochs done, resident bytes, open files)."""

    seen: list[tuple[int, int, int]] = field(default_factory=list)

    def look(self, child: int, folder: Path) -> None:
        """Look once; a process that is gone shows nothing."""
        try:
            pages = int(Path(f"/proc/{child}/statm").read_text().split()[1])
            files = len(os.listdir(f"/proc/{child}/fd"))
        except (OSError, IndexError):
            return
        self.seen.append((epochs_of(folder), pages * os.sysconf("SC_PAGE_SIZE"), files))

    def later(self, epochs: int) -> list[tuple[int, int, int]]:
        """Return what was seen after a quarter of the epochs."""
        return [look for look in self.seen if look[0] >= epochs / 4]

    def faults(self, epochs: int) -> list[str]:
        """Say what grew that should not."""
        later = self.later(epochs)
        if not later:
            return ["it was over before it could be watched"]
        sizes, files = [size for _, size, _ in later], [count for _, _, count in later]
        found = []
        if max(sizes) - sizes[0] > GAIN:
            found.append(f"memory grew: {self.text(epochs)} MiB")
        if min(files[-5:]) > max(files[:5]):
            found.append(f"open files grew from {files[0]} to {files[-1]}")
        return found

    def text(self, epochs: int) -> str:
        """Return resident memory after a quarter of the epochs, and the most after it, in MiB."""
        sizes = [size // MIB for _, size, _ in self.later(epochs)]
        return f"{sizes[0]}, {max(sizes)}" if sizes else "not seen"


def epochs_of(folder: Path) -> int:
    """Return how many epochs a run has told of."""
    path = folder / "metrics.csv"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def run(root: Path, n: int, seed: int, told: Tally) -> None:
    """Train ``n`` epochs undisturbed and again with kills; tell of time, memory and equality."""
    words = [f"epochs={n}", "batch_size=8", "threads=1", "eval.every=5"]
    whole, killed, said = root / "whole", root / "killed", root / "said"

    def train(folder: Path) -> None:
        run_recipe(load_recipe("digits", words), plain_recipe("digits", []), folder=folder,
                   command=COMMAND, data=DATA)  # fmt: skip

    began, watched = time.monotonic(), Watched()
    child = start(lambda: train(whole), said)
    while (code := _code(child)) is None:
        watched.look(child, whole)
        time.sleep(1.0)
    minutes = (time.monotonic() - began) / 60
    faults = [f"left alone it ended with {code}"] if code else watched.faults(n)
    kills = 0
    if not code:
        kills, code = _with_kills(lambda: train(killed), said, random.Random(seed), minutes)
        faults += [f"killed it ended with {code}"] if code else differences(killed, whole)
    told.add(Row("soak", f"{n:,} epochs, then again with kills", BAD if faults else "equal"))
    for fault in faults:
        told.fault(f"soak seed {seed}: {fault}")
    told.note("soak", f"minutes of the longest run, {n:,} epochs without a stop", f"{minutes:.0f}")
    told.note("soak", "kills while the same was trained again", str(kills))
    told.note("soak", "MiB of memory after a quarter of the epochs, and at most", watched.text(n))


def _with_kills(
    work: Callable[[], None], said: Path, dice: random.Random, minutes: float
) -> tuple[int, int]:
    """Let a child work to its end, killed about once a minute; return kills and its exit code."""
    kills = 0
    while True:
        child = start(work, said)
        until = time.monotonic() + dice.uniform(0.2, 2) * min(MINUTE, 6 * minutes)
        while (code := _code(child)) is None and time.monotonic() < until:
            time.sleep(0.1)
        if code is not None:
            return kills, code
        os.kill(child, dice.choice((signal.SIGKILL, signal.SIGTERM)))
        wait(child, said)
        kills += 1


def _code(child: int) -> int | None:
    """Return the exit code of a child; None while it works."""
    done, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None
