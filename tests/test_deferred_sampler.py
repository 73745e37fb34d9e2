"""The deferred sampler: plain, then balanced, shared and resumed like the others."""

from __future__ import annotations

import numpy as np
import pytest

from purenoise.deferred import DeferredSampler
from purenoise.errors import RecipeError
from purenoise.samplers import (
    ClassBalancedSampler,
    InstanceSampler,
)

from .samplercases import LABELS


def test_deferred_is_plain_then_balanced():
    """Before its start a deferred sampler is the plain one, afterwards the class-balanced one."""
    labels = np.repeat([0, 1, 2], [50, 9, 3])
    deferred = DeferredSampler(labels, start=2, seed=7)
    plain, balanced = (kind(labels, seed=7) for kind in (InstanceSampler, ClassBalancedSampler))
    for epoch in range(4):
        same = plain if epoch < 2 else balanced
        assert list(deferred) == same.order(epoch).tolist()
        assert np.array_equal(deferred.class_shares(epoch), same.class_shares(epoch))


def test_deferred_from_the_start_is_class_balanced():
    """A start of 0 is allowed, and means that nothing is deferred."""
    balanced = ClassBalancedSampler(LABELS, seed=3)
    assert list(DeferredSampler(LABELS, start=0, seed=3)) == list(balanced)


def test_deferred_is_shared_and_resumed_like_the_others():
    """Processes split both stretches exactly, and a sampler resumes across the start."""
    labels = np.repeat([0, 1], [9, 4])
    whole = DeferredSampler(labels, start=1)
    ranks = [DeferredSampler(labels, start=1, num_replicas=2, rank=r) for r in range(2)]
    for epoch in range(2):
        parts = [list(rank) for rank in ranks]
        filled = np.resize(whole.order(epoch), 14)
        assert parts == [filled[r::2].tolist() for r in range(2)]
    resumed = DeferredSampler(labels, start=1)
    resumed.load_state_dict({"epoch": 1, "done": 5})
    assert list(resumed) == whole.order(1)[5:].tolist()


@pytest.mark.parametrize("start", [-1, 2.0, True, "2"])
def test_deferred_start_is_an_epoch(start):
    """The start is a whole number from 0 on, and the error says which is usual."""
    with pytest.raises(RecipeError, match=r"whole number of epochs from 0 on.*\nGive the epoch"):
        DeferredSampler([0, 1], start=start)
