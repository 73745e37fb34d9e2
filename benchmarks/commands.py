"""How long a person waits: for ``--help``, and from ``purenoise train`` to its table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rows import Rows

ROUNDS = {"toy": 1, "small": 7, "full": 7}


def run_command(*words: str, module: str = "purenoise") -> tuple[float, str]:
    """Run a command in a new process; return its seconds and what it printed."""
    start = time.perf_counter()
    command = [sys.executable, *(["-m", module] if module else []), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def measure(rows: Rows) -> None:
    """Measure the command line; rows say where the time of a training run on digits goes."""
    rounds = ROUNDS[rows.size]
    rows.add(
        "commands",
        "purenoise --help",
        "wall time",
        "s",
        [run_command("--help")[0] for _ in range(rounds)],
    )
    nothing = [run_command("-c", "pass", module="")[0] for _ in range(rounds)]
    rows.add("commands", "python -c pass", "wall time", "s", nothing)
    loaded = [run_command("-c", "import torch, torchvision", module="")[0] for _ in range(rounds)]
    rows.add("commands", "import torch, torchvision", "wall time", "s", loaded)
    walls, trained, inside = [], [], []
    changes = ["epochs=2"] if rows.size == "toy" else []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as out:
            walls.append(run_command("train", f"out={out}", *changes)[0])
            (path,) = Path(out).glob("**/summary.json")
            summary = json.loads(path.read_text(encoding="utf-8"))
            trained.append(summary["train_seconds"])
            inside.append(summary["seconds"])
    case = "purenoise train (digits)"
    rows.add("commands", case, "wall time", "s", walls)
    rows.add("commands", case, "steps of all epochs", "s", trained)
    rest = [a - b for a, b in zip(inside, trained, strict=True)]
    rows.add("commands", case, "data, evaluation, files", "s", rest)
    rows.add("commands", case, "start and imports", "s",
             [a - b for a, b in zip(walls, inside, strict=True)])  # fmt: skip
