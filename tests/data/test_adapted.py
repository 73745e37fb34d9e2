"""Images of one size brought to another: the pixels, the splits, and the memory they take."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from purenoise.data.adapted import AdaptedImages, adapt
from purenoise.data.digits import load_digits
from purenoise.data.types import Dataset, MemoryImages, Split
from purenoise.datasection import Data
from purenoise.prepare import prepare


def colour(n: int = 4, height: int = 6, width: int = 9) -> MemoryImages:
    """Draw colour images."""
    rng = np.random.default_rng(0)
    return MemoryImages(rng.integers(0, 256, (n, 3, height, width), dtype=np.uint8))


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 6, 9), (1, 5, 4), (3, 6, 9)])
def test_pixels_are_those_of_pillow(shape: tuple[int, int, int]) -> None:
    """Scaling and grey values are Pillow's, as for images of folders."""
    source = colour()
    loaded = AdaptedImages(source, shape).load(np.array([2, 0]))
    assert loaded.shape == (2, *shape)
    for pixels, original in zip(loaded, source.array[[2, 0]], strict=True):
        image = Image.fromarray(original.transpose(1, 2, 0))
        image = ImageOps.fit(image, (shape[2], shape[1]), Image.Resampling.BICUBIC)
        expected = np.asarray(image.convert("L") if shape[0] == 1 else image)
        got = pixels[0] if shape[0] == 1 else pixels.transpose(1, 2, 0)
        assert np.abs(got.astype(int) - expected).max() <= (2 if shape[0] == 1 else 0)


def test_grey_becomes_three_equal_channels() -> None:
    """A digit in colour has its grey value in every channel."""
    digits = load_digits()
    found = adapt(digits, (3, 8, 8), 1 << 30)
    assert found.image_shape == (3, 8, 8)
    assert np.array_equal(found.train.images.load(np.arange(5))[:, 1],
                          digits.train.images.load(np.arange(5))[:, 0])  # fmt: skip
    assert "Images of 1 x 8 x 8 are brought to 3 x 8 x 8" in found.notes[-1]
    assert adapt(digits, (1, 8, 8), 0) is digits


def test_memory_bounds_what_is_adapted_at_once() -> None:
    """Above the bound images are adapted when they are read, with the same pixels."""
    split = Split(colour(), np.zeros(4, np.int64))
    data = Dataset("x", ("a",), split, split, val=split, normalize=([0.1, 0.2, 0.6], [0.3] * 3))
    size = 3 * 4 * 1 * 5 * 5
    held, lazy = adapt(data, (1, 5, 5), size), adapt(data, (1, 5, 5), size - 1)
    assert isinstance(held.train.images, MemoryImages)
    assert isinstance(lazy.train.images, AdaptedImages)
    rows = np.arange(4)
    for name in ("train", "val", "test"):
        a, b = (getattr(d, name).images.load(rows) for d in (held, lazy))
        assert np.array_equal(a, b)
    assert held.normalize == ([pytest.approx(0.3)], [pytest.approx(0.3)])


def test_a_recipe_chooses_size_and_channels() -> None:
    """Statistics are those of the adapted images; the data's fingerprint is the data's own."""
    plain, found = prepare(Data()), prepare(Data(image_size=(16, 12), channels=3))
    assert found.dataset.image_shape == (3, 16, 12)
    assert found.dataset.fingerprint == plain.dataset.fingerprint
    pixels = found.dataset.train.images.load(np.arange(len(found.dataset.train)))
    assert found.noise_mean == pytest.approx((pixels / 255).mean((0, 2, 3)), abs=1e-6)
    assert len(found.mean) == 3
