"""How arrays become images: the layout of rows, and the level that a number becomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise.data.asimages import Layout, Scale
from purenoise.errors import DataError

numbers = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50).filter(lambda v: len(set(v)) > 1)
small = settings(max_examples=60, deadline=None)


@small
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_rows_are_images_read_along(n, height, width, channels):
    """Pixel (h, w, c) of a row is its number (h W + w) C + c, as numpy lays images out."""
    rows = np.arange(n * height * width * channels, dtype=np.uint8).reshape(n, -1)
    out = Layout.learn(rows, (height, width, channels)).apply(rows)
    assert out.shape == (n, channels, height, width)
    for h in range(height):
        for w in range(width):
            for c in range(channels):
                assert np.array_equal(out[:, c, h, w], rows[:, (h * width + w) * channels + c])
    last = rows.reshape(n, height, width, channels)
    if channels == 1:
        assert np.array_equal(Layout.learn(last[..., 0]).apply(last[..., 0]), out)
    assert np.array_equal(Layout.learn(last, (height, width, channels)).apply(last), out)


@small
@given(st.integers(1, 300))
def test_auto_is_the_smallest_square(n):
    """Rows fill the smallest square from 4 x 4 on, in order, and its end is black."""
    rows = np.full((2, n), 7, np.uint8)
    layout = Layout.learn(rows, "auto")
    _, height, width = layout.shape
    assert height == width == max(4, int(np.ceil(np.sqrt(n))))
    flat = layout.apply(rows).reshape(2, -1)
    assert (flat[:, :n] == 7).all()
    assert not flat[:, n:].any()


@small
@given(numbers, st.lists(st.floats(-1e7, 1e7), max_size=20))
def test_levels_are_linear_and_clipped(train, later):
    """The level is round(255 (v - low) / (high - low)), clipped, in the order of the numbers."""
    train, later = np.array(train), np.array(later)
    scale = Scale.learn(train)
    unit = train.min() >= 0 and train.max() <= 1
    low, high = (0, 1) if unit else (train.min(), train.max())
    later = later.clip(-1, 2) if unit else later  # further away is refused
    values = np.concatenate([train, later])
    wanted = np.array([255 * (min(max(v, low), high) - low) / (high - low) for v in values])
    levels = scale.apply(values)
    assert levels.dtype == np.uint8
    assert np.abs(levels - wanted).max() <= 0.5 + 1e-6
    assert (np.diff(levels[np.argsort(values)].astype(int)) >= 0).all()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32, np.float64])
def test_zero_and_one_are_black_and_white(dtype):
    """Numbers in [0, 1] are shares of white, whatever their type."""
    array = np.array([0, 1, 1, 0], dtype)
    assert Scale.learn(array).rule == "unit"
    assert Scale.learn(array).apply(array).tolist() == [0, 255, 255, 0]


def test_levels_stay_levels():
    """uint8 is taken as it is, even if it reaches from 3 to 9; so are whole numbers later."""
    array = np.array([3, 9], np.uint8)
    scale = Scale.learn(array)
    assert scale.apply(array).tolist() == [3, 9]
    assert scale.apply(np.array([0, 255])).tolist() == [0, 255]
    for wrong in ([0.5], [-1], [256]):
        with pytest.raises(DataError, match="fitted on uint8 levels"):
            scale.apply(np.array(wrong))


@pytest.mark.parametrize(
    ("train", "later", "said"),
    [
        ([0.0, 0.5, 1.0], [0.0, 128.0, 255.0], "from 0 to 255, and .* fitted on numbers in"),
        ([0.0, 0.5, 1.0], [0, 16], "from 0 to 16"),
        ([0.0, 0.5, 1.0], [-1.5, 1.0], "from -1.5 to 1"),
        ([0.0, 7.0, 255.0], [0.0, 0.5, 1.0], "whole numbers from 0 to 255"),
        ([0.0, 7.0, 16.0], [0.25, 0.5], "whole numbers from 0 to 16"),
        ([0, 7, 255], [0.25, 0.5], "whole numbers"),
        ([0.0, 7.5, 250.5], [0.25, 0.5], "numbers from 0 to 250.5"),
    ],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_another_scale_is_refused(train, later, said: str, kind):
    """Fitted on [0, 1] and asked on 0..255, or the other way: a sentence, not a wrong answer."""
    scale = Scale.learn(np.array(train).astype(kind if 0.5 in train else None))
    with pytest.raises(DataError, match=said) as caught:
        scale.apply(np.array(later, kind))
    assert caught.value.hint.startswith("Treat all images alike: X ")


@pytest.mark.parametrize(
    ("train", "later"),
    [
        ([0.0, 0.5, 1.0], [-0.4, 1.9]),  # noise, interpolation
        ([0.0, 7.0, 255.0], [0.0, 0.0]),  # black
        ([0.0, 7.0, 255.0], [0.5, 0.5]),  # one grey
        ([0.0, 7.0, 255.0], [0.0, 1.0]),  # nearly black, whole
        ([0.0, 7.0, 255.0], []),
        ([0.0, 7.5, 16.5], [0.25, 0.5]),  # measurements that are small
        ([-2.0, 3.0], [0.25, 0.5]),  # standardised
        ([0.0, 1.5], [0.25, 0.5]),
        ([0.0, 7.0, 255.0], [0.5, 1.5]),
    ],
)
def test_what_may_be_on_one_scale_passes(train, later):
    """Numbers that the scale of training explains as well are taken as they are."""
    array = np.array(later, np.float64)
    assert Scale.learn(np.array(train)).apply(array).shape == array.shape


def test_every_level_survives_a_division():
    """Levels divided by 255, in single or double precision, come back as they were."""
    levels = np.arange(256, dtype=np.uint8)
    for dtype in (np.float32, np.float64):
        shares = levels.astype(dtype) / dtype(255)
        assert np.array_equal(Scale.learn(shares).apply(shares), levels)


def test_ranges_of_any_size_do():
    """The least range there is does, and more images than are scaled at a time are scaled whole."""
    tiny = np.array([-5e-324, 0.0])
    assert Scale.learn(tiny).apply(tiny).tolist() == [0, 255]
    array = np.linspace(-1, 2, 10_001)[:, None]
    scale = Scale.learn(array)
    assert np.array_equal(scale.apply(array), np.rint((array + 1) * 85).astype(np.uint8))
