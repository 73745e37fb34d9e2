"""Output that may go away: what is written does not end the work that it tells of.

A disk that is full, a reader that has left (``| head``) or a closed terminal takes no more lines.
A run that trains for days goes on without them: all that it says is in its folder as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console

NOTICE = "purenoise: The output cannot be written ({}); the work goes on without it.\n"


class Outlet:
    """Passes text to a stream until the stream fails; drops it from then on.

    Args:
        stream: Where to.
        notice: Is told once, if it can be, that the stream failed.
    """

    def __init__(self, stream: IO[str], notice: IO[str] | None = None) -> None:
        self.stream, self.notice = stream, notice
        self._is_quiet = False

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        self._attempt(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if it still takes anything."""
        self._attempt(self.stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _attempt(self, action: Callable[[], Any]) -> None:
        if self._is_quiet:
            return
        try:
            action()
        except UnicodeError:
            raise
        except (OSError, ValueError) as error:  # a closed stream raises ValueError
            self._is_quiet = True
            silence(self.stream)
            if self.notice is not None:
                Outlet(self.notice).write(NOTICE.format(getattr(error, "strerror", None) or error))


def silence(stream: IO[str] | None) -> None:
    """Lead a stream that failed to nowhere, or Python would fail with it once more at its end."""
    with suppress(OSError, ValueError, AttributeError):
        number = cast(IO[str], stream).fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def lasting_console(*, quiet: bool = False) -> Console:
    """Return a console that goes quiet when it cannot print any more.

    Args:
        quiet: Whether it is quiet from the start.
    """
    outlet = None if sys.stdout is None else cast(IO[str], Outlet(sys.stdout, sys.stderr))
    return Console(file=outlet, highlight=False, quiet=quiet)
