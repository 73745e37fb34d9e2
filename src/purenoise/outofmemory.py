"""Too little memory, as a sentence; every library has other words for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from purenoise.errors import PureNoiseError, RunError

# Of torch's allocators, of oneDNN's convolutions, of C++, and of the loader of libraries.
WORDS = ("can't allocate memory", "could not create a primitive", "bad_alloc", "out of memory",
         "failed to map segment", "cannot allocate memory")  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left; torch on CPUs has no type for that.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError | ImportError | OSError) and any(
        words in said for words in WORDS
    )


@contextmanager
def memory_told() -> Iterator[None]:
    """Turn what says that there was no memory left into a sentence; also a decorator.

    Raises:
        RunError: If there was none.
    """
    try:
        yield
    except PureNoiseError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            "There was too little memory for that.",
            "Free some, or take smaller images or a smaller model. What was saved is kept.",
        ) from error
