"""Kill this process at the k-th thing that it does to a disk: before it, after it, or half way.

Only a child of the bench does this to itself; the product has no hook for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = ("replace", "rename", "fsync", "unlink", "mkdir")


class Sabotage:
    """Counts what is done to a disk and kills the process at one of these.

    Args:
        at: Which one, from 1; 0: none, they are counted.
        when: ``before``, ``half`` (a write of the first half; other calls: before) or ``after``.
        number: The signal.
        log: Where each is written down, if they are counted.
    """

    def __init__(
        self, at: int, when: str = "before", number: int = signal.SIGKILL, log: Path | None = None
    ) -> None:
        self.at, self.when, self.number, self.log = at, when, number, log
        self.count = 0

    def install(self) -> None:
        """Put itself around the calls of this process."""
        for name in CALLS:
            setattr(os, name, self._around(name, getattr(os, name)))
        plain = Path.open

        def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
            file = plain(path, mode, *rest, **options)
            return _Watched(file, path, self) if mode[0] in "wa" else file

        Path.open = opened  # type: ignore[method-assign,assignment]

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(target: Any, *rest: Any, **options: Any) -> Any:
            with_name = _name(target)
            self.begins(name, with_name)
            result = call(target, *rest, **options)
            self.ended(name, with_name)
            return result

        return watched

    def begins(self, call: str, name: str) -> bool:
        """Count; kill if this is the one and the time is before. Return whether to do half."""
        self.count += 1
        if self.log is not None:
            file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(file, f"{call} {name}\n".encode())
            os.close(file)
        if self.count == self.at and (self.when == "before" or (self.when, call) == ("half", call)):
            if call == "write" and self.when == "half":
                return True
            self.strike(call, name)
        return False

    def ended(self, call: str, name: str) -> None:
        """Kill if this was the one and the time is after."""
        if self.count == self.at and self.when == "after":
            self.strike(call, name)

    def strike(self, call: str, name: str) -> None:
        """Say where, and kill."""
        self.at = 0
        os.write(2, f"struck at {call} {name}\n".encode())
        os.kill(os.getpid(), self.number)


class _Watched:
    """A file whose writes are counted, each in two halves."""

    def __init__(self, file: Any, path: Path, sabotage: Sabotage) -> None:
        self.file, self.name_, self.sabotage = file, _name(path), sabotage

    def write(self, data: Any) -> int:
        if self.sabotage.begins("write", self.name_):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            self.sabotage.strike("write", self.name_)
            return int(self.file.write(data[len(data) // 2 :]))
        written = self.file.write(data)
        self.sabotage.ended("write", self.name_)
        return int(written)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _name(target: Any) -> str:
    """The name of a file, a folder or an open file, as a run's folder has it."""
    if isinstance(target, int):
        target = os.readlink(f"/proc/self/fd/{target}")
    name = Path(os.fspath(target)).name
    return name.removeprefix(".").removesuffix(".part")
