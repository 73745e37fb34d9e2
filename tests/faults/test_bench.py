"""The short form of the bench: a dozen trials of each, in one process that forks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from . import page
from .stages import Stage, stage_of, without_stages
from .tally import BAD

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def bench(
    name: str, n: int, seed: int, *more: str, by: Sequence[str] = ("-m", "tests.faults")
) -> subprocess.CompletedProcess[str]:
    """Run a bench in a process of its own, whose parent has no threads."""
    return subprocess.run(
        [sys.executable, *by, name, "--n", str(n), "--seed", str(seed), *more],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "n", "more"),
    [("kills", 6, ("--methods", "open", "crt")), ("files", 13, ()), ("disk", 8, ())],
)
def test_nothing_is_lost(name: str, n: int, more: tuple[str, ...]):
    """Killed, damaged or without room, each run goes on to the equal result or says why not."""
    done = bench(name, n, 11, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    tried = int(last.split()[0])
    assert last == f"{tried} tried, 0 lost"
    assert tried >= n


DEAF = """
import contextlib, purenoise.experiment

@contextlib.contextmanager
def deaf():
    yield lambda: False

purenoise.experiment.stop_on_signal = deaf
"""
IGNORES = DEAF.replace(
    "    yield lambda: False",
    """    import signal
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    yield lambda: False""",
)
FORGETS = """
from purenoise.training import Fit

plain = Fit._save

def forgets(self, epoch, step, meters):
    if not self.should_stop():
        plain(self, epoch, step, meters)

Fit._save = forgets
"""


SEED = 54  # its first kill is SIGTERM inside a write in the middle of the run


@pytest.mark.parametrize("mistake", [DEAF, IGNORES, FORGETS])
def test_kills_notice_a_run_that_does_not_heed_signals(mistake: str, tmp_path: Path):
    """Whoever dies of a signal, does not hear it, or stops without a state has lost something."""
    script = tmp_path / "mistaken.py"
    ending = "import sys\nfrom tests.faults.__main__ import main\nsys.exit(main())\n"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{mistake}\n{ending}")
    done = bench("kills", 1, SEED, by=(str(script),))
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.endswith(" lost")
    assert not last.endswith(" 0 lost")


def test_stages_are_read_from_what_a_child_said():
    """Where a run is follows from its lines; after an epoch's last step comes the next epoch."""
    said = "stage: start 0 1 2\nhello\nstage: step 0 2 2\n"
    assert stage_of("") == Stage()
    assert stage_of(said) == Stage(True, (0, 2), (1, 0))
    assert stage_of(said + "stage: epoch 2 0 0\n") == Stage(True, (2, 0), (2, 0), True)
    assert stage_of(said + "stage: epoch 2 0 0\nstage: end 0 0 0\n").is_over
    assert without_stages(said) == "hello"


def test_a_long_run_in_short():
    """A few epochs through the bench of long runs: watched, killed, equal."""
    done = bench("soak", 8, seed=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 epochs, then again with kills: equal" in done.stdout
    assert "MiB of memory after a quarter of the epochs, and at most: " in done.stdout
    assert "not seen" not in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(("name", "n"), [("kills", 500), ("files", 300), ("disk", 100)])
def test_nothing_is_lost_in_hundreds(name: str, n: int):
    """The long form of the same."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", name, "--n", str(n)], cwd=ROOT, check=False
    )
    assert done.returncode == 0


def test_page_holds_the_counts():
    """The tables in docs/reliability.md are what the committed counts give, and none is lost."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.split(page.BEGIN)[1].split(page.END)[0].strip() == page.tables()
    counts, _ = page.read()
    assert {bench for bench, *_ in counts} == {"kills", "files", "disk", "soak"}
    assert not [row for row in counts if row[2] == BAD]
