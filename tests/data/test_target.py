"""The shape that images are brought to, decided from as few of them as possible."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from purenoise.data.target import Target

sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))
images = st.lists(st.tuples(st.sampled_from([(8, 8), (64, 64), (9, 70)]) | sizes, st.booleans()))


@given(
    images=images,
    asked=st.none() | st.integers(1, 99) | sizes,
    channels=st.sampled_from([None, 1, 3]),
    usual=st.sampled_from([None, 64]),
)
def test_shape_follows_the_rule(
    images: list[tuple[tuple[int, int], bool]],
    asked: int | tuple[int, int] | None,
    channels: int | None,
    usual: int | None,
) -> None:
    """Looking at some images gives what the rule, written out over all of them, gives."""
    shape = Target(asked, channels, usual).shape(iter(images))
    if not images:
        known = asked is not None and channels is not None
        assert (shape is None) != known
        return
    expected = channels or (1 if all(grey for _, grey in images) else 3)
    found = {size for size, _ in images}
    if asked is not None:
        size = (asked, asked) if isinstance(asked, int) else asked
    elif usual and (len(found) > 1 or max(next(iter(found))) > usual):
        size = (usual, usual)
    elif len(found) == 1:
        (size,) = found
    else:
        middle = float(np.median([min(size) for size, _ in images]))
        side = min(max(int(middle / 8 + 0.5) * 8, 8), 224)
        size = (side, side)
    assert shape == (expected, *size)


def test_no_more_images_than_needed() -> None:
    """Large colour photos are told by the first; what is asked for needs none."""

    def photos():
        yield (375, 500), False
        raise AssertionError("a second image was looked at")

    assert Target(usual_side=64).shape(photos()) == (3, 64, 64)
    assert Target(32).shape(photos()) == (3, 32, 32)

    def none():
        raise AssertionError("an image was looked at")
        yield (1, 1), True

    assert Target(32, 1).shape(none()) == (1, 32, 32)
