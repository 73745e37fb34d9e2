"""Commands that ``torchrun`` starts in several processes: only the first one speaks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from purenoise.errors import RunError

# A process that fails waits before it ends: torchrun ends the others at once, and the first one
# has yet to say what is wrong.
FOLLOWERS_WAIT = 3.0


def is_one_of_several() -> bool:
    """Whether the environment announces several processes."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def follows() -> bool:
    """Whether this is one of several processes and not the first."""
    return is_one_of_several() and os.environ.get("RANK", "0") != "0"


def refuse_several(verb: str) -> None:
    """Refuse a command that is for one process.

    Raises:
        RunError: If there are several.
    """
    if is_one_of_several():
        error = RunError(
            f"purenoise {verb} cannot be started by torchrun: it starts processes itself.",
            "Start it alone, or start a single run with: torchrun ... -m purenoise train",
        )
        error.is_shared = True
        raise error


@contextmanager
def team_of_commands() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Join the processes, if there are several; yield what does something in all or in none.

    Raises:
        RunError: If they cannot be joined.
    """
    if not is_one_of_several():  # torch need not be there yet
        yield lambda what: what()
        return
    from purenoise.team import joined

    with joined() as team:
        yield team.together
