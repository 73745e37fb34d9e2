"""Which images become noise, what noise looks like, and pixel statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise.errors import DataError, RecipeError
from purenoise.noise import (
    DELTA,
    PixelStatistics,
    choose_noise,
    noise_images,
    pixel_statistics,
    replacement_probabilities,
    shuffle_pixels,
)

CIFAR10_LT = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def generator(seed: int = 0) -> torch.Generator:
    """Make a generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def clipped_share(mean: float, std: float) -> float:
    """Return the share of N(mean, std) outside [0, 1]."""
    tail = lambda z: math.erfc(z / math.sqrt(2)) / 2  # noqa: E731
    return tail(mean / std) + tail((1 - mean) / std)


def test_probabilities_by_hand():
    """The formula (1 - n_i / n_max) * delta on numbers that one can check in one's head."""
    assert abs(DELTA - 0.333333333) < 1e-8
    assert replacement_probabilities([10, 5, 1], 1).tolist() == pytest.approx([0, 0.5, 0.9])
    assert replacement_probabilities([4, 4], 1).tolist() == [0, 0]
    assert replacement_probabilities([9, 1], 0).tolist() == [0, 0]


def test_expected_noise_share_of_the_standard_benchmark():
    """Class-balanced draws from CIFAR-10-LT at ratio 100 are noise in 25.1 % of all cases."""
    p = replacement_probabilities(CIFAR10_LT)
    assert p.mean() == pytest.approx(0.251, abs=5e-4)
    assert p[-1] == pytest.approx(0.330)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=30), st.floats(0, 1))
def test_largest_class_is_never_replaced(counts, delta):
    """The largest class has probability 0 wherever it stands; rarer classes have more."""
    p = replacement_probabilities(counts, delta)
    assert p[int(np.argmax(counts))] == 0
    assert ((p >= 0) & (p <= delta)).all()
    assert (np.diff(p[np.argsort(counts, kind="stable")]) <= 0).all()


@pytest.mark.parametrize("delta", [-0.01, 1.01, float("nan"), float("inf")])
def test_delta_outside_the_unit_interval_is_refused(delta):
    """A delta that is no share is refused with its value."""
    with pytest.raises(RecipeError, match="must be a number between 0 and 1"):
        replacement_probabilities([2, 1], delta)


def test_empty_classes_are_refused():
    """A class without images is named."""
    with pytest.raises(DataError, match="Class 1, 3 has no training images"):
        replacement_probabilities([5, 0, 2, 0])


