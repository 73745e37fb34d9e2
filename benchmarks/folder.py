"""A folder of photographs: decoded once into a cache, against ImageFolder with a DataLoader."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.rows import Rows
from purenoise.data.prefetch import read_ahead
from purenoise.datasection import Data
from purenoise.prepare import Prepared, prepare
from purenoise.runtime import available_cores

N = {"toy": 40, "small": 10_000, "full": 10_000}
ROUNDS = {"toy": 1, "small": 7, "full": 7}
BATCH = 128
SIDES = (64, 224)
CLASSES = 10
STATUS = Path("/proc/self/status")  # Linux
AHEAD = 6 * BATCH * 3 / 2**20  # MiB per pixel: 4 batches ahead, the one in use, the one being built


def make(root: Path, n: int) -> None:
    """Write ``n`` JPEGs of about 500 x 375 pixels and 35 kB, and ten to test, in class folders."""
    if (root / "whole").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    jobs = [(root / "train", i) for i in range(n)] + [(root / "test", i) for i in range(CLASSES)]
    for part in ("train", "test"):
        for c in range(CLASSES):
            (root / part / f"class{c}").mkdir(parents=True)
    with ProcessPoolExecutor(available_cores()) as pool:
        list(pool.map(_photograph, *zip(*jobs, strict=True), chunksize=64))
    (root / "whole").touch()


def _photograph(top: Path, i: int) -> None:
    """Write one image with structure at all scales, as photographs have."""
    draw = np.random.default_rng([i, top.name == "test"])
    width, height = (int(v + draw.integers(-40, 41)) for v in (500, 375))
    image = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 70), (12, 35), (40, 18), (130, 10)):
        small = draw.normal(0, strength, (cells * 3 // 4, cells, 3))
        channels = [Image.fromarray(small[..., c].astype(np.float32)) for c in range(3)]
        resized = [c.resize((width, height), Image.Resampling.BICUBIC) for c in channels]
        image += np.stack([np.asarray(c) for c in resized], -1)
    pixels = np.clip(image + 128, 0, 255).astype(np.uint8)
    path = top / f"class{i % CLASSES}" / f"{i:06}.jpg"
    Image.fromarray(pixels).save(path, quality=88)


def measure(rows: Rows, work: Path) -> None:
    """Measure first epoch, second epoch and a later run, for each size of the decoded images."""
    root, cache, n = work / f"photographs-{N[rows.size]}", work / "cache", N[rows.size]
    make(root, n)
    files = list((root / "train").glob("*/*.jpg"))
    size = sum(file.stat().st_size for file in files) / len(files) / 1024
    rows.add("folder", "the files", "mean size", "KiB", [size])
    for side in SIDES:
        case = f"{n:,} JPEGs to {side} x {side}"
        found: dict[str, list[float]] = {}
        for turn in range(ROUNDS[rows.size]):
            for name, seconds in _round(root, cache, side, rows.threads, theirs_first=turn % 2):
                found.setdefault(name, []).append(seconds)
        for name, seconds in found.items():
            rows.add("folder", case, name, "s", seconds)
        theirs = found["ImageFolder + DataLoader: an epoch"]
        pairs = zip(found["ours: start and first epoch"], theirs, strict=True)
        rows.add(
            "folder", case, "ours: start and first epoch / theirs", "", [a / b for a, b in pairs]
        )
        for name in ("ours: second epoch, held in memory", "ours: second epoch, streamed",
                     "ours: start and first epoch of a later run"):  # fmt: skip
            pairs = zip(theirs, found[name], strict=True)
            rows.add("folder", case, f"theirs / {name}", "", [a / b for a, b in pairs])
        for kind in ("streaming", "decoding and streaming") if STATUS.exists() else ():
            rows.add("folder", case, f"{kind}: memory above imports", "MiB",
                     [_memory(root, cache, side)])  # fmt: skip
            shutil.rmtree(cache, ignore_errors=True)
        rows.add("folder", case, "streaming: bound of the batches", "MiB", [AHEAD * side**2])


def _round(
    root: Path, cache: Path, side: int, threads: int, *, theirs_first: int
) -> list[tuple[str, float]]:
    """Do everything once, from an empty cache on."""
    shutil.rmtree(cache, ignore_errors=True)
    held: list[Prepared] = []
    streamed: list[Prepared] = []
    theirs = ("ImageFolder + DataLoader: an epoch", partial(_theirs, root, side, threads))
    ours = [
        ("ours: start and first epoch", partial(_start, root, cache, side, held, 8192)),
        ("ours: second epoch, held in memory", lambda: _epoch(held[0])),
        ("ours: start and first epoch of a later run",
         partial(_start, root, cache, side, streamed, 0)),
        ("ours: second epoch, streamed", lambda: _epoch(streamed[0])),
    ]  # fmt: skip
    cases = [theirs, *ours] if theirs_first else [*ours, theirs]
    return [(name, _timed(work)) for name, work in cases]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _theirs(root: Path, side: int, workers: int) -> None:
    """Read an epoch as the field does, one worker per core."""
    bicubic = transforms.InterpolationMode.BICUBIC
    chain = transforms.Compose(
        [transforms.Resize(side, bicubic), transforms.CenterCrop(side), transforms.PILToTensor()]
    )
    loader = torch.utils.data.DataLoader(
        ImageFolder(str(root / "train"), chain), BATCH, shuffle=True, num_workers=workers
    )
    for images, _ in loader:
        assert images.shape[1:] == (3, side, side)


def _start(root: Path, cache: Path, side: int, keep: list[Prepared], memory: int = 1024) -> None:
    """Look at the folder, decode what the cache does not have, and read an epoch."""
    section = Data(
        name="folder", root=str(root), image_size=side, cache=str(cache), memory_mib=memory
    )
    keep.append(prepare(section))
    _epoch(keep[-1])


def _epoch(data: Prepared) -> None:
    """Read an epoch in random order."""
    images = data.dataset.train.images
    order = np.random.default_rng(0).permutation(len(images)).astype(np.int64)
    batches = np.split(order, range(BATCH, len(order), BATCH))
    for pixels in read_ahead(images, batches):
        assert pixels.shape[1:] == data.dataset.image_shape


def _memory(root: Path, cache: Path, side: int) -> float:
    """Return how much memory a process takes that streams an epoch, in MiB."""
    command = [sys.executable, "-m", "benchmarks.folder", str(root), str(cache), str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _stream_here(root: Path, cache: Path, side: int) -> float:
    """Stream with nothing held in memory; peak resident memory above what imports take, in MiB."""
    before = _peak()
    _start(root, cache, side, [], memory=0)
    return (_peak() - before) / 1024


def _peak() -> int:
    """Peak resident memory of this program in KiB.

    Not ``getrusage``: that starts from the peak of the process that started this one.
    """
    status = STATUS.read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps(_stream_here(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
