"""Output that goes away: a full disk, a reader that has left, a closed terminal, no output."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import purenoise as pn
from purenoise.checkpoint import load_state
from purenoise.experiment import run_recipe
from purenoise.recipe import load_recipe
from purenoise.terminal.outlet import Outlet

from .support import Command, in_own_process, only_run, program

LINES = ("epochs=2", "batch_size=128", "threads=1", "save_seconds=1000")
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(
    not FULL.exists(), reason="this platform has no device that is full"
)

# Trains; at the first step of the second epoch the output becomes a full disk.
FILLS = """
import os, sys
from purenoise.terminal.progress import Display
step = Display._on_step
def fill(display, event):
    if event["epoch"] == 1 and event["step"] == 0:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        display._print("a line")
    step(display, event)
Display._on_step = fill
from purenoise.cli import main
main()
"""


def finished(place: Path) -> bool:
    """Whether the one run below a folder is finished, with its page."""
    folder = only_run(place)
    return (folder / "summary.json").exists() and (folder / "report.html").exists()


@needs_full
def test_output_that_fills_up_ends_no_run(tmp_path: Path):
    """A run whose output becomes a full disk says so once and ends as it would have."""
    done = subprocess.run(
        [sys.executable, "-c", FILLS, "train", *LINES], cwd=tmp_path, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "The output cannot be written (No space left on device)" in done.stderr
    assert finished(tmp_path)


def test_reader_that_leaves_ends_no_run(tmp_path: Path):
    """Of ``purenoise train | head -1``, the run goes on to its end."""
    with subprocess.Popen(
        [*program(), "train", *LINES], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("digits: ")
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=120) == 0
    assert said.count("\n") == said.count("(Broken pipe); the work goes on") == 1
    assert finished(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_closed_terminal_ends_no_run(tmp_path: Path):
    """A terminal that is gone, with the bar on it, leaves the run going to its end."""
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*program(), "train", *LINES], cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        while b"subset" not in said:
            said += os.read(ours, 1000)
        os.close(ours)
        assert process.wait(timeout=120) == 0
    assert finished(tmp_path)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_outputs_end_no_run(tmp_path: Path):
    """Without standard output and error from the start, a run trains."""
    line = '"$0" -m purenoise train "$@" >&- 2>&-'
    done = subprocess.run(["sh", "-c", line, sys.executable, *LINES], cwd=tmp_path, timeout=120,
                          check=False)  # fmt: skip
    assert done.returncode == 0
    assert finished(tmp_path)


@needs_full
@pytest.mark.parametrize("words", [("--help",), ("recipes", "show", "digits")])
def test_what_only_prints_says_that_it_cannot(words: tuple[str, ...], tmp_path: Path):
    """A command whose result is what it prints ends with one sentence and exit code 2."""
    with FULL.open("w") as full:
        done = subprocess.run([*program(), *words], cwd=tmp_path, stdout=full, text=True,
                              stderr=subprocess.PIPE, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(
        "purenoise: The output cannot be written: No space left on device.\n"
    )
    assert done.stderr.count("\n") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep a folder that is used")
def test_a_working_folder_that_is_gone_is_named(tmp_path: Path):
    """In a folder that was removed, a command says so and exits with 2."""
    gone = tmp_path / "gone"
    gone.mkdir()
    line = 'rmdir "$PWD"; exec "$0" -m purenoise train'
    done = subprocess.run(["sh", "-c", line, sys.executable], cwd=gone, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("purenoise: The working folder cannot be found: No such file")


def test_other_refusals_of_the_system_are_a_sentence(
    command: Command, monkeypatch: pytest.MonkeyPatch
):
    """An error of the system that nobody foresaw names its file, without a traceback."""

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr("purenoise.doctor.examine", refuse)
    said = command.refused("doctor")
    assert said == "purenoise: The system refused something: somewhere: Permission denied.\n"


@pytest.mark.parametrize("event", ["step", "epoch"])
def test_a_listener_that_fails_loses_no_state(event: str, tmp_path: Path):
    """Whatever a listener raises, the state holds all that was trained, and goes on the same."""
    changes = [*LINES, f"out={tmp_path / 'one'}"]
    recipe = load_recipe("digits", changes)

    def fail(name: str, content: dict[str, Any]) -> None:
        if name == event and content["epoch"] == 1 and content.get("step", 1) == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_recipe(recipe, recipe, listeners=[fail])
    state, *_ = load_state(only_run(tmp_path) / "state")
    assert (state.epoch, state.step) == {"step": (1, 2), "epoch": (2, 0)}[event]
    again = run_recipe(recipe, recipe)
    whole = pn.train("digits", epochs=2, batch_size=128, threads=1, out=str(tmp_path / "two"))
    assert again.metrics == whole.metrics


class Failing(io.StringIO):
    """A stream that takes two texts."""

    def write(self, text: str) -> int:
        """Write, or fail."""
        if self.getvalue().count("\n") == 2:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_an_outlet_drops_what_comes_after_a_fault():
    """What was written before the fault is there, the rest is dropped, the notice is said once."""
    stream, notice = Failing(), io.StringIO()
    outlet = Outlet(stream, notice)
    for i in range(5):
        assert outlet.write(f"{i}\n") == 2
        outlet.flush()
    assert stream.getvalue() == "0\n1\n"
    assert notice.getvalue().count("(No space left on device)") == 1
    closed = io.StringIO()
    closed.close()
    with contextlib.closing(io.StringIO()) as said:
        Outlet(closed, said).write("x")
        assert "closed file" in said.getvalue()


def test_an_error_that_cannot_be_said_keeps_its_exit_code(tmp_path: Path):
    """A mistake with standard error closed still exits with 2."""
    done = in_own_process("train", "nothing-such", cwd=tmp_path)
    assert done.returncode == 2
    line = '"$0" -m purenoise train nothing-such 2>&-'
    done = subprocess.run(["sh", "-c", line, sys.executable], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
