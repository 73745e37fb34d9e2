"""An epoch planned ahead: what is drawn, what becomes noise, and that resuming changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from purenoise.methodfile import load_method
from purenoise.methods import Phase, build_phases
from purenoise.plan import StepPlan, plan_epoch

COUNTS = (400, 120, 30, 5)
LABELS = np.repeat(np.arange(4), COUNTS).astype(np.int64)


def phase(method: str, delta: float = 0.5, seed: int = 0) -> Phase:
    """Return the last phase of a method on made-up labels."""
    return build_phases(
        load_method(method), LABELS, 4, epochs=10, defer=0.8, delta=delta, seed=seed
    )[-1]


def same(a: list[StepPlan], b: list[StepPlan]) -> bool:
    """Whether two plans are one."""
    return len(a) == len(b) and all(
        np.array_equal(x.natural, y.natural) and np.array_equal(x.labels, y.labels)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("method", ["erm", "drs", "open", "noise-augment"])
def test_plan_depends_on_seed_and_epoch_alone(method: str):
    """Two plans of one (seed, epoch) are equal; another seed or epoch gives another plan."""
    first = plan_epoch(phase(method), 9, 64, 0)
    assert same(first, plan_epoch(phase(method), 9, 64, 0))
    assert not same(first, plan_epoch(phase(method), 8, 64, 0))
    assert not same(first, plan_epoch(phase(method, seed=1), 9, 64, 1))


@pytest.mark.parametrize("method", ["erm", "drs", "open", "noise-augment"])
def test_rows_are_natural_first_with_labels_that_match(method: str):
    """The first labels of a batch are those of its natural images, in order."""
    for plan in plan_epoch(phase(method), 9, 64, 0):
        assert np.array_equal(plan.labels[: len(plan.natural)], LABELS[plan.natural])
        assert plan.n_noise == len(plan.labels) - len(plan.natural)
        assert plan.labels.dtype == plan.natural.dtype == np.int64


@pytest.mark.parametrize("method", ["erm", "drs"])
def test_without_noise_every_row_is_natural(method: str):
    """Methods without noise plan batches of natural images alone."""
    assert sum(plan.n_noise for plan in plan_epoch(phase(method), 9, 64, 0)) == 0


def test_plain_epoch_has_every_image_once():
    """Instance sampling visits each image exactly once, the short last batch included."""
    plans = plan_epoch(phase("erm"), 0, 64, 0)
    assert [len(plan.labels) for plan in plans] == [64] * 8 + [43]
    assert sorted(np.concatenate([plan.natural for plan in plans])) == list(range(len(LABELS)))


def test_noise_share_of_each_class_is_the_papers():
    """Rows of class i are noise with probability (1 - n_i/n_max) delta, within chance."""
    chosen = phase("open", delta=0.5)
    noise, drawn = np.zeros(4, int), np.zeros(4, int)
    for epoch in range(8, 28):
        for plan in plan_epoch(chosen, epoch, 64, 0):
            drawn += np.bincount(plan.labels, minlength=4)
            noise += np.bincount(plan.labels[len(plan.natural) :], minlength=4)
    assert noise[0] == 0
    for c in (1, 2, 3):
        p = (1 - COUNTS[c] / COUNTS[0]) * 0.5
        assert binomtest(int(noise[c]), int(drawn[c]), p).pvalue > 1e-4


def test_noise_replaces_and_batches_keep_their_size():
    """In the OPeN phase natural and noise rows together are the batch size."""
    assert [len(p.labels) for p in plan_epoch(phase("open"), 9, 64, 0)] == [64] * 8 + [43]


def test_noise_augment_adds_one_row_to_four_with_uniform_labels():
    """The balanced-data variant adds a quarter of the batch, its labels uniform."""
    plans = [plan for e in range(20) for plan in plan_epoch(phase("noise-augment"), e, 64, 0)]
    assert {(len(p.natural), p.n_noise) for p in plans} == {(64, 16), (43, 11)}
    added = np.bincount(np.concatenate([p.labels[len(p.natural) :] for p in plans]), minlength=4)
    for n in added:
        assert binomtest(int(n), int(added.sum()), 0.25).pvalue > 1e-4


def test_single_natural_image_is_joined():
    """No batch is left with one natural image, no row is lost, and batches stay small."""
    from purenoise.plan import StepPlan, _join_singles

    def plan(natural, noise, start):
        rows = np.arange(start, start + natural + noise)
        return StepPlan(rows[:natural], rows)

    plans = [plan(1, 2, 0), plan(1, 0, 10), plan(4, 0, 20), plan(0, 3, 30), plan(1, 1, 40)]
    joined = _join_singles(plans)
    assert [len(p.natural) for p in joined] == [2, 4, 1]
    assert sorted(np.concatenate([p.labels for p in joined])) == sorted(
        np.concatenate([p.labels for p in plans])
    )
    assert joined[0].labels.tolist() == [0, 10, 1, 2]
