"""Batches of images that are read ahead, so that whoever trains on them does not wait.

Differs from ``torch.utils.data.DataLoader`` with workers: one thread reads ahead and hands each
batch to all cores, so no process is started, nothing is pickled, what a batch holds does not depend
on the number of threads, and memory is bounded by a number of batches.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from purenoise.data.types import Images, MemoryImages
from purenoise.errors import DataError

PATIENCE = 1.0  # seconds after which it is asked whether the reader is still there


def read_ahead(
    images: Images, batches: Sequence[NDArray[np.int64]], *, depth: int = 4, pin: bool = False
) -> Iterator[Tensor]:
    """Yield batches of images in order, read ahead in a thread.

    At most ``depth`` batches exist beside the one that was yielded last, the one that is being read
    included; while files are decoded, one whole image per core comes on top. Images in memory are
    read when they are asked for, without a thread, unless they are to be pinned. Closing the
    iterator, leaving the loop early or an exception in it ends the thread.

    Args:
        images: Where they come from.
        batches: Indices of the images of each batch, int64 of shape (B,) each.
        depth: Batches that are read ahead, at least 1.
        pin: Whether to put them into pinned memory, from which they can be copied to a CUDA device
            while it computes.

    Yields:
        uint8, shape (B, C, H, W).

    Raises:
        ValueError: ``depth`` is below 1.
        DataError: A file cannot be read; raised where its batch would have been.

    Example:
        >>> images = MemoryImages(np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1))
        >>> [batch.flatten().tolist() for batch in read_ahead(images, [np.array([3, 1])])]
        [[3, 1]]
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}, and at least 1 batch has to be read.")
    if isinstance(images, MemoryImages) and not pin:
        return (_as_tensor(images, batch, pin) for batch in batches)
    return _read_in_thread(images, batches, depth, pin)


def _as_tensor(images: Images, batch: NDArray[np.int64], pin: bool) -> Tensor:
    """Load one batch."""
    tensor = torch.from_numpy(images.load(batch))  # (B, C, H, W)
    return tensor.pin_memory() if pin else tensor


def _read_in_thread(
    images: Images, batches: Sequence[NDArray[np.int64]], depth: int, pin: bool
) -> Iterator[Tensor]:
    """Yield the batches that a thread reads; the thread ends when this does."""
    ready: queue.SimpleQueue[Tensor | BaseException] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    stop = threading.Event()

    def read() -> None:
        try:
            for batch in batches:
                room.acquire()
                if stop.is_set():
                    return
                ready.put(_as_tensor(images, batch, pin))
        except BaseException as error:
            ready.put(error)

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    try:
        for _ in range(len(batches)):
            found = _next(ready, reader)
            if isinstance(found, BaseException):
                raise found
            room.release()
            yield found
            del found
    finally:
        stop.set()
        room.release()
        reader.join()


def _next(
    ready: queue.SimpleQueue[Tensor | BaseException], reader: threading.Thread
) -> Tensor | BaseException:
    """Return what was read next; a reader that is gone (after a fork, say) is not waited for."""
    while True:
        is_alive = reader.is_alive()  # asked first: what it left behind is still taken
        try:
            return ready.get(timeout=PATIENCE if is_alive else 0)
        except queue.Empty:
            if not is_alive:
                raise DataError(
                    "The thread that reads images ahead has ended before its last batch.",
                    "Run the same line again; it goes on from the last state.",
                ) from None
