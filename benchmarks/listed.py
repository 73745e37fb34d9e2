"""A list of 100,000 small images: how long until training begins, memory, images per second."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.folder import STATUS, _epoch, _peak
from benchmarks.rows import Rows
from purenoise.datasection import Data
from purenoise.prepare import prepare
from purenoise.runtime import available_cores

N = {"toy": 200, "small": 100_000, "full": 100_000}
ROUNDS = {"toy": 1, "small": 3, "full": 3}
CLASSES, SIDE, PIECE = 100, 32, 500


def make(root: Path, n: int) -> None:
    """Write ``n`` JPEGs of 32 x 32 pixels in folders of a class each, and the list of them."""
    if (root / "train.txt").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    for c in range(CLASSES):
        (root / "images" / f"class{c:03}").mkdir(parents=True)
    starts = range(0, n, PIECE)
    with ProcessPoolExecutor(available_cores()) as pool:
        parts = list(pool.map(_piece, [root] * len(starts), starts, [n] * len(starts)))
    (root / "train.txt").write_text("".join(parts), encoding="utf-8")


def _piece(root: Path, start: int, n: int) -> str:
    """Write some images and return their lines."""
    draw = np.random.default_rng(start)
    lines = []
    for i in range(start, min(start + PIECE, n)):
        path = f"images/class{i % CLASSES:03}/{i:06}.jpg"
        coarse = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.save(root / path, quality=88)
        lines.append(f"{path} {i % CLASSES}\n")
    return "".join(lines)


def measure(rows: Rows, work: Path) -> None:
    """Measure start, memory and speed, decoding later and ahead; each in a process of its own."""
    n = N[rows.size]
    root, cache = work / f"listed-{n}", work / "cache"
    make(root, n)
    for decode in ("later", "ahead", "ahead, again")[: 2 if rows.size == "toy" else 3]:
        found: dict[str, list[float]] = {}
        for _ in range(ROUNDS[rows.size]):
            if decode != "ahead, again":
                shutil.rmtree(cache, ignore_errors=True)
            command = [sys.executable, "-m", "benchmarks.listed", str(root), str(cache)]
            done = subprocess.run(
                [*command, decode.partition(",")[0]], capture_output=True, text=True, check=True
            )
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                found.setdefault(name, []).append(value)
        for name, values in found.items():
            unit = {"start": "s", "epoch": "img/s", "memory": "MiB"}[name.partition(":")[0]]
            rows.add("listed", f"{n:,} JPEGs of {SIDE} x {SIDE}, decoded {decode}", name, unit,
                     values)  # fmt: skip
    shutil.rmtree(cache, ignore_errors=True)


def _here(root: Path, cache: Path, decode: str) -> dict[str, float]:
    """Start on the list and read an epoch in random order, with nothing held in memory."""
    before, start = _peak() if STATUS.exists() else 0, time.perf_counter()
    section = {"name": "list", "train_list": str(root / "train.txt"), "decode": decode}
    data = prepare(Data.model_validate({**section, "cache": str(cache), "memory_mib": 0}))
    begun = time.perf_counter()
    _epoch(data)
    speed = len(data.dataset.train) / (time.perf_counter() - begun)
    found = {"start: until images can be asked for": begun - start, "epoch: images read": speed}
    if STATUS.exists():
        found["memory: peak above imports"] = (_peak() - before) / 1024
    return found


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps(_here(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
