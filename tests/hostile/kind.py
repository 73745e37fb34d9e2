"""A kind of hostile input, and what is found when purenoise is given one.

An attempt passes if purenoise refuses in a sentence of its own (a `PureNoiseError`, or exit code 2
and one message) or accepts, and in both cases nothing was executed, nothing was written outside the
folder, it took seconds, and memory stayed within bounds.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np

from purenoise.errors import PureNoiseError
from purenoise.terminal.plaintext import printable

from .watch import MOST, Hung, hurried, narrow, place, watched, weighed

Expected = Literal["refused", "harmless", "either"]
MARKER = "ran"  # a file that code of the input would make
LONGEST, MOST_LINES = 20_000, 60  # of a message


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Args:
        name: Of the kind, ``group: what``.
        make: Writes the input into the folder that it is given (its neighbour ``outside`` is not
            to be touched) and returns what ``read`` is to be given.
        read: What is asked of purenoise.
        expected: Whether purenoise must refuse it, must take it, or may do either.
    """

    name: str
    make: Callable[[Path, np.random.Generator], Any]
    read: Callable[[Any], Any]
    expected: Expected = "refused"

    @property
    def group(self) -> str:
        """What is before the colon."""
        return self.name.partition(":")[0]


@dataclass
class Outcome:
    """What came of one attempt.

    Args:
        kind: Of the input.
        result: ``refused``, ``harmless`` or ``failed``.
        said: The message of a refusal.
        wrong: All that was wrong.
    """

    kind: Kind
    result: str = "harmless"
    said: str = ""
    wrong: list[str] = field(default_factory=list)


class RefusedError(Exception):
    """The command left with exit code 2 and one message."""


def attempt(kind: Kind, random: np.random.Generator, warm: bool = False) -> Outcome:
    """Give purenoise one input of a kind.

    Args:
        kind: What to make.
        random: All draws come from it.
        warm: Whether memory is measured, which is fair only once libraries are loaded.
    """
    out = Outcome(kind)
    with place() as (inside, outside), mock.patch.dict(os.environ, PURENOISE_CACHE=str(inside)):
        given = kind.make(inside, random)
        peak: dict[str, int] = {"peak": 0}
        with watched(inside) as seen:
            try:
                with warnings.catch_warnings(), weighed(peak), narrow(), hurried():
                    warnings.simplefilter("ignore")
                    kind.read(given)
            except PureNoiseError as error:
                out.result, out.said = "refused", str(error)
            except RefusedError as error:
                out.result, out.said = "refused", str(error)
            except Hung:
                out.wrong.append("it took too long")
            except BaseException as error:
                out.wrong.append(f"{type(error).__name__}: {str(error)[:300]}")
        out.wrong += seen
        if warm and peak["peak"] > MOST:
            out.wrong.append(f"it took {peak['peak'] >> 20} MiB")
        if (inside / MARKER).exists() or (outside / MARKER).exists():
            out.wrong.append("code of the input was executed")
        kept = {p.name: p.read_bytes() for p in outside.iterdir()}
        if kept != {"victim": b"mine"}:
            out.wrong.append(f"outside was changed: {sorted(kept)}")
    out.wrong += _faults_of(out.said) if out.result == "refused" else []
    if not out.wrong and kind.expected not in ("either", out.result):
        out.wrong.append(f"{out.result}, and {kind.expected} was expected: {out.said[:200]}")
    if out.wrong:
        out.result = "failed"
    return out


def _faults_of(said: str) -> list[str]:
    """Say what is wrong with a message."""
    wrong = []
    if not said.strip() or said.lstrip()[:1] in "({":
        wrong.append(f"no sentence: {said[:80]!r}")
    if "Traceback" in said or "Error: " in said.partition("\n")[0][:40]:
        wrong.append(f"a traceback: {said[:200]!r}")
    if len(said) > LONGEST or said.count("\n") > MOST_LINES:
        wrong.append(f"a message of {len(said)} letters and {said.count(chr(10))} lines")
    return wrong


def command(*words: str | Path) -> str:
    """Run ``purenoise`` in this process; return what it printed.

    Raises:
        RefusedError: It left with exit code 2 and one message.
        RuntimeError: It did anything else but succeed.
    """
    from purenoise import cli

    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        mock.patch.object(sys, "argv", ["purenoise", *map(str, words)]),
        redirect_stdout(out), redirect_stderr(err),
    ):  # fmt: skip
        try:
            cli.main()
        except SystemExit as left:
            code = left.code or 0
    printed, said = out.getvalue(), err.getvalue()
    for text in (printed, said):
        bad = [c for c in text if c != "\n" and printable(c) != c]
        if bad:
            raise RuntimeError(f"control characters were printed: {sorted(set(bad))!r}")
    if code == 0:
        return printed
    one = said.count("purenoise: ") == 1 and said.startswith("purenoise: ")
    if code == 2 and (one or "images could not be read" in said):
        raise RefusedError(said.removeprefix("purenoise: "))
    raise RuntimeError(f"exit code {code}: {said[:300]!r}")
