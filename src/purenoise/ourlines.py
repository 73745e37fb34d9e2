"""Whether a command that a file holds is one of ours: people copy the lines that they are shown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

OUR_LINES = (("purenoise", "train"), ("purenoise", "adjust"), ("python", "cifar_train.py"))


def line_of(events: Sequence[Mapping[str, Any]], own: str, digest: str) -> str:
    """Return the line by which a run was begun, as its first event says.

    Args:
        events: Of the run.
        own: The line of now, for a run without events, with those of another run, or of a
            stranger's whose line is no command of ours alone: people copy it.
        digest: Of the run's recipe.

    Example:
        >>> begun = {"event": "start", "command": "purenoise train; rm x", "digest": "a1"}
        >>> line_of([begun], "purenoise train a", "a1")
        'purenoise train a'
    """
    first = next((event for event in events if event["event"] == "start"), {})
    found = first.get("command")
    return found if is_our_line(found) and first.get("digest") == digest else own


def is_our_line(found: Any) -> TypeGuard[str]:
    """Whether a command that a file holds is one of ours and no other beside it.

    Example:
        >>> is_our_line("purenoise train digits"), is_our_line("purenoise train; rm x")
        (True, False)
    """
    try:
        words = shlex.split(found) if isinstance(found, str) else []
    except ValueError:  # a quote without end
        return False
    return tuple(words[:2]) in OUR_LINES and shlex.join(words) == found and "\n" not in found
