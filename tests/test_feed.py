"""Feeding the steps of an epoch: order, content, what lies on the device, and what is refused."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from purenoise.data.types import MemoryImages, Split
from purenoise.errors import RecipeError
from purenoise.feed import Feed
from purenoise.plan import plan_epoch

from .test_plan import LABELS, phase

META = torch.device("meta")  # another device than the CPU, on which nothing can be read back


def on_cpu(split: Split) -> Feed:
    """Return a feed for the CPU."""
    return Feed(split, torch.device("cpu"))


def test_plan_of_the_rest_is_the_rest_of_the_plan():
    """Streaming from the middle of an epoch yields what the whole epoch yields from there."""
    split = Split(MemoryImages(np.arange(555, dtype=np.uint8).reshape(-1, 1, 1, 1)), LABELS)
    plans = plan_epoch(phase("open"), 9, 64, 0)
    whole = list(on_cpu(split).epoch(plans))
    rest = list(on_cpu(split).epoch(plans[5:]))
    assert len(rest) == 4
    for (_, a, y), (_, b, z) in zip(whole[5:], rest, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(y, z)


@dataclass(frozen=True)
class SlowImages:
    """Images that are not in memory and take uneven time to read."""

    array: NDArray[np.uint8]
    readers: set[str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (1, 2, 2)

    def __len__(self) -> int:
        return len(self.array)

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read after a wait that depends on the batch."""
        self.readers.add(threading.current_thread().name)
        time.sleep(0.005 * (int(indices[0]) % 3))
        return self.array[indices]


def test_streamed_batches_are_those_in_memory():
    """Files read ahead in a thread give the same batches in the same order as memory."""
    array = np.random.default_rng(0).integers(0, 256, (555, 1, 2, 2)).astype(np.uint8)
    readers: set[str] = set()
    plans = plan_epoch(phase("open"), 9, 64, 0)
    memory = on_cpu(Split(MemoryImages(array), LABELS)).epoch(plans)
    files = on_cpu(Split(SlowImages(array, readers), LABELS)).epoch(plans)
    for (plan, a, labels), (other, b, _) in zip(memory, files, strict=True):
        assert plan is other
        assert np.array_equal(labels, plan.labels)
        assert torch.equal(a, b)
    assert threading.current_thread().name not in readers


def test_feed_left_early_ends_its_thread():
    """Leaving the loop in the middle leaves no thread behind."""
    array = np.zeros((555, 1, 2, 2), np.uint8)
    plans = plan_epoch(phase("erm"), 0, 64, 0)
    before = threading.active_count()
    batches = on_cpu(Split(SlowImages(array, set()), LABELS)).epoch(plans)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_resident_images_are_indexed_on_their_device():
    """A set that fits lies on the device as uint8; a step reads images and labels there."""
    split = Split(MemoryImages(np.zeros((555, 1, 2, 2), np.uint8)), LABELS)
    feed = Feed(split, META)
    assert feed.resident
    for plan, images, labels in feed.epoch(plan_epoch(phase("open"), 9, 64, 0)):
        assert (images.device, images.dtype) == (META, torch.uint8)
        assert images.shape == (len(plan.natural), 1, 2, 2)
        assert (labels.device, labels.shape) == (META, (len(plan.labels),))


def test_images_of_files_cannot_be_resident():
    """Images read from files: a wish gets a word, an order a sentence, auto neither."""
    split = Split(SlowImages(np.zeros((555, 1, 2, 2), np.uint8), set()), LABELS)
    assert Feed(split, META).warning is None
    assert "read from files" in str(Feed(split, META, True).warning)
    assert not Feed(split, META, True).resident
    with pytest.raises(RecipeError, match="force: the images are read from files"):
        Feed(split, META, "force")


def test_an_epoch_without_steps_yields_nothing():
    """A run that was stopped after the last step of an epoch has nothing left of it."""
    split = Split(MemoryImages(np.zeros((555, 1, 2, 2), np.uint8)), LABELS)
    assert list(on_cpu(split).epoch([])) == []


def test_patches_come_after_the_rows_of_their_batch():
    """With CMO a batch has its patches' images last, and their labels after those of the noise."""
    array = np.arange(555, dtype=np.int64).astype(np.uint8).reshape(-1, 1, 1, 1)
    plans = plan_epoch(phase("open+cmo"), 8, 64, 0)
    assert any(plan.mix and plan.n_noise for plan in plans)
    batches = on_cpu(Split(MemoryImages(array), LABELS)).epoch(plans)
    for plan, images, labels in batches:
        n, rows = len(plan.natural), len(plan.labels)
        assert np.array_equal(images[:n], array[plan.natural])
        assert np.array_equal(images[n:], array[plan.partners])
        assert np.array_equal(labels[:rows], plan.labels)
        assert np.array_equal(labels[rows:], LABELS[plan.partners])
