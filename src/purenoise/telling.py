"""What a listener does wrong must not cost what was learnt: the state is saved, then it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from purenoise.errors import PureNoiseError


@contextmanager
def keeping(save: Callable[[], None], *, alone: bool) -> Iterator[None]:
    """Save the state before anything that is raised inside goes on.

    Args:
        save: Saves it.
        alone: Whether this process trains alone; of several, all would have to save together, and
            the others do not know.
    """
    try:
        yield
    except BaseException:
        if alone:
            with suppress(PureNoiseError):  # what was raised first is the one to tell
                save()
        raise
