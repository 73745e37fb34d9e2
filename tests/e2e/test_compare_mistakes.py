"""What `compare` refuses before anything is trained, and how it says so."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from .support import Command, make_images, program

FAST = ("epochs=6", "batch_size=128", "threads=1", "eval.every=3")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["methods=erm,opne"], "Did you mean 'open'"),
        (["methods=erm", "seeds=x"], "seeds=x"),
        (["methods=erm,rs", "baseline=er"], "Did you mean 'erm'"),
        (["methods=erm,rs", "seed=3"], "seeds="),
        (["method=erm"], "methods="),
        (["methods=erm", "jobs=999"], "cores"),
        (["methods=erm", "jobs=0"], "jobs=0"),
        (["methods=erm", "share=maybe"], "share=maybe"),
        (["methods=erm,open:delta=7"], "delta"),
        (["methods=erm,erm:delta=1/3"], "same run"),
        (["methods=open,mixup+open"], "Did you mean 'open+mixup'"),
        (["methods=drs,mixup,mixup:alpha=1"], "mixup and mixup:alpha=1 are the same run"),
        (["methods=rs,rs+drs"], "same run"),
        (["methods=erm", "epochz=3"], "epochs"),
        (["metods=erm,open"], "Did you mean 'methods'?"),
        (["methods=erm", "sedes=2"], "Did you mean 'seeds'?"),
        (["methods=erm", "seedz=2"], "Did you mean 'seeds'?"),
        (["methods=erm", "sed=2"], "Did you mean 'seeds'?"),
        (["methods=erm", "basline=erm"], "Did you mean 'baseline'?"),
        (["methods=erm", "exectuor=ray"], "Did you mean 'executor'?"),
        (["methods=tau-norm,deferred-tau-norm"], "same run"),
        (["methods=erm", "methods=rs"], "twice"),
        (["nonsense", "methods=erm"], "no recipe 'nonsense'"),
    ],
)
def test_mistakes_are_refused_before_anything_is_trained(
    words: list[str], said: str, command: Command, tmp_path: Path
) -> None:
    """Each is one message, and nothing is written."""
    assert said in command.refused("compare", *words)
    assert not list(tmp_path.iterdir())


def test_a_fault_of_all_methods_is_said_once(command: Command) -> None:
    """A wrong key of the recipe is one sentence; a fault of one method keeps its name."""
    said = command.refused("compare", "methods=erm,open,drs", "epochz=3")
    assert said.count("unknown key 'epochz'") == 1
    assert "erm" not in said
    said = command.refused("compare", "methods=erm,open:delta=7,drs")
    assert said.count("delta: must be at most 1") == 1
    assert "open:delta=7: " in said


def test_methods_that_do_not_fit_are_all_named(command: Command, tmp_path: Path) -> None:
    """A model that cannot be had is found before the first run, for every method at once."""
    make_images(tmp_path / "photos", {"a": 30, "b": 12})
    said = command.refused("compare", "data=photos", "methods=erm,ldam", "model=torchvision:vgg99")
    assert "erm: torchvision has no classifier" in said
    assert "ldam: torchvision has no classifier" in said
    assert not (tmp_path / "runs").exists()


def test_two_processes_do_not_train_one_run(tmp_path: Path, command: Command) -> None:
    """While one trains it, another is refused with a sentence; afterwards it is finished."""
    words = ["train", "digits", "epochs=300", f"out={tmp_path}"]
    process = subprocess.Popen([*program(), *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("events.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "is being trained by another process" in command.refused(*words)
    process.kill()
    process.wait()
    assert command(*words[:-1], f"out={tmp_path}", "epochs=300").code == 0


def test_two_processes_do_not_make_one_comparison(tmp_path: Path, command: Command) -> None:
    """While one makes it, the same line is refused; afterwards it reads the runs."""
    words = ["compare", "digits", "methods=erm,rs", "seeds=1", f"out={tmp_path}", *FAST]
    line = [word.replace("epochs=6", "epochs=60") for word in words]
    process = subprocess.Popen([*program(), *line], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("events.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "This comparison is being made by another process" in command.refused(*line)
    assert process.wait() == 0
    assert "rs against erm" in command(*line).out
    assert not list(tmp_path.rglob("comparisons/*/lock"))


@pytest.mark.parametrize("change", ["split_seed=1", "data.test_fraction=0.3"])
def test_methods_that_would_be_tested_on_other_images_are_refused(
    change: str, command: Command
) -> None:
    """A variant may train otherwise; what it is tested on must be the same."""
    assert "other test images" in command.refused("compare", f"methods=erm,rs:{change}")
