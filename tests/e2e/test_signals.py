"""Signals outside the loop: one sentence, the line to go on, exit code 130, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from purenoise.errors import RunError
from purenoise.terminal.stopping import going_on, loading, signals_interrupt

from .support import Command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

# Ends itself by the named signal while a library is loaded.
LOADING = """
import os, signal, sys
number = getattr(signal, sys.argv.pop())
signal.signal(number, signal.SIG_DFL)  # coverage has handlers of its own
class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == "torch":
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder)
from purenoise.cli import main
main()
"""


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """Give every test the handlers that a process begins with."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raising(number: int) -> Any:
    """Return a function that is hit by a signal."""
    return lambda *_, **__: signal.raise_signal(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_while_data_are_loaded(
    number: signal.Signals, command: Command, monkeypatch: pytest.MonkeyPatch
):
    """`train` and `compare` say the line that goes on; other commands only that they stopped."""
    before = [signal.getsignal(n) for n in SIGNALS]
    monkeypatch.setattr("purenoise.experiment.prepare", raising(number))
    done = command("train", "epochs=2", "out=my runs")
    assert (done.code, done.err) == (
        130, "purenoise: Stopped.\nTo go on: purenoise train epochs=2 'out=my runs'\n"
    )  # fmt: skip
    monkeypatch.setattr("purenoise.terminal.comparing.plan_comparison", raising(number))
    done = command("compare", "methods=erm,open")
    assert (done.code, done.err) == (
        130, "purenoise: Stopped.\nTo go on: purenoise compare methods=erm,open\n"
    )  # fmt: skip
    monkeypatch.setattr("purenoise.doctor.examine", raising(number))
    done = command("doctor")
    assert (done.code, done.out, done.err) == (130, "", "purenoise: Stopped.\n")
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("verb", ["train", "compare"])
def test_in_a_process_of_its_own(verb: str, name: str, tmp_path: Path):
    """A process that is told to end while it loads says so and exits with 130."""
    done = subprocess.run([sys.executable, "-c", LOADING, verb, name], cwd=tmp_path, text=True,
                          capture_output=True, timeout=60, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"purenoise: Stopped.\nTo go on: purenoise {verb}\n"


def test_libraries_are_loaded_first():
    """While they are, a signal waits, as inside C++ it could abort; a second one does not."""
    came = []

    def load(times: int) -> None:
        with signals_interrupt(), going_on("purenoise train"), loading():
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
                came.append(times)

    for times in (1, 2):
        with pytest.raises(RunError, match="Stopped") as caught:
            load(times)
        assert caught.value.hint == "To go on: purenoise train"
    assert came == [1, 2]  # the second of two ended it
    with signals_interrupt(), going_on(), loading():  # nothing is left of it
        pass


def test_what_a_library_makes_of_it_is_no_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch
):
    """A library that turns the interruption into an error of its own is not believed."""

    def turn(*_: Any) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise ImportError("half imported") from error

    monkeypatch.setattr("purenoise.doctor.examine", turn)
    done = command("doctor")
    assert (done.code, done.err) == (130, "purenoise: Stopped.\n")
    monkeypatch.setattr("purenoise.experiment.prepare", turn)
    done = command("train")
    assert (done.code, done.err) == (130, "purenoise: Stopped.\nTo go on: purenoise train\n")


def test_an_error_without_a_signal_stays(command: Command, monkeypatch: pytest.MonkeyPatch):
    """A fault of ours is not hidden behind that sentence."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("purenoise.doctor.examine", fail)
    with pytest.raises(ZeroDivisionError):
        command("doctor")


def test_what_is_ignored_stays_ignored():
    """Below ``nohup`` a hangup changes nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_interrupt():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_several_processes_keep_the_systems_way(monkeypatch: pytest.MonkeyPatch):
    """A process of ``torchrun`` ends at once by SIGTERM, also while torch waits for another."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with signals_interrupt():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_forked_child_ends_as_any_process(tmp_path: Path):
    """SIGTERM ends a child that was forked inside a command, without a traceback."""
    script = (
        "import os, signal, sys\n"
        "from purenoise.terminal.stopping import signals_interrupt\n"
        "with signals_interrupt():\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "        os._exit(7)\n"
        "    print(os.WTERMSIG(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60, check=True, env=os.environ)  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{int(signal.SIGTERM)}\n", "")
