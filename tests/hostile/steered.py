"""Fuzzing that is steered by coverage: ``python -m tests.hostile.steered --minutes 10 --seed 0``.

An input that takes a reader along a line of code after another in an order that was not seen before
is kept, and changed further; so the inputs find their way behind checks that random changes of good
files seldom pass. All in memory, from a seed. With ``--atheris`` libFuzzer does the changing
(``pip install atheris``), many times faster and not from a seed alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import purenoise
from purenoise.errors import PureNoiseError

from .fuzz import changed
from .kind import _faults_of
from .parsers import PARSERS, Parser
from .warm import warm_up
from .watch import Hung, hurried, narrow, watched

OURS = str(Path(purenoise.__file__).parent)
LARGEST = 20_000  # bytes of an input
GRACE = 5.0  # seconds for a child to end
Edge = tuple[int, int, int]


class Steps:
    """Which lines of ours ran after which others, while code inside `seen` runs."""

    def __init__(self) -> None:
        self.edges: set[Edge] = set()

    @contextmanager
    def seen(self) -> Iterator[set[Edge]]:
        """Yield a set that receives the steps."""
        self.edges = set()
        sys.settrace(self._call)
        try:
            yield self.edges
        finally:
            sys.settrace(None)

    def _call(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        before, code, edges = 0, id(frame.f_code), self.edges

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                edges.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line


@dataclass
class Found:
    """What came of fuzzing one reader."""

    name: str
    tried: int = 0
    refused: int = 0
    kept: int = 0
    edges: int = 0
    failures: dict[str, bytes] = field(default_factory=dict)


def given(parser: Parser, content: bytes, folder: Path) -> tuple[bool, str]:
    """Give a reader some bytes; return whether it refused them, and what it did wrong."""
    try:
        with watched(folder) as touched, narrow(), hurried(5):
            parser.read(content, folder)
    except parser.refusals as error:
        faults = _faults_of(str(error)) if isinstance(error, PureNoiseError) else []
        return True, "; ".join([*faults, *touched])
    except Hung:
        return False, "it took too long"
    except Exception as error:
        return False, f"{type(error).__name__}: {str(error)[:200]}"
    return False, "; ".join(touched)


def steer(parser: Parser, seconds: float, random: np.random.Generator, most: int = 10**9) -> Found:
    """Fuzz one reader for some seconds, or ``most`` inputs.

    Args:
        parser: The reader.
        seconds: Of wall time.
        random: All changes come from it.
        most: Inputs to try.
    """
    seeds, known, steps = parser.seeds(), set[Edge](), Steps()
    corpus: list[bytes] = []
    found, until = Found(parser.name), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="steered-") as name:
        while found.tried < most and time.monotonic() < until:
            is_seed = bool(seeds)
            content = seeds.pop() if is_seed else _next(corpus, random)
            with steps.seen() as edges:
                refused, wrong = given(parser, content, Path(name))
            found.tried += 1
            found.refused += refused
            if wrong and wrong.partition(":")[0] not in found.failures:
                found.failures[wrong.partition(":")[0]] = content
                print(f"FAILED {parser.name}: {wrong}: {content[:300]!r}", flush=True)
            if is_seed or not edges <= known:
                known |= edges
                corpus.append(content)
    found.kept, found.edges = len(corpus), len(known)
    return found


def _next(corpus: list[bytes], random: np.random.Generator) -> bytes:
    """Change one of the inputs that are kept, later ones more often, or join two."""
    at = int(len(corpus) * random.beta(2, 1))
    content = corpus[min(at, len(corpus) - 1)]
    if random.random() < 0.1:
        other = corpus[int(random.integers(len(corpus)))]
        content = content[: int(random.integers(len(content) + 1))] + other[
            int(random.integers(len(other) + 1)) :]  # fmt: skip
    return changed(content, random)[:LARGEST]


def with_atheris(parser: Parser, seconds: float, seed: int) -> None:
    """Let libFuzzer do it, in a child, for it ends its process; a failure is a crash of its own."""
    import atheris

    child = os.fork()
    if child:
        _wait(child, seconds + GRACE)
        return
    with tempfile.TemporaryDirectory(prefix="atheris-") as name:
        folder, corpus = Path(name) / "work", Path(name) / "corpus"
        folder.mkdir()
        corpus.mkdir()
        for i, content in enumerate(parser.seeds()):
            (corpus / str(i)).write_bytes(content)

        def one(content: bytes) -> None:
            _, wrong = given(parser, content, folder)
            if wrong:
                print(f"FAILED {parser.name}: {wrong}: {content[:300]!r}", flush=True)
                raise AssertionError(wrong)

        limits = {"max_total_time": max(1, int(seconds)), "seed": seed + 1, "max_len": LARGEST,
                  "rss_limit_mb": 0, "verbosity": 0, "print_final_stats": 1,
                  "artifact_prefix": f"{name}/"}  # fmt: skip
        options = [f"-{key}={value}" for key, value in limits.items()]
        atheris.Setup([parser.name, *options, str(corpus)], one)
        for module in [m for n, m in sys.modules.items() if n.startswith("purenoise.")]:
            for value in vars(module).values():
                if getattr(value, "__module__", None) == module.__name__ and hasattr(
                    value, "__code__"
                ):
                    value.__code__ = atheris.instrument_func(value).__code__
        atheris.Fuzz()


def _wait(child: int, seconds: float) -> None:
    """Wait for a child, which may hang at its end: threads of libraries did not come along."""
    until = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.1)


def main() -> int:
    """Fuzz every reader for its share of the time; print what was reached and every failure."""
    words = argparse.ArgumentParser(prog="python -m tests.hostile.steered", description=__doc__)
    words.add_argument("--minutes", type=float, default=10)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", default="", help="readers whose names begin so")
    words.add_argument("--atheris", action="store_true", help="let libFuzzer change the inputs")
    asked = words.parse_args()
    warm_up()
    warnings.simplefilter("ignore")
    chosen = [p for p in PARSERS if p.name.startswith(asked.only)]
    seconds = 60 * asked.minutes / max(1, len(chosen))
    failed = False
    print(f"{'reader':16}{'tried':>10}{'refused':>10}{'kept':>7}{'steps':>8}{'failed':>8}")
    for number, parser in enumerate(chosen):
        if asked.atheris:
            with_atheris(parser, seconds, asked.seed)
            continue
        found = steer(parser, seconds, np.random.default_rng([asked.seed, number]))
        print(f"{found.name:16}{found.tried:10,}{found.refused:10,}{found.kept:7,}"
              f"{found.edges:8,}{len(found.failures):8,}", flush=True)  # fmt: skip
        failed |= bool(found.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
