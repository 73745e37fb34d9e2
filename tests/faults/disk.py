"""No room, no permission, no memory, a wrong clock: one sentence, and afterwards the run goes on.

A full disk is a small tmpfs where the process may mount one, and everywhere a limit on the size of
files, which fails in the middle of a write as a full disk does. Permission is taken from a child
that has given up root's powers while it trains.
"""

from __future__ import annotations

import ctypes
import math
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from purenoise.training import Fit

from . import stages
from .kills import Reference
from .stages import without_stages
from .tally import Row, Tally
from .warm import PATIENCE, Ended, differences, do, start, train, wait

MIB = 1 << 20
CALM = "a sentence, then went on, equal"
UNDISTURBED = "not disturbed, equal"


class Place:
    """Where trials take place."""

    def __init__(self, root: Path) -> None:
        self.whole, self.root = Reference(root), root
        self.folder, self.said = root / "run", root / "said"
        self.largest = max(p.stat().st_size for p in self.whole.folder.rglob("*") if p.is_file())

    def outcome(self, ended: Ended, folder: Path | None = None, *, codes: tuple[int, ...] = (2,)
                ) -> str:  # fmt: skip
        """Judge how a child ended, let the run go on, compare."""
        folder = folder or self.folder
        if ended.code not in (0, *codes) or not ended.is_clean:
            return f"code {ended.code}: {ended.said[-700:]}"
        said = without_stages(ended.said)
        if ended.code and len(said.strip().splitlines()) > 2:
            return f"more than a sentence and a hint: {said[-700:]}"
        again = do(lambda: train(folder), self.said)
        if again.code:
            return f"went on with code {again.code}: {again.said[-500:]}"
        found = differences(folder, self.whole.folder)
        if found:
            return f"differs in {', '.join(found)}"
        return CALM if ended.code else UNDISTURBED


def file_limit(place: Place, dice: random.Random) -> str:
    """No file may grow beyond some size: a write fails in its middle."""
    most = dice.randint(1, place.largest)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        train(place.folder)

    return place.outcome(do(limited, place.said))


def full_disk(place: Place, dice: random.Random) -> str:
    """A tmpfs of some size is full at some write; it is made larger, and the run goes on."""
    disk = place.root / "disk"
    disk.mkdir()
    size = dice.randint(4096 * 4, 3 * place.largest + MIB)
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(disk))
    try:
        ended = do(lambda: train(disk / "run"), place.said)
        _mount("-o", "remount,size=64m", str(disk))
        return place.outcome(ended, disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


def read_only(place: Place, dice: random.Random) -> str:
    """The folder above is on a disk that is mounted to be read only."""
    disk = place.root / "disk"
    disk.mkdir()
    _mount("-t", "tmpfs", "-o", "size=64m,ro", "none", str(disk))
    try:
        ended = do(lambda: train(disk / "run"), place.said)
        _mount("-o", "remount,rw", str(disk))
        return place.outcome(ended, disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


def lost_permission(place: Place, dice: random.Random) -> str:
    """While it trains, a run without root's powers loses the right to write into its folders."""
    place.folder.mkdir()

    def without_powers() -> None:
        _obey_modes()
        train(place.folder)

    child = start(without_powers, place.said)
    state, until = place.folder / "state" / "state.pt", time.monotonic() + PATIENCE
    while not state.exists() and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.2) * place.whole.seconds)
    _close(place.folder)
    ended = wait(child, place.said)
    for folder in (place.folder, *filter(Path.is_dir, place.folder.rglob("*"))):
        folder.chmod(0o755)
    return place.outcome(ended)


def _obey_modes() -> None:
    """Give up root's power to pass over the modes of files; what root owns stays readable."""
    override, read_search = 1, 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)  # the kernel's version 3 of this call; this process
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; then the high bits
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    low, high = struct.unpack("3I", sets.raw[:12]), sets.raw[12:]
    kept = [word & ~(1 << override | 1 << read_search) for word in low]
    if libc.capset(header, struct.pack("3I", *kept) + high):
        raise OSError(ctypes.get_errno(), "capset")


def _close(folder: Path) -> None:
    for path in (folder, folder / "state", folder / "tb"):
        if path.is_dir():
            path.chmod(0o555)


def little_memory(place: Place, dice: random.Random) -> str:
    """From the beginning, a step, an epoch or the end on, little more memory than used is left."""
    extra = dice.randint(0, 64) * MIB // 4
    wanted = dice.choice(("", "start", "step", "epoch", "end"))
    at = dice.randint(1, 3) if wanted in ("step", "epoch") else 1

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + extra
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

    def limited() -> None:
        if not wanted:
            limit()
        with _at_stage(wanted, at, limit):
            train(place.folder)

    return place.outcome(do(limited, place.said))


