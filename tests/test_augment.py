"""Augmentation: each operation against torchvision, each random number against its distribution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from purenoise import image_ops
from purenoise.augment import (
    Blur,
    Crop,
    Cutout,
    Flip,
    Grey,
    Jitter,
    build_augment,
    policy_names,
)
from purenoise.errors import DataError, RecipeError

SHAPES = [(3, 32, 32), (1, 8, 8), (3, 17, 24), (1, 40, 5)]
COLOUR_POLICIES = ["open", "autoaugment", "randaugment", "trivialaugment"]


def generator(seed: int = 0) -> torch.Generator:
    """Return a generator of the host."""
    return torch.Generator().manual_seed(seed)


def pixels(n: int, shape: tuple[int, int, int], levels: int = 256) -> Tensor:
    """Return random uint8 images; few levels give grey and pure pixels, the corners of hue."""
    values = torch.randint(levels, (n, *shape), generator=generator(1)) * 255 // (levels - 1)
    return values.to(torch.uint8)


def image_by_image(images: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply a function of one image and its place to each image."""
    return torch.stack([function(image, i) for i, image in enumerate(images)])


OPERATIONS = [
    (image_ops.adjust_brightness, tv.adjust_brightness, 0.0, 2.0),
    (image_ops.adjust_contrast, tv.adjust_contrast, 0.0, 2.0),
    (image_ops.adjust_saturation, tv.adjust_saturation, 0.0, 2.0),
    (image_ops.adjust_hue, tv.adjust_hue, -0.5, 0.5),
    (image_ops.gaussian_blur3, lambda x, sigma: tv.gaussian_blur(x, [3, 3], [sigma]), 0.1, 2.0),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("levels", [2, 3, 256])
@pytest.mark.parametrize(("ours", "theirs", "low", "high"), OPERATIONS)
def test_operation_equals_torchvision_image_by_image(
    ours: Callable, theirs: Callable, low: float, high: float, levels: int, shape: tuple
) -> None:
    """An operation on a batch does to each image what torchvision does with its parameter."""
    images = pixels(40, shape, levels) / 255
    parameter = torch.linspace(low, high, 40)
    expected = image_by_image(images, lambda x, i: theirs(x, parameter[i].item()))
    before = images.clone()
    torch.testing.assert_close(ours(images, parameter), expected, atol=1e-5, rtol=0)
    assert torch.equal(images, before)


def test_luma_equals_torchvision() -> None:
    """The grey of a pixel has torchvision's weights."""
    images = pixels(4, (3, 9, 7)) / 255
    torch.testing.assert_close(image_ops.luma(images), tv.rgb_to_grayscale(images, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_equals_pad_and_crop(shape: tuple[int, int, int]) -> None:
    """Each window is the one torchvision cuts out of the padded image."""
    images, (_, height, width) = pixels(35, shape), shape
    pad, top, left = (2, 3), torch.arange(35) % 5, torch.arange(35) % 7

    def theirs(x: Tensor, i: int) -> Tensor:
        padded = tv.pad(x, [3, 2], fill=0)
        return tv.crop(padded, int(top[i]), int(left[i]), height, width)

    assert torch.equal(image_ops.crop(images, pad, top, left), image_by_image(images, theirs))


def test_hflip_mirrors_the_rows_named() -> None:
    """Named rows are mirrored, the others stay."""
    images = pixels(4, (3, 5, 6))
    expected = image_by_image(images, lambda x, i: tv.horizontal_flip(x) if i in (1, 3) else x)
    assert torch.equal(image_ops.hflip(images, torch.tensor([3, 1])), expected)


@pytest.mark.parametrize("side", [4, 5])
def test_cutout_equals_a_slice(side: int) -> None:
    """The square lies around its centre, is clipped at the border and black."""
    images = pixels(9 * 7, (2, 9, 7)) | 1
    y, x = torch.arange(63) // 7, torch.arange(63) % 7

    def sliced(image: Tensor, i: int) -> Tensor:
        top, left = int(y[i]) - side // 2, int(x[i]) - side // 2
        out = image.clone()
        out[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
        return out

    expected = image_by_image(images, sliced)
    assert torch.equal(image_ops.cutout(images, side, y, x), expected)


def test_normalize_equals_torchvision() -> None:
    """Sequences and tensors of channel statistics give torchvision's result."""
    images, mean, std = pixels(3, (3, 4, 5)) / 255, [0.4, 0.5, 0.6], [0.2, 0.3, 0.1]
    expected = tv.normalize(images, mean, std)
    torch.testing.assert_close(image_ops.normalize(images, mean, std), expected)
    tensors = torch.tensor(mean, dtype=torch.float64), torch.tensor(std)
    torch.testing.assert_close(image_ops.normalize(images, *tensors), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_applies_four_operations_in_the_order_of_each_image(channels: int) -> None:
    """With given draws, jitter equals torchvision's operations one after another, per image."""
    images = pixels(24, (channels, 8, 10)) / 255
    order = torch.stack([torch.randperm(4, generator=generator(i)) for i in range(24)], dim=1)
    touched = torch.arange(24) % 4 > 0
    amount = 0.6 + 0.8 * torch.rand(4, 24, generator=generator())
    amount[3] = (amount[3] - 1) / 4
    names = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]

    def theirs(x: Tensor, i: int) -> Tensor:
        for operation in order[:, i].tolist() if touched[i] else []:
            x = names[operation](x, amount[operation, i].item())
        return x

    expected = image_by_image(images, theirs)
    ours = Jitter()._apply(images, touched, amount, order)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_jitter_draws_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strengths are uniform, all orders equally likely, and p is the share touched."""
    drawn: dict[str, Tensor] = {}

    def keep(self: Jitter, images: Tensor, touched: Tensor, amount: Tensor, order: Tensor) -> None:
        drawn.update(touched=touched, amount=amount, order=order)

    monkeypatch.setattr(Jitter, "_apply", keep)
    Jitter()(torch.zeros(24_000, 3, 1, 1), generator())
    assert drawn["touched"].float().mean() == pytest.approx(0.8, abs=0.01)
    ranges = [(0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1)]
    for values, (low, high) in zip(drawn["amount"], ranges, strict=True):
        quarters = torch.histc(values, 4, low, high) / 24_000
        assert quarters == pytest.approx([0.25] * 4, abs=0.015)
    code = (drawn["order"] * torch.tensor([[64], [16], [4], [1]])).sum(0)
    counts = code.unique(return_counts=True)[1]
    assert len(counts) == 24
    assert counts / 1000 == pytest.approx([1.0] * 24, abs=0.15)


def test_flip_rate() -> None:
    """Half of the images are mirrored."""
    images = torch.tensor([0.0, 1.0]).expand(10_000, 1, 1, 2)
    assert Flip()(images, generator())[:, 0, 0, 0].mean() == pytest.approx(0.5, abs=0.02)


def test_crop_offsets_are_uniform() -> None:
    """Each of the 9 x 5 shifts of a lit pixel is equally likely."""
    images = torch.zeros(45_000, 1, 16, 16)
    images[:, 0, 8, 8] = 1
    lit = Crop((4, 2))(images, generator()).mean(0)[0]
    assert (lit > 0).sum() == 45
    assert lit[4:13, 6:11].flatten() * 45 == pytest.approx([1.0] * 45, abs=0.15)


def test_crop_pads_with_black() -> None:
    """A white image keeps 1 on average over what is left in view."""
    out = Crop((1, 1))(torch.ones(9_000, 1, 4, 4), generator())
    assert out.mean() == pytest.approx(((4 + 3 + 3) / 12) ** 2, abs=0.01)


def test_cutout_area() -> None:
    """The mean area is that of a square with its centre uniform over the pixels, clipped."""
    out = Cutout(16)(torch.ones(20_000, 1, 32, 32), generator())
    per_axis = sum(min(c + 8, 32) - max(c - 8, 0) for c in range(32)) / 32
    area = (out == 0).float().sum((1, 2, 3))
    assert area.mean() == pytest.approx(per_axis**2, rel=0.02)
    assert (area.min(), area.max()) == (64, 256)


def test_grey_and_blur_rates() -> None:
    """A fifth of the images loses its colour, half are blurred, each with its own sigma."""
    images = pixels(1, (3, 6, 6)).expand(10_000, -1, -1, -1) / 255
    grey = Grey()(images, generator())
    assert (grey[:, 0] == grey[:, 1]).all(2).all(1).float().mean() == pytest.approx(0.2, abs=0.02)
    torch.testing.assert_close(grey.unique(dim=0).shape[0], 2)
    blurred = Blur()(images, generator())
    changed = (blurred != images).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.5, abs=0.03)
    assert len(blurred[changed][:100].unique(dim=0)) > 50


@pytest.mark.parametrize("policy", policy_names())
@pytest.mark.parametrize("shape", SHAPES)
def test_policies_run_on_every_shape(policy: str, shape: tuple[int, int, int]) -> None:
    """A policy gives float32 in [0, 1] of the same shape, leaves its input alone, takes 0 rows."""
    augment, images = build_augment(policy, shape, flip=True), pixels(12, shape)
    before = images.clone()
    out = augment(images, generator())
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(images, before)
    assert augment(images[:0], generator()).shape == (0, *shape)
    assert augment(images[:1], generator()).shape == (1, *shape)


@pytest.mark.parametrize("policy", policy_names())
def test_every_image_has_its_own_random_numbers(policy: str) -> None:
    """Copies of one image come out differently, unless nothing is done."""
    images = pixels(1, (3, 32, 32)).expand(32, -1, -1, -1)
    out = build_augment(policy, (3, 32, 32), flip=True)(images, generator())
    assert len(out.unique(dim=0)) == 1 if policy == "none" else len(out.unique(dim=0)) > 20


@pytest.mark.parametrize("policy", policy_names())
def test_the_generator_decides_and_no_other_is_touched(policy: str) -> None:
    """The same state gives the same images, the next others; the global one stands still."""
    images, augment = pixels(8, (3, 16, 16)), build_augment(policy, (3, 16, 16), flip=True)
    before, source = torch.get_rng_state(), generator(5)
    first, second = augment(images, source), augment(images, source)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(augment(images, generator(5)), first)
    assert torch.equal(first, second) == (policy == "none")


@pytest.mark.parametrize("policy", [p for p in policy_names() if "augment" not in p])
def test_no_policy_mirrors_when_told_not_to(policy: str) -> None:
    """Without flips, images that are bright on the left stay so, whatever becomes of the rest."""
    images = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    images[..., 4:12] = 255

    def share_bright_on_the_right(flip: bool) -> float:
        out = build_augment(policy, (3, 32, 32), flip=flip)(images, generator())
        left, right = out[..., :16].sum((1, 2, 3)), out[..., 16:].sum((1, 2, 3))
        return (right > left).float().mean().item()

    assert share_bright_on_the_right(flip=False) == 0
    mirrors = "flip" in policy or policy == "open"
    assert share_bright_on_the_right(flip=True) == pytest.approx(0.5 * mirrors, abs=0.1)


@pytest.mark.parametrize("policy", COLOUR_POLICIES)
def test_no_policy_names_a_flip_when_told_not_to(policy: str) -> None:
    """The line that describes a policy says whether it mirrors."""
    assert "flip p 0.5" in build_augment(policy, (3, 32, 32), flip=True).describe()
    assert "flip" not in build_augment(policy, (3, 32, 32), flip=False).describe()


def test_open_has_the_steps_and_strengths_of_the_paper() -> None:
    """The order is the paper's; the sizes at 32 pixels are pad 4 and a square of 16."""
    assert build_augment("open", (3, 32, 32), flip=True).describe() == (
        "open: flip p 0.5, crop pad 4, cutout 16 px, colour jitter 0.4/0.4/0.4/0.1 p 0.8, "
        "greyscale p 0.2, blur 3x3 sigma 0.1..2 p 0.5"
    )
    assert build_augment("none", (3, 32, 32), flip=True).describe() == "none: images as they are"


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 8, 8), "crop pad 1, cutout 4 px"), ((3, 24, 40), "crop pad 3x5, cutout 12 px")],
)
def test_strengths_follow_the_image_size(shape: tuple[int, int, int], said: str) -> None:
    """Padding is an eighth of each side, the square half of the shorter one."""
    assert said in build_augment("flip-crop-cutout", shape, flip=False).describe()


