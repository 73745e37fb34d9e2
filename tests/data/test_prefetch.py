"""Batches that are read ahead: order, content, bounds, errors, and nothing left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from purenoise.data.folder import load_folder
from purenoise.data.prefetch import read_ahead
from purenoise.data.types import MemoryImages, SelectedImages
from purenoise.errors import DataError

from .support import load, plain


class Counted:
    """Images whose pixels are their number, which tells how far it was read."""

    shape = (1, 1, 2)

    def __init__(self, n: int = 256, fails_at: int | None = None) -> None:
        self.n, self.fails_at, self.n_loads = n, fails_at, 0

    def __len__(self) -> int:
        return self.n

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the numbers, or fail."""
        self.n_loads += 1
        if self.fails_at in indices:
            raise DataError("no such image")
        return np.repeat(indices.astype(np.uint8), 2).reshape(-1, 1, 1, 2)


def readers() -> list[threading.Thread]:
    """Return the threads that read ahead."""
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


@settings(deadline=None, max_examples=40)
@given(
    batches=st.lists(st.lists(st.integers(0, 255), max_size=5), max_size=8),
    depth=st.integers(1, 9),
    in_memory=st.booleans(),
)
def test_order_and_content(batches: list[list[int]], depth: int, in_memory: bool) -> None:
    """Every batch comes back in its place, empty ones too, for any depth."""
    source = Counted()
    images = MemoryImages(source.load(np.arange(256))) if in_memory else source
    arrays = [np.array(batch, np.int64) for batch in batches]
    found = list(read_ahead(images, arrays, depth=depth))
    assert [batch[:, 0, 0, 0].tolist() for batch in found] == batches
    for batch in found:
        assert batch.dtype == torch.uint8
        assert batch.shape[1:] == (1, 1, 2)
    assert not readers()


def test_no_more_than_depth_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one batch is in use, at most ``depth`` more are read, whatever time passes."""
    for depth in (1, 3):
        images = Counted()
        batches = read_ahead(images, [np.arange(4)] * 20, depth=depth)
        for n in range(1, 6):
            next(batches)
            deadline = time.monotonic() + 5
            while images.n_loads < n + depth and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.02)
            assert images.n_loads == n + depth
        batches.close()  # type: ignore[attr-defined]


def test_leaving_early_ends_the_thread() -> None:
    """After a break, an exception, closing or forgetting the iterator no thread is left."""
    arrays = [np.arange(4)] * 50
    for _ in read_ahead(Counted(), arrays):
        break
    gc.collect()
    assert not readers()

    def fail() -> None:
        for batch in read_ahead(Counted(), arrays, depth=1):
            raise ZeroDivisionError(batch)

    with pytest.raises(ZeroDivisionError):
        fail()
    gc.collect()
    assert not readers()
    iterator = read_ahead(Counted(), arrays)
    next(iterator)
    assert readers()
    iterator.close()  # type: ignore[attr-defined]
    assert not readers()
    read_ahead(Counted(), arrays)  # never begun
    assert not readers()


@pytest.mark.parametrize("at", [0, 2, 5])
def test_error_comes_in_its_place(at: int) -> None:
    """Batches before the one that cannot be read are yielded, then its error is raised."""
    batches = read_ahead(Counted(fails_at=at), [np.array([i]) for i in range(6)], depth=9)
    for i in range(at):
        assert next(batches).flatten().tolist() == [i, i]
    with pytest.raises(DataError, match="no such image"):
        next(batches)
    assert not readers()


def test_memory_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images in memory are read when asked for."""
    images = MemoryImages(np.zeros((9, 1, 2, 2), np.uint8))
    iterator = read_ahead(images, [np.arange(3)] * 3)
    next(iterator)
    assert not readers()


def test_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinning is done in the reader's thread, for images in memory, too."""
    seen = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(threading.current_thread().name)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    list(read_ahead(Counted(), [np.arange(2)] * 2, pin=True))
    list(read_ahead(MemoryImages(np.zeros((9, 1, 2, 2), np.uint8)), [np.arange(2)], pin=True))
    assert seen == ["read-ahead"] * 3


def test_depth_is_checked() -> None:
    """A depth that reads nothing is refused at once."""
    with pytest.raises(ValueError, match="depth is 0"):
        read_ahead(Counted(), [], depth=0)


def test_number_of_threads_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded by one thread or many, from files or kept rows, batches are the same."""
    monkeypatch.setattr("purenoise.data.decode.SMALL_FILE", 0)
    root = plain(tmp_path / "images", 12)
    batches = np.array_split(np.random.default_rng(0).integers(0, 18, 60), 7)
    found = []
    for n in (1, 8):
        monkeypatch.setattr("purenoise.data.decode.available_cores", lambda n=n: n)
        for data in (load(root, None), load(root, tmp_path / "kept")):
            images = SelectedImages(data.train.images, np.arange(len(data.train))[::-1].copy())
            found.append(torch.cat(list(read_ahead(images, batches))))
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_broken_file_surfaces(tmp_path: Path) -> None:
    """A file that vanishes while it is streamed is named by the loop that needed it."""
    root = plain(tmp_path / "images")
    data = load_folder(root, image_size=8, memory_limit=0)
    (root / data.train.names[3]).unlink()
    with pytest.raises(DataError, match=data.train.names[3]):
        list(read_ahead(data.train.images, [np.array([i]) for i in range(6)]))


MEASURE = """
import resource, sys, threading
from pathlib import Path
import numpy as np
import purenoise.data.prefetch as prefetch
from tests.data.support import load
root, place = Path(sys.argv[1]), sys.argv[2]
data = load(root, Path(place) if place else None, side=256)
images, n = data.train.images, len(data.train)
row = int(np.prod(images.shape))
order = np.random.default_rng(0).permutation(n)
images.load(order[:8])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for batch in prefetch.read_ahead(images, [order[:8]] * 4, depth=2): pass
before = peak()
for _ in range(3):
    for batch in prefetch.read_ahead(images, np.array_split(order, n // 8), depth=2): pass
print((peak() - before) / row, n)
"""


@pytest.mark.parametrize("kept", [True, False])
def test_memory_is_bounded(tmp_path: Path, kept: bool) -> None:
    """Streaming hundreds of images, again and again, takes the memory of a few batches."""
    root = plain(tmp_path / "images", 150)
    here = Path(__file__).parent.parent.parent
    words = [sys.executable, "-c", MEASURE, root, tmp_path / "kept" if kept else ""]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=True, timeout=100)
    grown, n = map(float, done.stdout.split())
    assert n == 240
    assert grown < 60  # images: (2 + 1) batches of 8, some being freed, and what threads need
