"""A signal anywhere in a command is one sentence and exit code 130, with the line to go on.

While a run trains, :func:`purenoise.runtime.stop_on_signal` hears signals instead, and saves.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from purenoise.errors import PureNoiseError, RunError
from purenoise.terminal.following import is_one_of_several

STOPPED = "Stopped."


class _Signal:
    """Whether one came, and whether it has to wait for libraries that are being loaded."""

    came = False
    waits = False


class Commands(TyperGroup):
    """The commands; typer would end an interrupted one without a word."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run a command."""
        with going_on():
            return super().invoke(ctx)


@contextmanager
def going_on(command: str = "") -> Iterator[None]:
    """Turn an interruption into an error that says how to go on.

    Args:
        command: The line that does; empty where there is none.

    Raises:
        RunError: If it was interrupted.
    """
    try:
        yield
    except PureNoiseError:
        raise
    except BaseException as error:
        if not (_Signal.came or isinstance(error, KeyboardInterrupt)):
            raise
        stopped = RunError(STOPPED, f"To go on: {command}" if command else "")
        stopped.is_shared = True  # of several processes, the first one says it
        raise stopped from error


@contextmanager
def loading() -> Iterator[None]:
    """Let a signal wait until libraries are loaded: inside C++ it would abort, or break them.

    A second one does not wait.

    Raises:
        KeyboardInterrupt: If one came.
    """
    _Signal.waits = True
    try:
        yield
    finally:
        _Signal.waits = False
    if _Signal.came:
        raise KeyboardInterrupt


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as SIGINT does, and give back what was set before.

    A signal that is ignored, as a hangup below ``nohup``, stays ignored. Processes of ``torchrun``
    keep the system's way: one that waits for another inside torch would never hear Python's.

    Raises:
        RunError: If there was one, whatever the libraries that it met made of it.
    """
    if threading.current_thread() is not threading.main_thread() or is_one_of_several():
        yield
        return
    owner, _Signal.came = os.getpid(), False

    def interrupt(number: int, _frame: Any) -> None:
        if os.getpid() != owner and number != signal.SIGINT:  # a child that was forked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        waits, _Signal.came = _Signal.waits and not _Signal.came, True
        if not waits:
            raise KeyboardInterrupt

    named = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = {n: signal.getsignal(n) for n in named if n is not None}  # Windows has no hangup
    usual = (signal.SIG_DFL, signal.default_int_handler)
    ours = [n for n, handler in before.items() if handler in usual]
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    except PureNoiseError:
        raise
    except BaseException as error:
        if _Signal.came:
            raise RunError(STOPPED) from error
        raise
    finally:
        for number in ours:
            signal.signal(number, before[number])
