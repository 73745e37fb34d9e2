"""Samplers go on in the middle of an epoch, and share it among processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader

from purenoise.samplers import (
    SAMPLERS,
    ClassBalancedSampler,
    ClassSampler,
    InstanceSampler,
)

from .samplercases import LABELS, build, pairs


@pytest.mark.parametrize("name", SAMPLERS)
@given(stop=st.integers(0, 100))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_resume_at_any_image(name: str, stop: int) -> None:
    """A sampler stopped after any image goes on, in a new process, with exactly the rest."""
    whole = build(name, seed=4)
    whole.set_epoch(3)
    expected = list(whole)
    broken = build(name, seed=4)
    broken.set_epoch(3)
    images = iter(broken)
    head = [next(images) for _ in range(stop)]
    resumed = build(name, seed=4)
    resumed.load_state_dict(broken.state_dict())
    resumed.set_epoch(resumed.epoch)  # what a training loop does at the head of each epoch
    assert resumed.state_dict() == broken.state_dict() == {"epoch": 3, "done": stop}
    assert head + list(resumed) == expected
    assert list(resumed) == whole.order(4).tolist()  # a resumed place holds for one iteration
    resumed.set_epoch(4)
    assert len(list(resumed)) == 100


def test_a_glance_does_not_use_up_images() -> None:
    """Looking at the first batch does not shorten the epoch that follows."""
    loader = DataLoader(pairs(LABELS), batch_size=10, sampler=ClassBalancedSampler(LABELS))
    next(iter(loader))
    assert sum(len(labels) for _, labels in loader) == 100


@pytest.mark.parametrize("stop", [0, 1, 4, 13])
def test_resume_inside_a_data_loader(stop: int) -> None:
    """A DataLoader stopped after any step resumes at the next, with the same batches."""

    def loader(sampler: ClassSampler) -> DataLoader:
        batches = BatchSampler(sampler, batch_size=8, drop_last=False)
        return DataLoader(torch.arange(100), batch_sampler=batches, num_workers=0)

    expected = [batch.tolist() for batch in loader(ClassBalancedSampler(LABELS, seed=1))]
    sampler = ClassBalancedSampler(LABELS, seed=1)
    batches = iter(loader(sampler))
    head = [next(batches).tolist() for _ in range(stop)]
    assert sampler.state_dict()["done"] == min(100, 8 * stop)
    resumed = ClassBalancedSampler(LABELS, seed=1)
    resumed.load_state_dict(sampler.state_dict(done=min(100, 8 * stop)))
    resumed.set_epoch(0)
    assert head + [batch.tolist() for batch in loader(resumed)] == expected


@given(n=st.integers(1, 60), replicas=st.integers(1, 7))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_ranks_can_share_an_epoch_exactly(n: int, replicas: int) -> None:
    """The ranks' images together are the one epoch, none twice and none left out."""
    labels = [0] * n
    parts = [
        InstanceSampler(labels, num_replicas=replicas, rank=r, even=False) for r in range(replicas)
    ]
    found = [list(part) for part in parts]
    assert [len(part) for part in parts] == [len(images) for images in found]
    assert sorted(i for images in found for i in images) == list(range(n))


@given(n=st.integers(1, 60), replicas=st.integers(1, 7))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_ranks_have_equally_many_images(n: int, replicas: int) -> None:
    """The ranks' images together are the one epoch, filled up from its head to equal parts."""
    labels = [0] * n
    parts = [InstanceSampler(labels, num_replicas=replicas, rank=r) for r in range(replicas)]
    found = [list(part) for part in parts]
    each = -(-n // replicas)
    assert [len(part) for part in parts] == [len(images) for images in found] == [each] * replicas
    together = [images[i] for i in range(each) for images in found]
    order = list(InstanceSampler(labels))
    assert sorted(together[:n]) == list(range(n))
    assert together == [order[i % n] for i in range(each * replicas)]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("replicas", [2, 4])
def test_ranks_have_the_batches_of_one_process(name: str, replicas: int) -> None:
    """R ranks with batch B / R show at each step the B images that one process shows."""
    size = 8
    one = list(build(name, seed=2))
    ranks = [list(build(name, seed=2, num_replicas=replicas, rank=r)) for r in range(replicas)]
    share = size // replicas
    whole = np.resize(one, len(ranks[0]) * replicas).tolist()  # filled up from its head
    for step in range(-(-len(whole) // size)):
        together = [i for part in ranks for i in part[step * share : (step + 1) * share]]
        assert sorted(together) == sorted(whole[step * size : (step + 1) * size])


def test_ranks_resume_alone() -> None:
    """A rank that resumes goes on with its own images."""
    whole = list(ClassBalancedSampler(LABELS, num_replicas=3, rank=1))
    resumed = ClassBalancedSampler(LABELS, num_replicas=3, rank=1)
    resumed.load_state_dict({"epoch": 0, "done": 7})
    assert list(resumed) == whole[7:]


def test_each_iteration_draws_the_next_epoch():
    """A loop that never calls set_epoch sees another order each time, as with torch's samplers."""
    sampler = ClassBalancedSampler([0] * 900 + [1] * 100)
    first, second = list(sampler), list(sampler)
    assert first == sampler.order(0).tolist()
    assert second == sampler.order(1).tolist()
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(sampler) == second


def test_resumed_iteration_goes_on_with_the_next_epoch():
    """After the rest of an interrupted epoch comes the epoch after it."""
    sampler = ClassBalancedSampler([0] * 20 + [1] * 5)
    sampler.load_state_dict({"epoch": 3, "done": 10})
    assert list(sampler) == sampler.order(3)[10:].tolist()
    assert list(sampler) == sampler.order(4).tolist()


def test_the_place_is_counted_anew_in_each_epoch() -> None:
    """In the second epoch, and after it, a state says how many images of that epoch were read."""
    sampler = ClassBalancedSampler(LABELS)
    for epoch in range(3):
        images = iter(sampler)
        for _ in range(7):
            next(images)
        assert sampler.state_dict() == {"epoch": epoch, "done": 7}
        assert sampler.state_dict(done=3) == {"epoch": epoch, "done": 3}  # a loader read ahead
        assert len(list(images)) == 93
        assert sampler.state_dict() == {"epoch": epoch, "done": 100}


def test_after_a_whole_epoch_comes_the_next() -> None:
    """A state that is kept at the end of an epoch goes on as the sampler itself does."""
    sampler = ClassBalancedSampler(LABELS)
    list(sampler)
    resumed = ClassBalancedSampler(LABELS)
    resumed.load_state_dict(sampler.state_dict())
    assert resumed.state_dict() == sampler.state_dict()
    assert list(resumed) == list(sampler) == sampler.order(1).tolist()
    assert list(resumed) == sampler.order(2).tolist()


def test_an_empty_share_stays_in_the_epoch_of_the_others() -> None:
    """A rank without images, of an exact split, does not run ahead after a state of the start."""
    for rank in range(3):
        part = InstanceSampler([0, 0], num_replicas=3, rank=rank, even=False)
        part.load_state_dict(part.state_dict())
        assert len(list(part)) == (rank < 2)
        assert part.epoch == 0
