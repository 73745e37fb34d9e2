"""Mixing inside a plan: which images are drawn for it, and which first phases are shared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from purenoise.lab.sharing import prefix_key
from purenoise.methodfile import MixSpec, load_method
from purenoise.methods import Phase, build_phases
from purenoise.plan import StepPlan, plan_epoch
from purenoise.recipe import load_recipe

COUNTS = [400, 120, 30, 5]
LABELS = np.repeat(np.arange(4), COUNTS).astype(np.int64)


def phase(method: str, epochs: int = 40, seed: int = 0, at: int = -1) -> Phase:
    """Return a phase of a method on made-up labels."""
    return build_phases(
        load_method(method), LABELS, 4, epochs=epochs, defer=0.5, delta=0.5, seed=seed
    )[at]


def test_mixup_mixes_every_batch_and_needs_no_further_images() -> None:
    """With prob 1 all batches are mixed, with images of their own."""
    plans = plan_epoch(phase("mixup"), 5, 64, 0)
    assert {plan.mix for plan in plans} == {MixSpec(name="mixup", alpha=1.0)}
    assert all(len(plan.partners) == len(plan.partner_labels) == 0 for plan in plans)


def test_cmo_draws_its_patches_from_all_classes_alike() -> None:
    """Half of the batches are mixed, with one patch per natural row, p(image) ~ 1 / n_c."""
    times, images = np.zeros(4), np.zeros(len(LABELS))
    chosen = total = 0
    for epoch in range(3, 37):
        for plan in plan_epoch(phase("cmo"), epoch, 16, 0):
            total += 1
            chosen += plan.mix is not None
            assert len(plan.partners) == (len(plan.natural) if plan.mix else 0)
            assert np.array_equal(plan.partner_labels, LABELS[plan.partners])
            times += np.bincount(plan.partner_labels, minlength=4)
            images[plan.partners] += 1
    assert binomtest(chosen, total, 0.5).pvalue > 1e-3
    for n in times:
        assert binomtest(int(n), int(times.sum()), 0.25).pvalue > 1e-4
    assert (images[LABELS == 3] > 0).all()


def test_patches_are_not_the_images_they_are_pasted_into() -> None:
    """A class-balanced phase does not draw its patches by the same numbers as its images."""
    plans = [plan for plan in plan_epoch(phase("open+cmo"), 25, 64, 0) if plan.mix]
    same = np.concatenate([plan.natural == plan.partners for plan in plans])
    assert len(same) > 50
    assert same.mean() < 0.15


def test_plans_are_the_same_whatever_was_planned_before() -> None:
    """Mixing and patches depend on seed and epoch alone."""

    def all_of(plans: list[StepPlan]) -> list[object]:
        return [(p.mix, p.natural.tolist(), p.partners.tolist()) for p in plans]

    first = all_of(plan_epoch(phase("cmo"), 9, 16, 0))
    assert first == all_of(plan_epoch(phase("cmo"), 9, 16, 0))
    assert first != all_of(plan_epoch(phase("cmo"), 10, 16, 0))
    assert first != all_of(plan_epoch(phase("cmo", seed=1), 9, 16, 1))


def test_mixing_changes_nothing_else_of_a_plan() -> None:
    """Images and labels of a batch are those of the method without mixing."""
    for plain, mixed in zip(
        plan_epoch(phase("open"), 25, 64, 0), plan_epoch(phase("open+cmo"), 25, 64, 0), strict=True
    ):
        assert np.array_equal(plain.natural, mixed.natural)
        assert np.array_equal(plain.labels, mixed.labels)


@pytest.mark.parametrize(
    ("method", "epochs", "mixed"),
    [
        ("cmo", 200, range(3, 197)),
        ("cmo", 20, range(2, 18)),
        ("cmo", 5, range(5)),
        ("cmo+drw", 40, range(3, 37)),  # two phases with the same mixing are one stretch
        ("deferred-cmo", 40, range(22, 38)),
        ("mixup", 40, range(40)),
        ("erm", 40, range(0)),
    ],
)
def test_the_epochs_without_cmo(method: str, epochs: int, mixed: range) -> None:
    """CMO rests in the first and last 3 epochs of its stretch, at most a tenth of it each."""
    phases = build_phases(
        load_method(method), LABELS, 4, epochs=epochs, defer=0.5, delta=0.5, seed=0
    )
    found = [e for p in phases for e in range(p.first, p.end) if p.mix(e) is not None]
    assert found == list(mixed)


def shares(a: str, b: str, epoch: int) -> bool:
    """Whether two methods come to the same state after some of 200 epochs."""
    recipes = [load_recipe("digits", [f"method={m}", "epochs=200", "defer=0.8"]) for m in (a, b)]
    one, other = (prefix_key(r, {"speed": {"step": "two-pass"}}, epoch) for r in recipes)
    return one == other


def test_states_are_shared_as_far_as_mixing_and_loss_are_the_same() -> None:
    """Methods share what they have in common, and nothing from where mixing or loss differ."""
    assert shares("mixup", "mixup-drw", 160)
    assert not shares("mixup", "mixup-drw", 161)
    assert not shares("mixup", "erm", 1)
    assert shares("deferred-balanced-softmax", "erm", 160)
    assert not shares("deferred-balanced-softmax", "erm", 161)
    assert not shares("deferred-balanced-softmax", "balanced-softmax", 1)
    assert shares("deferred-mixup", "open", 160)
    assert not shares("deferred-mixup", "deferred-remix", 161)


def test_states_with_cmo_are_shared_only_as_far_as_its_stretch_allows() -> None:
    """CMO rests before its stretch ends, so a stretch that ends earlier is another run before."""
    shorter = "{phases: [{mix: {name: cmo, alpha: 1.0, prob: 0.5, skip: 3}}, {start: defer}]}"
    assert shares("cmo", "cmo+drw", 160)
    assert shares("cmo", shorter, 157)
    assert not shares("cmo", shorter, 158)
    assert shares("cmo", "erm", 3)
    assert not shares("cmo", "erm", 4)
