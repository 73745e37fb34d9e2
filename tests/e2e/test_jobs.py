"""``purenoise compare --print-jobs``: lines for a batch scheduler that add up to the comparison."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import purenoise as pn

from .support import Command, equal_weights

METHODS = "methods=balanced-softmax,erm,open:delta=1/2,drs"
WORDS = ("digits", METHODS, "epochs=4", "batch_size=128")


def labels(text: str) -> list[str]:
    """Return the runs that lines are for, and check that each is one command for a shell."""
    found = []
    for line in text.splitlines():
        words = shlex.split(line)
        assert words[0] == "cd"
        assert words[2:5] == ["&&", "purenoise", "compare"]
        found.append(next(w for w in words if w.startswith("only=")).removeprefix("only="))
    return found


def by_hand(line: str, command: Command) -> str:
    """Do what a shell does with a line, in this process; return what it printed."""
    words = shlex.split(line)
    command.monkeypatch.chdir(words[1])
    done = command(*words[4:])
    assert done.code == 0, done
    return done.out


def test_lines_done_by_hand_are_the_comparison(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All lines in order, then compare: nothing is left to train, phases were shared, same bits."""
    place = tmp_path / "a 'folder' & more"
    place.mkdir()
    monkeypatch.chdir(place)
    printed = command("compare", *WORDS, "seeds=1", "out=r u n s", "jobs=2", "--print-jobs")
    assert printed.code == 0
    order = ("balanced-softmax", "erm", "open:delta=1/2", "drs")
    assert labels(printed.out) == [f"{name} seed 0" for name in order]
    assert "Lines 3-4 go on from first phases" in printed.err
    assert "have them wait for lines 1-2" in printed.err
    assert not list(place.iterdir())
    told = [by_hand(line, command) for line in printed.out.splitlines()]
    assert "epochs are shared" not in told[1]
    assert "2 epochs are shared" in told[2]
    done = command("compare", *WORDS, "seeds=1", "out=r u n s")
    assert "4 runs, 4 of them there already" in done.out
    assert "left out" not in done.out
    pn.compare("digits", methods=METHODS.partition("=")[2], seeds=1, epochs=4, batch_size=128,
               out=tmp_path / "at once", jobs=1)  # fmt: skip
    runs = sorted(p.parent for p in (place / "r u n s").rglob("summary.json"))
    assert len(runs) == 4
    for run in runs:
        assert equal_weights(run, tmp_path / "at once" / run.relative_to(place / "r u n s"))


def test_a_shell_runs_a_line_in_any_folder(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line is handed to sh elsewhere; its run is then left out with a word."""
    monkeypatch.chdir(tmp_path)
    words = ["compare", "digits", "methods=erm,rs", "seeds=1", "epochs=2", "--print-jobs"]
    first = command(*words).out.splitlines()
    tool = tmp_path / "bin" / "purenoise"  # what `purenoise` is, whatever is on the PATH
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m purenoise "$@"\n')
    tool.chmod(0o755)
    path = f"{shlex.quote(str(tool.parent))}:$PATH"
    subprocess.run(["sh", "-c", f"PATH={path}; {first[1]}"], check=True, cwd="/",
                   capture_output=True, timeout=120)  # fmt: skip
    (summary,) = (tmp_path / "runs").rglob("summary.json")
    assert json.loads(summary.read_text())["method"] == "rs"
    second = command(*words)
    assert second.out.splitlines() == first[:1]
    assert "1 of 2 runs are finished and left out." in second.err


def test_without_sharing_any_order_will_do(tmp_path: Path, command: Command) -> None:
    """Nothing is said of waiting, and a line carries share=false on."""
    printed = command("compare", *WORDS, "seeds=0-1", "share=false", "--print-jobs")
    assert len(labels(printed.out)) == 8
    assert "any order will do" in printed.err
    assert all("share=false" in line for line in printed.out.splitlines())
    assert not list(tmp_path.iterdir())


def test_mistakes_are_refused(command: Command) -> None:
    """A run that is not of the comparison, and faults of recipes, print no line."""
    said = command.refused("compare", *WORDS, "only=drs sed 3")
    assert "only=drs sed 3 is no run of this comparison." in said
    assert "Did you mean 'drs seed 3'?" in said
    assert "Did you mean 'open'" in command.refused("compare", "methods=opne", "--print-jobs")
    assert "Did you mean 'executor'" in command.refused("compare", "methods=erm", "excutor=ray")
    said = command.refused("compare", "methods=erm", "model=torchvision:vgg99", "--print-jobs")
    assert "torchvision has no classifier" in said


def test_lines_of_one_wave_run_side_by_side(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lines that are started at once both train their runs, and the table is complete."""
    monkeypatch.chdir(tmp_path)
    words = ["compare", "digits", "methods=erm,rs", "seeds=1", "epochs=20", "threads=1"]
    lines = command(*words, "--print-jobs").out.splitlines()
    assert len(lines) == 2
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "purenoise", *shlex.split(line)[4:]],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for line in lines
    ]  # fmt: skip
    told = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert "2 runs, 2 of them there already" in command(*words).out
