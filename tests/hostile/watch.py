"""Whether a piece of code kept to its place: an audit hook, a clock, and a limit on memory.

CPython tells audit hooks of every file that is opened, every process that is started and every
class that a pickle names, also from inside libraries. So "nothing was executed, nothing was written
elsewhere" is not looked up afterwards but seen as it happens.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate",
           "os.chmod", "os.chown"}  # fmt: skip
ENTRIES = {"os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link"}  # which follow no link
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn", "os.startfile"}
CALLS = {"socket.connect", "socket.getaddrinfo"}
OURS = ("__pycache__", "/dev/null", "matplotlib", "/proc/self/")  # of libraries, harmless
SECONDS = 20.0
MIB = 1 << 20
ROOM = 1536 * MIB  # address space that one attempt may add
MOST = 700 * MIB  # memory that one attempt may use at a time


class Hung(BaseException):
    """Took longer than ``SECONDS``; no `except Exception` holds it back."""


class _Watch:
    inside: tuple[str, ...] = ()
    found: list[str] | None = None
    installed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    found = _Watch.found
    if found is None:
        return
    if event == "open":
        path, _, flags = args
        if isinstance(flags, int) and flags & WRITES and isinstance(path, str | bytes):
            _note(path, "written", found)
    elif event in CHANGES:
        for path in args[:2]:
            if isinstance(path, str | bytes):
                _note(path, event, found)
    elif event in STARTS:
        if "git" not in str(args[:2]):  # the commit of the source, which a run records
            found.append(f"{event}: {str(args)[:100]}")
    elif event in CALLS:
        found.append(f"{event}: {str(args)[:100]}")
    elif event == "pickle.find_class":
        found.append(f"unpickled {args[0]}.{args[1]}")


def _place(name: str, what: str) -> str:
    """Return what is changed: behind a link, or, where only the entry of a folder is, the link."""
    if what not in ENTRIES:
        return os.path.realpath(name)
    folder, last = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(folder), last)


def _note(path: str | bytes, what: str, found: list[str]) -> None:
    name = os.fsdecode(path)
    if any(part in name for part in OURS):
        return
    kept, _Watch.found = found, None  # the questions below are no events of the attempt
    try:
        real = _place(name, what)
        if not real.startswith(_Watch.inside):
            found.append(f"{what}: {real}")
    finally:
        _Watch.found = kept


@contextmanager
def watched(*inside: Path) -> Iterator[list[str]]:
    """Yield a list that receives all that is written elsewhere, started, unpickled or called.

    Args:
        *inside: Folders that may be written.
    """
    if not _Watch.installed:
        sys.addaudithook(_hook)  # for good: hooks cannot be taken back
        _Watch.installed = True
    _Watch.inside = tuple(os.path.realpath(folder) for folder in inside)
    _Watch.found = found = []
    try:
        yield found
    finally:
        _Watch.found = None


@contextmanager
def hurried(seconds: float = SECONDS) -> Iterator[None]:
    """Raise `Hung` if what is inside takes too long, also in a system call."""

    def stop(*_: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def narrow(room: int = ROOM) -> Iterator[None]:
    """Let this process add no more than ``room`` bytes of address space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def weighed(found: dict[str, int]) -> Iterator[None]:
    """Put into ``found["peak"]`` by how many bytes memory grew at its highest."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
    before = _status("VmRSS")
    try:
        yield
    finally:
        found["peak"] = max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


@contextmanager
def place() -> Iterator[tuple[Path, Path]]:
    """Yield an empty folder to work in, and one beside it with a file that must stay as it is."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="hostile-") as root:
        inside, outside = Path(root).resolve() / "inside", Path(root).resolve() / "outside"
        inside.mkdir()
        outside.mkdir()
        (outside / "victim").write_text("mine")
        os.chdir(inside)
        try:
            yield inside, outside
        finally:
            os.chdir(before)
