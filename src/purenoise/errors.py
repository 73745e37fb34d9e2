"""The errors that a user can cause, each one sentence on what is wrong and one on what to do.

The command line prints them without a traceback and leaves with exit code 2. Everything else that
is raised is a fault of ours. Imports nothing, so that it costs nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MOST_LINES = 50
_LONG_LINE = re.compile(r"([^\n]{1600})([^\n]{100,})([^\n]{300})")


class PureNoiseError(Exception):
    """A mistake that a user can mend.

    Args:
        message: What is wrong, with what was got and what is allowed.
        hint: What to do about it.
    """

    # Whether every process of a run raises it: then only the first one says it.
    is_shared = False

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = readable(message), readable(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[PureNoiseError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class RecipeError(PureNoiseError, ValueError):
    """A recipe or an override that cannot be used."""


class DataError(PureNoiseError, ValueError):
    """Images, labels or folders that cannot be used."""


class ModelError(PureNoiseError, ValueError):
    """A model that cannot be built, converted or trained in the way that was asked for."""


class RunError(PureNoiseError):
    """A run folder or checkpoint that cannot be read, continued or written."""


class TrainingError(PureNoiseError, RuntimeError):
    """Training that cannot go on, such as a loss that is no longer finite."""


def readable(text: str) -> str:
    """Return a message that a person can read: long lines, and very many, are cut.

    What is wrong with a file of a stranger may be as long as the file.

    Example:
        >>> len(readable("x" * 10_000)) < 2100
        True
    """
    cut = _LONG_LINE.sub(lambda m: f"{m[1]} [{len(m[2]):,} letters left out] {m[3]}", text)
    lines = cut.split("\n")
    if len(lines) <= MOST_LINES:
        return cut
    return "\n".join([*lines[:MOST_LINES], f"... and {len(lines) - MOST_LINES:,} more lines"])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known name, or with all names if none is near.

    Args:
        name: What was typed.
        known: The names that are allowed.

    Returns:
        ``"Did you mean 'open'?"`` or ``"Known: a, b, c."``.

    Example:
        >>> did_you_mean("opne", ["open", "erm"])
        "Did you mean 'open'?"
    """
    names = list(known)
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1)
    if near:
        return f"Did you mean {next(n for n in names if n.lower() == near[0])!r}?"
    return f"Known: {', '.join(names)}."