@contextmanager
def _at_stage(wanted: str, at: int, act: Callable[[], object]) -> Iterator[None]:
    """Do something when a run in this process tells an event of a kind for the ``at``-th time."""
    plain, seen = stages.tell, 0

    def tell(name: str, event: dict[str, Any]) -> None:
        nonlocal seen
        plain(name, event)
        seen += name == wanted
        if name == wanted and seen == at:
            act()

    stages.tell = tell
    try:
        yield
    finally:
        stages.tell = plain


def loss_not_finite(place: Place, dice: random.Random) -> str:
    """In some step the loss is NaN or infinite; the state before is kept."""
    at, value = dice.randint(1, 6), dice.choice((math.nan, math.inf, -math.inf))
    plain = Fit._natural
    calls = 0

    def spoilt(self: Fit, *rest: object) -> object:
        nonlocal calls
        calls += 1
        images, mixed = plain(self, *rest)  # type: ignore[arg-type]
        return (torch.full_like(images, value) if calls == at else images), mixed

    def train_spoilt() -> None:
        Fit._natural = spoilt  # type: ignore[method-assign,assignment]
        train(place.folder)

    return place.outcome(do(train_spoilt, place.said))


def clock_jumps(place: Place, dice: random.Random) -> str:
    """Both clocks jump by hours, back and forth; nothing that is computed knows of them."""
    seed = dice.randrange(1 << 30)

    def jumping() -> None:
        moments = random.Random(seed)
        wall, steady = time.time, time.monotonic
        time.time = lambda: wall() + moments.uniform(-1e5, 1e5)
        time.monotonic = lambda: steady() + moments.uniform(-1e5, 1e5)
        train(place.folder)

    return place.outcome(do(jumping, place.said))


def second_process(place: Place, dice: random.Random) -> str:
    """A second process on the folder is refused while the first trains, and not by a stale lock."""
    reading, ready = os.pipe()

    def wait_in_a_step() -> None:
        os.write(ready, b"1")
        time.sleep(600)

    def first() -> None:
        with _at_stage("step", dice.randint(1, 6), wait_in_a_step):
            train(place.folder)

    child = start(first, place.said)
    os.read(reading, 1)
    os.close(reading)
    os.close(ready)
    ended = do(lambda: train(place.folder), place.root / "second")
    os.kill(child, signal.SIGKILL)
    wait(child, place.said)
    if ended.code != 2 or "is being trained by another process" not in ended.said:
        return f"the second was not refused: {ended.code}: {ended.said}"
    if not (place.folder / "lock").exists():
        return "the first left no stale lock"
    return place.outcome(ended)


CASES: dict[str, tuple[Callable[[Place, random.Random], str], bool]] = {  # and if it needs root
    "a limit on the size of files": (file_limit, False),
    "a full disk": (full_disk, True),
    "a read-only disk": (read_only, True),
    "permission lost in mid-run": (lost_permission, True),
    "little memory": (little_memory, False),
    "a loss that is not finite": (loss_not_finite, False),
    "clocks that jump": (clock_jumps, False),
    "two processes on one folder": (second_process, False),
}


def run(root: Path, n: int, seed: int, told: Tally, only: str = "") -> None:
    """Try ``n`` conditions, in turn."""
    place, dice = Place(root), random.Random(seed)
    refusal = "" if os.environ.get("PURENOISE_NEED_FAULTS") == "1" else why_not()
    cases = [case for case in CASES.items() if not (refusal and case[1][1]) and only in case[0]]
    for kind in (name for name, (_, root_needed) in CASES.items() if refusal and root_needed):
        told.note("disk", kind, f"not tried: {refusal}")
    for i in range(n):
        if told.is_over:
            break
        kind, (case, _) = cases[i % len(cases)]
        outcome = case(place, dice)
        known = outcome in (CALM, UNDISTURBED)
        told.add(Row("disk", kind, outcome if known else "LOST"))
        if not known:
            told.fault(f"disk seed {seed} trial {i} ({kind}): {outcome}")
        shutil.rmtree(place.folder, ignore_errors=True)


def why_not() -> str:
    """Return why this process may not mount or give rights away; empty if it may."""
    if os.geteuid() != 0:
        return "not root"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder],
                              capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode:
            return done.stderr.strip() or "mount failed"
        subprocess.run(["umount", folder], check=True)
    return ""


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)
