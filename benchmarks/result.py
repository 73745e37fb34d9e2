"""Time to result: whole runs of recipes, which go on in the next call if the time is up."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.rows import Rows

Run = tuple[str, tuple[str, ...]]
RUNS: dict[str, list[Run]] = {
    "toy": [("digits", ("epochs=2",))],
    "small": [("digits", ())],
    "full": [
        ("digits", ()),
        ("cifar10-lt", ("eval.every=200",)),
        ("cifar10-lt-open", ("eval.every=200",)),
    ],
}


def measure(run: Run, rows: Rows, root: str, work: Path, deadline: float) -> bool:
    """Train one recipe to its end, or until the deadline; return whether it is finished.

    Args:
        run: Recipe and changes.
        rows: Where the result goes.
        root: Where CIFAR lies.
        work: Folder for runs that are not finished.
        deadline: Of ``time.monotonic()``.
    """
    recipe, changes = run
    if recipe.startswith("cifar"):
        if not (Path(root) / "cifar-10-batches-py").is_dir():
            print(f"  {recipe}: left out, CIFAR-10 is not in {root!r} (--data)")
            return True
        changes = (*changes, f"data.root={root}")
    out = work / f"{rows.where['commit']}-{rows.device.type}"
    command = [sys.executable, "-m", "purenoise", "train", recipe, "method=open", f"out={out}",
               f"device={rows.device.type}", f"threads={rows.threads}", *changes]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as p:
        try:
            _, errors = p.communicate(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGTERM)
            p.communicate()
            print(f"  {recipe}: not finished; the next call goes on with it")
            return False
    if p.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {errors.strip()}")
    (path,) = out.glob(f"{recipe}*/open/seed-0/summary.json")
    summary = json.loads(path.read_text(encoding="utf-8"))
    case = f"{recipe} method=open"
    seconds = summary["train_seconds"]
    images = summary["n_train"] * _epochs(path.with_name("metrics.csv"))
    rows.add("result", case, "training without evaluation", "s", [seconds])
    rows.add("result", case, "images", "img/s", [images / seconds])
    rows.add("result", case, "test accuracy, last epoch", "%", [100 * summary["test"]["accuracy"]])
    shutil.rmtree(path.parents[2])
    return True


def _epochs(metrics: Path) -> int:
    return len(metrics.read_text(encoding="utf-8").splitlines()) - 1