def test_none_only_scales() -> None:
    """All 256 values become multiples of 1/255."""
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    out = build_augment("none", (1, 16, 16), flip=True)(images, generator())
    assert torch.equal(out.flatten(), torch.arange(256) / 255)


@pytest.mark.parametrize("policy", COLOUR_POLICIES)
def test_colour_policies_refuse_other_channel_counts(policy: str) -> None:
    """Two channels have no colour; the sentence names the policy and what to use."""
    with pytest.raises(RecipeError, match=f"'{policy}' changes colours.* 2 channels") as caught:
        build_augment(policy, (2, 8, 8), flip=True)
    assert "flip-crop" in caught.value.hint
    out = build_augment("flip-crop-cutout", (2, 8, 8), flip=True)(pixels(3, (2, 8, 8)), generator())
    assert out.shape == (3, 2, 8, 8)


def test_unknown_policy() -> None:
    """A misspelt policy gets the nearest name."""
    with pytest.raises(RecipeError, match="There is no augmentation 'flipcrop'") as caught:
        build_augment("flipcrop", (3, 32, 32), flip=True)
    assert caught.value.hint == "Did you mean 'flip-crop'?"


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 9).byte()])
def test_other_images_are_refused(images: Tensor) -> None:
    """Floating-point images, or images of another size, get a sentence."""
    with pytest.raises(DataError, match=r"takes uint8 images of shape \(3, 8, 8\), but got"):
        build_augment("none", (3, 8, 8), flip=True)(images, generator())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("policy", policy_names())
def test_gpu_gives_the_same_images_without_waiting(policy: str) -> None:
    """On a GPU the images are those of the CPU, and nothing waits for the device."""
    images, augment = pixels(256, (3, 32, 32)), build_augment(policy, (3, 32, 32), flip=True)
    on_device = images.cuda()
    augment(on_device, generator())
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = augment(on_device, generator())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    differs = (out.cpu() - augment(images, generator())).abs() > 1e-5
    # Where fractions are cut off, the last digit of a product may decide about a whole step.
    assert differs.float().mean() <= (1e-4 if "augment" in policy else 0)
