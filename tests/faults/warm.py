"""A warm parent that forks children, so that torch is imported once for hundreds of runs.

The parent computes nothing: a process with threads of torch's own could not be forked safely. The
run is the digits' own recipe, three epochs, a state after every step, so that most of its time goes
into what the bench is about.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets  # noqa: F401 - imported here, once for all children
import torch._dynamo
import torch.utils.tensorboard  # noqa: F401

from purenoise.errors import PureNoiseError
from purenoise.experiment import run_recipe
from purenoise.predictions import read_predictions
from purenoise.prepare import prepare
from purenoise.recipe import load_recipe, plain_recipe
from purenoise.runlog import read_events

from . import stages

WORDS = ("epochs=3", "batch_size=256", "threads=1", "save_seconds=0", "eval.every=1")
METHOD = "open"  # of the recipe
NEVER = 1000.0  # seconds between states: none is kept but at the end, and on a signal
COMMAND = "purenoise train digits"
PATIENCE = 120.0  # seconds after which a child counts as hanging
HANGS = 99
OF_TIME = ("seconds", "train_seconds", "time", "sha256", "commit")  # a commit may come between
DATA = prepare(load_recipe("digits", list(WORDS)).data)


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit code (negative: a signal), what it said, seconds since a moment."""

    code: int
    said: str
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was shown that only a programmer understands."""
        return "Traceback" not in self.said


def train(folder: Path, method: str = METHOD, save_seconds: float = 0.0) -> None:
    """Train the bench's run in a folder, from wherever it is, and tell how far it is."""
    words = [*WORDS, f"method={method}", f"save_seconds={save_seconds:g}"]
    base = plain_recipe("digits", [])
    run_recipe(load_recipe("digits", words), base, listeners=[stages.tell], folder=folder,
               command=COMMAND, data=DATA)  # fmt: skip


def start(work: Callable[[], Any], said: Path) -> int:
    """Fork a child that works; what it says goes to a file. Return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    said.unlink(missing_ok=True)  # what an earlier child said is not this one's
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the bench may run below nohup
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, 1)
        os.dup2(file, 2)
        work()
        code = 0
    except PureNoiseError as error:
        print(error, file=sys.stderr)
        code = 130 if error.message.startswith("Stopped;") else 2
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, said: Path, since: float | None = None) -> Ended:
    """Wait until a child ends; one that hangs is killed and says so by its code."""
    since = time.monotonic() if since is None else since
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - since
        if done:
            text = said.read_text(errors="replace") if said.exists() else ""
            return Ended(os.waitstatus_to_exitcode(status), text, seconds)
        if seconds > PATIENCE:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Ended(HANGS, "hangs", seconds)
        time.sleep(0.002)


def do(work: Callable[[], Any], said: Path) -> Ended:
    """Let a child work to its end."""
    return wait(start(work, said), said)


def differences(folder: Path, whole: Path) -> list[str]:
    """Return what differs between two finished runs, apart from times; empty: equal bit for bit."""
    found = []
    if (folder / "weights.safetensors").read_bytes() != (
        whole / "weights.safetensors"
    ).read_bytes():
        found.append("weights")
    ours, theirs = (read_predictions(f / "predictions.npz") for f in (folder, whole))
    if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
        found.append("predictions")
    for name, read in (("summary", _summary), ("events", _events), ("metrics", _metrics)):
        if read(folder) != read(whole):
            found.append(name)
    return found + [f"{path.name} is left" for path in folder.rglob("*.part")]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in OF_TIME}
    return [_without_times(v) for v in value] if isinstance(value, list) else value


def _summary(folder: Path) -> Any:
    return _without_times(json.loads((folder / "summary.json").read_text()))


def _events(folder: Path) -> Any:
    """Events without their order: what was lost is written again at the end."""
    found = [e for e in read_events(folder / "events.jsonl") if e["event"] in ("epoch", "end")]
    return sorted(json.dumps(_without_times(event), sort_keys=True) for event in found)


def _metrics(folder: Path) -> Any:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return _without_times(list(csv.DictReader(file)))
