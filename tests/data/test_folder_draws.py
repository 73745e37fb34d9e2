"""The draw of test images from a folder without splits."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from purenoise.data.folder import stratified_draw


@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60),
    wanted=st.lists(st.integers(0, 10), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_draw_properties(pairs: list[tuple[int, int]], wanted: list[int], seed: int) -> None:
    """Groups stay whole, each class keeps an image, only wanted ones go, a seed is one draw."""
    labels, groups = np.array(pairs, np.int64).T
    asked = np.array(wanted, np.int64)
    drawn = stratified_draw(labels, groups, asked, np.random.default_rng(seed))
    assert drawn.shape == labels.shape
    assert not set(groups[drawn]) & set(groups[~drawn])
    assert set(labels[~drawn]) == set(labels)
    assert all(wanted[label] > 0 for label in labels[drawn])
    again = stratified_draw(labels, groups, asked, np.random.default_rng(seed))
    assert (drawn == again).all()


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
)
def test_draw_is_exact_without_copies(counts: list[int], share: float, seed: int) -> None:
    """If all images differ, each class gives just what is wanted, short of its last image."""
    labels = np.repeat(np.arange(len(counts)), counts)
    wanted = np.ceil(np.array(counts) * share).astype(np.int64)
    drawn = stratified_draw(labels, np.arange(len(labels)), wanted, np.random.default_rng(seed))
    expected = np.minimum(wanted, np.array(counts) - 1)
    assert np.bincount(labels[drawn], minlength=len(counts)).tolist() == expected.tolist()


def test_large_groups_still_give_a_test_image() -> None:
    """A class of copies that are all too many for the share gives its smallest group."""
    labels = np.repeat([0, 1], [9, 10])
    groups = np.array([0] * 4 + [1] * 5 + list(range(10, 20)))
    drawn = stratified_draw(labels, groups, np.array([2, 2]), np.random.default_rng(0))
    assert drawn[:9].tolist() == [True] * 4 + [False] * 5


def test_draw_takes_every_image_equally_often() -> None:
    """Over many seeds each image is drawn at the rate asked for (chi-square within 5 sigma)."""
    n, times = 20, 2000
    hits = np.zeros(n)
    for seed in range(times):
        hits += stratified_draw(
            np.zeros(n, np.int64), np.arange(n), np.array([5]), np.random.default_rng(seed)
        )
    rate = 5 / n
    chi = ((hits - times * rate) ** 2 / (times * rate * (1 - rate))).sum()
    assert abs(chi - n) < 5 * (2 * n) ** 0.5


def test_the_draw_of_many_images_takes_seconds():
    """Twice as many images take about twice the time, not four times: 60,000 are drawn at once."""
    n = 60_000
    start = time.perf_counter()
    drawn = stratified_draw(
        np.arange(n) % 100, np.arange(n), np.full(100, 120), np.random.default_rng(0)
    )
    assert time.perf_counter() - start < 6  # quadratic work would take far longer
    assert drawn.sum() == 12_000