def test_bernoulli_rates_per_class():
    """Over many draws each class's noise rate lies within five deviations of its probability."""
    p = replacement_probabilities(CIFAR10_LT)
    n = 40_000
    labels = torch.arange(10).repeat(n)
    chosen = choose_noise(labels, p, generator())
    assert chosen.dtype == torch.bool
    rates = torch.stack([chosen[labels == c].double().mean() for c in range(10)]).numpy()
    assert (np.abs(rates - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()
    assert rates[0] == 0


def test_draws_are_independent_of_one_another():
    """The number of noise rows per batch varies as a binomial does, and seeds reproduce it."""
    labels = torch.zeros(128, dtype=torch.long)
    g = generator(1)
    counts = torch.stack([choose_noise(labels, [0.3], g).sum() for _ in range(4000)]).double()
    assert counts.mean() == pytest.approx(128 * 0.3, abs=5 * math.sqrt(128 * 0.21 / 4000))
    assert counts.var() == pytest.approx(128 * 0.21, rel=0.15)
    first, second = (choose_noise(labels, [0.3], generator(7)) for _ in range(2))
    assert torch.equal(first, second)


def test_probability_one_and_zero():
    """Probability 1 always replaces and 0 never does."""
    labels = torch.tensor([0, 1] * 500)
    assert torch.equal(choose_noise(labels, [0.0, 1.0], generator()), labels.bool())
    assert choose_noise(labels[:0], [0.5], generator()).shape == (0,)


def test_the_largest_class_stays_even_if_zero_is_drawn(monkeypatch):
    """A draw of exactly 0 is not below a probability of 0."""
    monkeypatch.setattr(torch, "rand", lambda n, **options: torch.zeros(n, dtype=torch.float64))
    assert choose_noise(torch.tensor([0, 1]), [0.0, 1e-9], generator()).tolist() == [False, True]


@pytest.mark.parametrize(
    ("size", "mean", "dtype"),
    [
        ((4, 6), [0.5], torch.float32),
        ((7, 3), [0.1] * 5, torch.float64),
        ((2, 3, 4), [0.2, 0.3], torch.float16),
        ((5,), [0.4] * 3, torch.bfloat16),
    ],
)
def test_any_channels_size_and_dtype(size, mean, dtype):
    """Noise has the shape and dtype that were asked for, within [0, 1]."""
    noise = noise_images(3, size, mean, [0.5] * len(mean), generator(), dtype)
    assert noise.shape == (3, len(mean), *size)
    assert noise.dtype == dtype
    assert noise.min() == 0
    assert noise.max() <= 1
    assert noise_images(0, size, mean, mean).shape == (0, len(mean), *size)


def test_distribution_of_each_channel():
    """Away from the edges each channel has its own mean and deviation, and pixels are unrelated."""
    mean, std = torch.tensor([0.3, 0.5, 0.7]), torch.tensor([0.02, 0.05, 0.03])
    noise = noise_images(200, (20, 20), mean, std, generator()).double()
    per_channel = noise.transpose(0, 1).flatten(1)  # (3, 80000)
    torch.testing.assert_close(per_channel.mean(1).float(), mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(per_channel.std(1).float(), std, atol=5e-4, rtol=0)
    z = (noise - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    for a, b in [(z[..., 1:], z[..., :-1]), (z[1:], z[:-1]), (z[:, 1:], z[:, :-1])]:
        assert abs((a * b).mean()) < 0.015


@pytest.mark.parametrize(
    ("mean", "std", "share"),
    [((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 0.014),
     ((0.4989, 0.5044, 0.4926), (0.2513, 0.2485, 0.2734), 0.053)],
)  # fmt: skip
def test_share_of_clipped_pixels(mean, std, share):
    """1.4 % of pixels are clipped with the customary constants, 5.3 % with the data's own."""
    exact = np.mean([clipped_share(m, s) for m, s in zip(mean, std, strict=True)])
    assert exact == pytest.approx(share, abs=1e-3)
    noise = noise_images(300, (32, 32), mean, std, generator())
    clipped = ((noise == 0) | (noise == 1)).double().mean().item()
    assert clipped == pytest.approx(exact, abs=5 * math.sqrt(exact / noise.numel()))


def test_noise_is_fresh_and_reproducible():
    """Two draws from one generator differ; the same seed gives the same bits."""
    g = generator(3)
    first, second = (noise_images(2, (4, 4), [0.5], [0.2], g) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, noise_images(2, (4, 4), [0.5], [0.2], generator(3)))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_pixel_statistics_equal_numpy_over_all_pixels(channels, shapes, seed):
    """Mean and deviation are those of all pixels together, whatever the batches and sizes."""
    rng = np.random.default_rng(seed)
    batches = [rng.integers(0, 256, (b, channels, h, w), dtype=np.uint8) for b, h, w in shapes]
    pixels = np.concatenate([b.transpose(1, 0, 2, 3).reshape(channels, -1) for b in batches], 1)
    if pixels.shape[1] == 0:
        return
    mean, std = pixel_statistics(batches)
    np.testing.assert_allclose(mean, pixels.astype(np.float64).mean(1) / 255, rtol=1e-13)
    np.testing.assert_allclose(std, pixels.astype(np.float64).std(1) / 255, rtol=1e-12, atol=1e-15)


def test_pixel_statistics_are_exact_where_floats_are_not():
    """A single deviant pixel among 10^6 is found exactly; an even image has deviation 0."""
    images = np.full((1, 1, 1000, 1000), 255, np.uint8)
    stats = PixelStatistics()
    stats.update(images)
    assert (stats.mean.item(), stats.std.item()) == (1.0, 0.0)
    images[0, 0, 0, 0] = 254
    stats = PixelStatistics()
    stats.update(images)
    assert stats.std.item() * 255 == pytest.approx(math.sqrt(1e-6 * (1 - 1e-6)), rel=1e-14)


def test_pixel_statistics_are_not_the_mean_of_each_images_deviation():
    """Between-image variation counts: a black and a white image have deviation 1/2."""
    images = np.stack([np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 255, np.uint8)])
    assert pixel_statistics([images])[1].tolist() == [0.5]


def test_pixel_statistics_refuse_other_arrays():
    """Floats, missing axes and a changed number of channels are refused with what was got."""
    stats = PixelStatistics()
    for shape, dtype in (((1, 3, 2, 2), float), ((3, 2, 2), np.uint8), ((1, 0, 2, 2), np.uint8)):
        with pytest.raises(DataError, match="need uint8 images of shape"):
            stats.update(np.zeros(shape, dtype))
    stats.update(np.zeros((1, 3, 2, 2), np.uint8))
    for channels in (1, 4):
        with pytest.raises(DataError, match=f"with {channels} channels came after images with 3"):
            stats.update(np.zeros((1, channels, 2, 2), np.uint8))
    for side, channels in ((32, 1), (8, 3), (32, 4)):
        with pytest.raises(DataError, match="channels last") as caught:
            pixel_statistics([np.zeros((2, side, side, channels), np.uint8)])
        assert "moveaxis" in caught.value.hint
    with pytest.raises(DataError, match="got list") as caught:
        pixel_statistics([[torch.zeros(2, 3, 8, 8), torch.zeros(2)]])
    assert "for x, _ in" in caught.value.hint


def test_pixel_statistics_take_tensors():
    """What a loader of uint8 images yields does as it is."""
    images = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    mean, std = pixel_statistics(image[None] for image in images)
    assert mean == pytest.approx((images / 255).mean((0, 2, 3)).numpy())
    assert std == pytest.approx((images / 255).std((0, 2, 3), correction=0).numpy(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_mean_and_deviation_are_not_rounded_on_the_way(dtype):
    """With no deviation every pixel is the mean as the dtype holds it; scaling is the dtype's."""
    even = noise_images(1, (2, 2), [0.1, 1 / 3], [0.0, 0.0], generator(), dtype)
    assert torch.equal(even[0, :, 0, 0], torch.tensor([0.1, 1 / 3], dtype=dtype))
    scaled = noise_images(1, (4, 4), [0.5], [0.1], generator(), dtype, clip=False)
    normal = torch.empty((1, 1, 4, 4), dtype=dtype).normal_(generator=generator())
    deviation, mean = (torch.tensor(v, dtype=dtype) for v in (0.1, 0.5))
    assert torch.equal(scaled, normal * deviation + mean)


def test_the_order_of_pixels_is_the_generators_alone():
    """Another default dtype of torch changes no order."""
    images = torch.arange(30).view(1, 1, 5, 6)
    before = shuffle_pixels(images, generator(4))
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(shuffle_pixels(images, generator(4)), before)
    finally:
        torch.set_default_dtype(torch.float32)


def test_pixel_statistics_of_no_pixel_and_of_one():
    """Before any pixel there are no channels, then 0 for each; one pixel is its own mean."""
    stats = PixelStatistics()
    assert stats.mean.shape == stats.std.shape == (0,)
    stats.update(np.zeros((0, 3, 2, 2), np.uint8))
    assert (stats.mean.tolist(), stats.std.tolist()) == ([0.0] * 3, [0.0] * 3)
    stats = PixelStatistics()
    stats.update(np.array([51, 102]).reshape(1, 2, 1, 1).astype(np.uint8))
    assert stats.mean.tolist() == pytest.approx([0.2, 0.4], rel=1e-15)
    assert stats.std.tolist() == [0.0, 0.0]


def test_choices_are_the_generators_doubles():
    """One float64 draw per image decides, in order, so that runs of before can be repeated."""
    labels, p = torch.arange(4).repeat(50), np.array([0.0, 0.2, 0.5, 0.9])
    draws = torch.rand(200, generator=generator(9), dtype=torch.float64)
    expected = [draw < p[c] for draw, c in zip(draws.tolist(), labels.tolist(), strict=True)]
    assert choose_noise(labels, p, generator(9)).tolist() == expected


def test_pixels_with_equal_keys_keep_their_order(monkeypatch):
    """Keys that are equal leave pixels as they were, on every device, as a stable sort does."""
    monkeypatch.setattr(torch, "rand", lambda size, **options: torch.zeros(size))
    images = torch.arange(2 * 900).view(2, 1, 30, 30)
    assert torch.equal(shuffle_pixels(images, generator()), images)


def test_labels_that_are_no_class_are_refused():
    """A label below 0 would choose from the end, and one beyond the classes nothing."""
    draws = torch.Generator().manual_seed(0)
    for labels in ([0, -1], [2, 0]):
        with pytest.raises(DataError, match="classes are 0 to 1"):
            choose_noise(torch.tensor(labels), [0.0, 0.5], draws)
    assert choose_noise(torch.tensor([], dtype=torch.int64), [0.0, 0.5], draws).shape == (0,)


@pytest.mark.parametrize("shapes", [[], [(0, 3, 8, 8)], [(2, 3, 0, 8), (0, 3, 8, 8)]])
def test_no_images_have_no_statistics(shapes):
    """Nothing to take statistics of is a sentence, not empty arrays or zeros."""
    with pytest.raises(DataError, match="no images"):
        pixel_statistics(np.zeros(shape, np.uint8) for shape in shapes)


def test_a_batch_without_images_changes_no_statistics():
    """Batches without images, before and between others, are nothing; their channels must fit."""
    images = np.arange(96, dtype=np.uint8).reshape(2, 3, 4, 4)
    mean, std = pixel_statistics([images[:0], images, images[:0]])
    wanted = pixel_statistics([images])
    assert (mean.tolist(), std.tolist()) == (wanted[0].tolist(), wanted[1].tolist())
    with pytest.raises(DataError, match="with 1 channels came after images with 3"):
        pixel_statistics([images[:0], images[:, :1]])
