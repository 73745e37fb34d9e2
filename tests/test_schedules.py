"""Learning-rate curves and phase boundaries against the field's own rule."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purenoise.errors import RecipeError
from purenoise.schedules import boundary, learning_rate, warmup_epochs


def field_rule(base: float, epoch: int) -> float:
    """Compute the learning rate as LDAM-DRW's script does for 200 epochs, counting from 1."""
    epoch = epoch + 1
    if epoch <= 5:
        return base * epoch / 5
    if epoch > 180:
        return base * 0.0001
    if epoch > 160:
        return base * 0.01
    return base


@pytest.mark.parametrize("base", [0.1, 0.05, 1.0])
def test_two_hundred_epochs_follow_the_fields_rule(base):
    """Every epoch of the standard 200 has the learning rate of the field's script."""
    ours = [learning_rate(base, e, 200) for e in range(200)]
    assert ours == pytest.approx([field_rule(base, e) for e in range(200)], rel=1e-12)


def test_another_rule_would_be_noticed():
    """The drop is at epoch 160 and 180 counted from 0, not one later."""
    rates = [learning_rate(0.1, e, 200) for e in range(200)]
    drops = [e for e in range(1, 200) if rates[e] < rates[e - 1]]
    assert drops == [160, 180]


def test_boundaries_are_exact_for_every_length():
    """For lengths to 2000 the boundary is the floor of the exact fraction, despite rounding."""
    for epochs in range(1, 2001):
        for tenths in range(11):
            exact = math.floor(Fraction(tenths, 10) * epochs)
            assert boundary(epochs, tenths / 10) == exact
    assert [boundary(n, 0.8) for n in (1, 2, 5, 7, 10, 90, 200, 320)] == [
        0,
        1,
        4,
        5,
        8,
        72,
        160,
        256,
    ]


def test_a_deferred_phase_has_an_epoch_in_every_run():
    """However short the run, what begins at 80 % has at least one epoch."""
    assert all(boundary(n, 0.8) < n for n in range(1, 500))


def test_short_runs_do_not_die():
    """One epoch keeps the base rate; where both drops fall together the rate drops once."""
    assert [learning_rate(0.1, e, 1) for e in range(1)] == [0.1]
    assert [learning_rate(0.1, e, 2) for e in range(2)] == pytest.approx([0.1, 1e-3])
    assert [learning_rate(1, e, 6) for e in range(6)] == pytest.approx([1, 1, 1, 1, 1e-2, 1e-4])


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, 0), (9, 0), (10, 1), (49, 4), (50, 5), (400, 5)]
)
def test_default_warm_up(epochs, expected):
    """Warm-up is a tenth of the run, at most five epochs, unless it is given."""
    assert warmup_epochs(epochs) == expected
    assert warmup_epochs(epochs, 7) == 7
    assert learning_rate(1.0, 0, 100, warmup=0) == 1.0
    assert [learning_rate(1.0, e, 100, warmup=4) for e in range(5)] == [0.25, 0.5, 0.75, 1, 1]


@given(st.integers(1, 400), st.sampled_from(["step", "cosine", "constant"]), st.integers(0, 20))
def test_rates_are_positive_and_rise_only_in_warm_up(epochs, schedule, warmup):
    """No schedule exceeds the base rate, falls to zero or rises after warm-up."""
    rates = [learning_rate(0.1, e, epochs, schedule, warmup) for e in range(epochs)]
    assert all(0 < r <= 0.1 + 1e-15 for r in rates)
    after = rates[warmup:]
    assert all(b <= a + 1e-15 for a, b in pairwise(after))


def test_cosine_and_constant():
    """Cosine is half-way down in the middle; constant stays."""
    assert learning_rate(0.2, 50, 100, "cosine", 0) == pytest.approx(0.1)
    assert learning_rate(0.2, 5, 105, "cosine", 5) == pytest.approx(0.2)
    assert {learning_rate(0.2, e, 30, "constant", 0) for e in range(30)} == {0.2}


def test_unknown_schedule_gets_a_suggestion():
    """A misspelt schedule is refused with the nearest name."""
    with pytest.raises(RecipeError, match="Did you mean 'cosine'"):
        learning_rate(0.1, 0, 10, "cosin")
