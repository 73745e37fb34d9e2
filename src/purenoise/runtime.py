"""Device, threads, random streams and the record of where a run took place."""

from __future__ import annotations

import ctypes
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import purenoise
from purenoise.data.decode import available_cores
from purenoise.determinism import deterministic_mode
from purenoise.errors import RecipeError
from purenoise.team import announced, beside, local_gpu

# Random streams of a step, so that no two uses of a seed meet.
CHOICE, PIXELS, AUGMENT, MODEL, LABELS, MIX, DRAWN, HEAD = range(8)


def resolve_device(name: str) -> torch.device:
    """Return the device that a recipe names; ``auto`` takes CUDA, then MPS, then the CPU.

    Of several processes on a machine each has a GPU of its own.

    Raises:
        RecipeError: If the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return _own_gpu()
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    there = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, True):
        raise RecipeError(f"device={name} was asked for, and there is none.", "Use device=auto.")
    return _own_gpu() if device == torch.device("cuda") else device


def _own_gpu() -> torch.device:
    return torch.device("cuda", local_gpu()) if announced() > 1 else torch.device("cuda")


def resolve_threads(threads: int | str) -> int:
    """Return the number of threads; ``auto`` is one per core, at most 8.

    Processes of one run on one machine share its cores.

    More threads than cores cost a factor of 4 to 10, so they are refused; one thread each never is.

    Raises:
        RecipeError: If there are fewer cores.
    """
    cores, processes = available_cores(), beside()
    if threads == "auto":
        return max(1, min(8, cores // processes))
    if int(threads) > max(1, cores // processes):
        several = f" of {processes} processes" if processes > 1 else ""
        raise RecipeError(
            f"threads={threads}{several}, and this process may use {cores} cores.",
            "More threads than cores make training several times slower.",
        )
    return int(threads)


@contextmanager
def torch_settings(
    threads: int,
    device: torch.device,
    *,
    deterministic: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Fix what changes results, and give back the caller's settings and random state after.

    Args:
        threads: Of torch.
        device: Whose random state is kept.
        deterministic: Whether a GPU is to take the same sums in the same order each time.
        tell: Is called with a sentence about each operation that cannot.
    """
    before = torch.get_num_threads(), torch.backends.cudnn.benchmark
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), deterministic_mode(deterministic, tell):
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.backends.cudnn.benchmark = before[1]


def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors gave back, for the next tensors. Linux, glibc.

    By default glibc returns it to the system after every step and has it again page by page in the
    next, which costs a ResNet-32 step of 128 images about a tenth of its time
    (docs/speed.md). It cannot be undone and holds for the whole process: a command may call it, a
    library should not.

    Returns:
        Whether it was done.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    largest_heap_block, give_back_above = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    return bool(mallopt(largest_heap_block, 32 << 20) and mallopt(give_back_above, 2**31 - 1))


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT, SIGTERM and SIGHUP into a question of the loop; a second one stops at once.

    A signal that is ignored, as a hangup below ``nohup``, stays ignored. One that came after the
    last question, such as while files of the end are written, is sent again at the end.
    """
    came: list[int] = []
    answered = False

    def should_stop() -> bool:
        nonlocal answered
        answered = answered or bool(came)
        return bool(came)

    if threading.current_thread() is not threading.main_thread():
        yield should_stop
        return

    def ask(number: int, _frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no hangup
    known = [n for name in names if (n := getattr(signal, name, None)) is not None]
    before = {n: signal.getsignal(n) for n in known}
    theirs = (signal.SIG_IGN, None)  # None: of a program in C that Python is a part of
    ours = [n for n, handler in before.items() if handler not in theirs]
    for number in ours:
        signal.signal(number, ask)
    try:
        yield should_stop
    finally:
        for number in ours:
            signal.signal(number, before[number])
    if came and not answered:
        signal.raise_signal(came[0])


def stream_seed(seed: int, stream: int, epoch: int, step: int = 0, rank: int = 0) -> int:
    """Return the seed of one random stream of one step, so that any step can be repeated alone.

    Only what a process draws for its own rows alone (dropout) depends on its rank.
    """
    numbers = [seed, stream, epoch, step, *([rank] if rank else [])]
    words = np.random.SeedSequence(numbers).generate_state(2)
    return int(words[0]) | (int(words[1] >> 1) << 32)  # 63 bits


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator on ``device``."""
    return torch.Generator(device).manual_seed(seed)


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Return what a result should be read with: hardware, versions, threads, commit."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "cpu": _cpu_name(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),  # importing it takes a second
        "numpy": np.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32 if on_gpu else None,
        "purenoise": purenoise.__version__,
        "commit": _commit(),
        "system": platform.platform(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The commit of the source, if it is run from a checkout of its own."""
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return None
    command = ["git", "-C", str(home), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
