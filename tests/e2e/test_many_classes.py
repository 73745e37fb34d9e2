"""Sets with more classes than a result holds a whole confusion matrix of, from command to page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from purenoise.confusion import WHOLE

from .support import Command

MIB = 1 << 20


def made(path: Path, n_classes: int, largest: int) -> Path:
    """Write an .npz file of 8 x 8 grey images: a large class, and one image of each other."""
    r = np.random.default_rng(0)
    counts = np.ones(n_classes, int)
    counts[0] = largest
    arrays = {}
    for name, sizes in (("train", counts), ("test", np.ones(n_classes, int))):
        labels = np.repeat(np.arange(n_classes), sizes)
        arrays[f"{name}_labels"] = labels[:, None]
        arrays[f"{name}_images"] = r.integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("n_classes", "largest"),
    [(WHOLE + 30, 200), pytest.param(8142, 1000, marks=pytest.mark.long)],
)
def test_many_classes_with_one_image(
    n_classes: int, largest: int, tmp_path: Path, command: Command
) -> None:
    """Train, evaluate, adjust and report go through, and what is kept grows with the images."""
    data = made(tmp_path / "many.npz", n_classes, largest)
    done = command("train", f"data={data}", "method=open", "model=small_cnn", "epochs=2",
                     "threads=1", "batch_size=256")  # fmt: skip
    assert done.code == 0, done.err
    (run,) = tmp_path.glob("runs/*/open/seed-0")
    summary = json.loads((run / "summary.json").read_text())
    assert sum(summary["test"]["confusion"]["images"]) == n_classes
    assert (run / "summary.json").stat().st_size < 2 * MIB
    assert (run / "events.jsonl").stat().st_size < 3 * MIB
    assert (run / "state" / "state.pt").stat().st_size < 8 * MIB
    again = command("evaluate", str(run), "--json")
    assert json.loads(again.out)["test"] == summary["test"]
    assert command("adjust", run, "method=logit-adjustment").code == 0
    assert command("report", run, "out=page.html").code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "most frequent confusions" in page
    assert "reliability" in page.lower()  # its answers were read, so they fit the summary
