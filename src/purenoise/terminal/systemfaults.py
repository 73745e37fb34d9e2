"""What the system refused, as a sentence: a path too long, an output that is full, no folder."""

from __future__ import annotations

import errno
import os
import sys

from purenoise.errors import RunError
from purenoise.terminal.outlet import silence


def refuse_lost_folder() -> None:
    """Refuse to work in a folder that is gone; libraries would end the process in their own words.

    Raises:
        RunError: If it is.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise RunError(
            f"The working folder cannot be found: {error.strerror}.",
            "Change to a folder that is there.",
        ) from error


def refused_by_system(error: OSError) -> RunError:
    """Return the sentence for an error of the system that nothing else has made one of."""
    if error.errno == errno.ENAMETOOLONG:
        return RunError("A path is longer than the system allows.", "Give a shorter one.")
    if error.filename is None and (reason := _fault_of_output()):
        return RunError(
            f"The output cannot be written: {reason}.",
            "Look at the file, the pipe or the terminal that it goes to.",
        )
    where = f"{error.filename}: " if error.filename else ""
    return RunError(f"The system refused something: {where}{error.strerror or error}.")


def _fault_of_output() -> str:
    """Return why standard output takes no newline, or nothing; then it is led to nowhere."""
    try:
        if sys.stdout is not None:
            sys.stdout.write("\n")
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        return str(getattr(error, "strerror", None) or error)
    return ""
