"""Random parameters of a batch: the same however many processes share it, from one generator."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise import draws
from purenoise.draws import (
    Draws,
    PartOfBatch,
    chance,
    integers,
    move,
    places,
    uniform,
    whole_numbers,
)


def generator(seed: int = 0) -> torch.Generator:
    """Return a generator of the host."""
    return torch.Generator().manual_seed(seed)


DRAWS = {
    "uniform": lambda x, d: uniform(x, d),
    "uniform in rows": lambda x, d: uniform(x, d, 2, 3).movedim(-1, 0),
    "whole numbers": lambda x, d: whole_numbers(x, 1000, d),
    "integers": lambda x, d: integers(x, 1000, d),
    "one chance": lambda x, d: chance(x, 0.5, d),
}


@pytest.mark.parametrize("name", DRAWS)
@settings(max_examples=20, deadline=None)
@given(total=st.integers(0, 9), cuts=st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_parts_of_a_batch_draw_what_the_whole_draws(name: str, total: int, cuts: list[int]):
    """Processes with some rows each get, together, the numbers of one with all, again and again."""
    edges = [0, *sorted(min(cut, total) for cut in cuts), total]
    g, pieces = generator(3), ([], [])
    whole = [DRAWS[name](torch.zeros(total, 1), g) for _ in pieces]
    for a, b in pairwise(edges):
        part = PartOfBatch(generator(3), total, slice(a, b))
        for found in pieces:
            found.append(DRAWS[name](torch.zeros(b - a, 1), part))
    for expected, found in zip(whole, pieces, strict=True):
        assert torch.equal(torch.cat(found), expected)
    assert len(whole[0]) == total
    assert total < 3 or not torch.equal(whole[0], whole[1]) or name == "one chance"


@pytest.mark.parametrize("part", [False, True])
def test_numbers_have_their_range_and_come_from_the_generator_alone(part: bool):
    """Shares are in [0, 1), integers in [0, end) with every one of them; torch's own are left."""
    images, g = torch.zeros(3000, 1), generator()
    source: Draws = PartOfBatch(g, 3000, slice(0, 3000)) if part else g
    before = torch.get_rng_state()
    share, number = uniform(images, source), whole_numbers(images, 7, source)
    assert share.shape == number.shape == (3000,)
    assert (share >= 0).all()
    assert (share < 1).all()
    assert 0.47 < share.mean() < 0.53
    assert number.unique().tolist() == list(range(7))
    assert number.dtype == integers(images, 7, source).dtype == torch.int64
    assert integers(images, 1, source).unique().tolist() == [0]
    assert torch.equal(torch.get_rng_state(), before)


def test_chances_are_kept_and_the_certain_is_certain():
    """Each image has its own chance: 0 never, 1 always, else within five deviations."""
    p = torch.tensor([0.0, 0.3, 1.0]).repeat(4000)
    rates = chance(torch.zeros(12_000, 1), p, generator()).view(-1, 3).double().mean(0)
    assert rates[0] == 0
    assert abs(rates[1] - 0.3) < 5 * (0.21 / 4000) ** 0.5
    assert rates[2] == 1


def test_what_cannot_happen_does_not_even_if_zero_is_drawn(monkeypatch: pytest.MonkeyPatch):
    """A draw of exactly 0 is not below a chance of 0."""
    monkeypatch.setattr(draws, "uniform", lambda images, draws: torch.zeros(len(images)))
    p = torch.tensor([0.0, 1e-30])
    assert chance(torch.zeros(2, 1), p, generator()).tolist() == [False, True]


def test_places_are_those_that_were_chosen():
    """Places are indices in ascending order, int64 of shape (n,), also of none."""
    images = torch.zeros(5, 1)
    found = places(torch.tensor([False, True, False, True, True]), images)
    assert (found.dtype, found.tolist()) == (torch.int64, [1, 3, 4])
    assert places(torch.zeros(5, dtype=torch.bool), images).shape == (0,)


def test_parameters_go_to_the_device_of_the_images():
    """Values arrive as they are where the images are; on the CPU nothing is copied."""
    values = torch.arange(3.0)
    assert move(values, torch.zeros(1)) is values
    assert move(values, torch.zeros(1, device="meta")).device.type == "meta"
