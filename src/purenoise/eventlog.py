"""A run's ``events.jsonl`` as it is read: a line at a time, and what could not be read is counted.

The file may be torn, damaged or made by a stranger: a FIFO, a line without end, brackets within
brackets, a million events. Memory follows from one line and from what is kept. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from purenoise.checksums import event_of
from purenoise.smallfile import MIB, check_small

Event = dict[str, Any]
MOST = 256 * MIB  # of a file whose events are kept whole; 100 classes and 200 epochs take 10 MiB
MOST_TRIMMED = 4096 * MIB  # of one of whose events little is kept
LONGEST = 32 * MIB  # of a line; one about 8,142 classes takes less than 1
MOST_EVENTS = 100_000


@dataclass(frozen=True)
class Log:
    """What was read of a file of events.

    Args:
        events: In the order of their lines.
        damaged: How many lines were left out: torn, changed or too long.
        fault: Why the file, or its rest, was not read; empty if it was.
    """

    events: list[Event] = field(default_factory=list)
    damaged: int = 0
    fault: str = ""

    @property
    def said(self) -> str:
        """What is missing, in words; empty if nothing is."""
        lines = f"{self.damaged:,} damaged line{'s were' if self.damaged > 1 else ' was'} left out"
        parts = ([lines] if self.damaged else []) + ([self.fault] if self.fault else [])
        return "; ".join(parts)


def read_log(path: Path, trim: Callable[[Event], Event] | None = None) -> Log:
    """Read a file of events.

    Args:
        path: Of the file; one that is not there has no events.
        trim: Returns what is to be kept of an event, for long files; None: all of it.

    Example:
        >>> read_log(Path("nothing-here.jsonl"))
        Log(events=[], damaged=0, fault='')
    """
    events: list[Event] = []
    damaged = 0
    try:
        check_small(path, MOST if trim is None else MOST_TRIMMED)
        for line in _lines(path):
            event = None if line is None else event_of(line)
            if event is None:
                damaged += 1
            elif len(events) == MOST_EVENTS:
                return Log(events, damaged, f"it has more than {MOST_EVENTS:,} events")
            else:
                events.append(event if trim is None else trim(event))
    except FileNotFoundError:
        return Log()
    except OSError as error:
        return Log(events, damaged, f"it could not be read: {error.strerror or error}")
    except MemoryError:
        return Log([], damaged, "there is too little memory for its events")
    return Log(events, damaged)


def is_of_another(events: Iterable[Mapping[str, Any]], digest: str | None) -> bool:
    """Whether events say that they are of a run with another recipe.

    Args:
        events: As they were read.
        digest: Of the recipe; None: of any.

    Example:
        >>> is_of_another([{"event": "start", "digest": "a1"}], "b2")
        True
    """
    known = [event.get("digest") for event in events if event.get("event") == "start"]
    return digest is not None and any(isinstance(k, str) and k != digest for k in known)


def _lines(path: Path) -> Iterator[str | None]:
    """Yield the lines that hold something; None for one that is too long."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST):
            whole = line.endswith(b"\n") or len(line) < LONGEST
            while not line.endswith(b"\n") and (rest := file.readline(LONGEST)):
                whole, line = False, rest
            if line.strip() or not whole:
                yield line.decode("utf-8", "replace") if whole else None
