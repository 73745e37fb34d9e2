"""Augmentation of a whole batch on its device, with random numbers of its own for every image.

A policy is a list of steps. Each step draws its parameters for all images from a generator on the
host, so that CPU and GPU see the same ones, and then calls a batched function of `image_ops`; which
images a step touches is known on the host, so that nothing waits for the device. The steps of
AutoAugment, RandAugment and TrivialAugment, which work on uint8 images, are in `auto_policies`.

Source of the policy ``open``: Zada et al. 2022, appendix D.2, for the order (flip, crop, Cutout,
colour, grey, blur); the strengths are not in the paper and are those of its reproduction, which
took them from SimCLR-like code. ``flip-crop`` is the augmentation of LDAM-DRW.

Differs: torchvision's transforms draw once per batch. Between two of our own steps nothing is
rounded to 8 bits as in Pillow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from purenoise import image_ops
from purenoise.auto_policies import AutoAugment, RandAugment, TrivialAugmentWide
from purenoise.draws import Draws, chance, integers, move, places, uniform
from purenoise.errors import DataError, RecipeError
from purenoise.image_ops import normalize
from purenoise.names import POLICIES, check_policy

__all__ = ["Augment", "Step", "build_augment", "normalize", "policy_names"]

_AUTO = ("autoaugment", "randaugment", "trivialaugment")
_COLOUR = {"jitter", "grey", "blur"}


class Step(Protocol):
    """One step of a policy; ``str(step)`` says what it does."""

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Return changed images of the same shape and dtype, (B, C, H, W), B at least 1."""


@dataclass(frozen=True)
class Flip:
    """Mirror an image left to right with probability `p`."""

    p: float = 0.5

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Mirror some images."""
        return image_ops.hflip(images, places(chance(images, self.p, generator), images))

    def __str__(self) -> str:
        return f"flip p {self.p:g}"


@dataclass(frozen=True)
class Crop:
    """Add `pad` black pixels (above and below, left and right), then cut a window at random."""

    pad: tuple[int, int]

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Move all images."""
        top, left = (integers(images, 2 * pad + 1, generator) for pad in self.pad)
        return image_ops.crop(images, self.pad, top, left)

    def __str__(self) -> str:
        vertical, horizontal = self.pad
        return f"crop pad {vertical}" + (f"x{horizontal}" if horizontal != vertical else "")


@dataclass(frozen=True)
class Cutout:
    """Blacken a square with its centre anywhere in the image (DeVries & Taylor 2017)."""

    side: int

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Blacken a part of all images."""
        centre_y, centre_x = (integers(images, n, generator) for n in images.shape[2:])
        return image_ops.cutout(images, self.side, centre_y, centre_x)

    def __str__(self) -> str:
        return f"cutout {self.side} px"


@dataclass(frozen=True)
class Jitter:
    """Change brightness, contrast, saturation and hue, in random order, with probability `p`."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    p: float = 0.8

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Change the colours of some images."""
        touched = chance(images, self.p, generator)
        spread = torch.tensor([[self.brightness], [self.contrast], [self.saturation], [self.hue]])
        middle = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
        amount = middle + spread * (2 * uniform(images, generator, 4) - 1)
        order = uniform(images, generator, 4).argsort(0)  # operation at each turn
        return self._apply(images, touched, amount, order)

    def _apply(self, images: Tensor, touched: Tensor, amount: Tensor, order: Tensor) -> Tensor:
        """Apply to each touched image the four operations in its own order."""
        out = images.clone()
        for turn in order:
            for i, operation in enumerate(_JITTER):
                chosen = (touched & (turn == i)).nonzero().squeeze(1)
                rows = move(chosen, images)
                part = operation(out.index_select(0, rows), move(amount[i, chosen], images))
                out.index_copy_(0, rows, part)
        return out

    def __str__(self) -> str:
        strengths = f"{self.brightness:g}/{self.contrast:g}/{self.saturation:g}/{self.hue:g}"
        return f"colour jitter {strengths} p {self.p:g}"


_JITTER: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    image_ops.adjust_brightness,
    image_ops.adjust_contrast,
    image_ops.adjust_saturation,
    image_ops.adjust_hue,
)


@dataclass(frozen=True)
class Grey:
    """Take the colour out of an image with probability `p`."""

    p: float = 0.2

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Make some images grey."""
        rows = places(chance(images, self.p, generator), images)
        if images.shape[1] == 1:
            return images
        grey = image_ops.luma(images.index_select(0, rows))  # (n, 1, H, W)
        return images.index_copy(0, rows, grey.expand(-1, 3, -1, -1))

    def __str__(self) -> str:
        return f"greyscale p {self.p:g}"


@dataclass(frozen=True)
class Blur:
    """Blur an image with a 3 x 3 kernel, sigma uniform in `sigma`, with probability `p`."""

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Blur some images."""
        chosen = chance(images, self.p, generator).nonzero().squeeze(1)
        low, high = self.sigma
        sigma = low + (high - low) * uniform(images, generator)
        rows = move(chosen, images)
        part = images.index_select(0, rows)
        blurred = image_ops.gaussian_blur3(part, move(sigma[chosen], images))
        return images.index_copy(0, rows, blurred)

    def __str__(self) -> str:
        return f"blur 3x3 sigma {self.sigma[0]:g}..{self.sigma[1]:g} p {self.p:g}"


@dataclass(frozen=True)
class Augment:
    """Turn uint8 images into augmented floating-point ones. Made by `build_augment`.

    Args:
        policy: Name of the policy.
        image_shape: Channels, height and width of the images.
        pixel_steps: Steps on uint8 images.
        colour_steps: Steps on floating-point images in [0, 1], which follow.
    """

    policy: str
    image_shape: tuple[int, int, int]
    pixel_steps: tuple[Step, ...] = field(default=())
    colour_steps: tuple[Step, ...] = field(default=())

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Augment a batch, each image with its own random numbers.

        Args:
            images: uint8, shape (B, C, H, W), on any device; left as it is. B may be 0.
            generator: A generator of the CPU, from which all random numbers are drawn.

        Returns:
            float32 in [0, 1], not normalised, shape (B, C, H, W), on the device of `images`.

        Raises:
            DataError: If the images have another type or shape than the augmentation is made for.
        """
        if images.dtype != torch.uint8 or images.shape[1:] != self.image_shape:
            raise DataError(
                f"This augmentation takes uint8 images of shape {self.image_shape}, "
                f"but got {images.dtype} of shape {tuple(images.shape[1:])}."
            )
        if not len(images):
            return images / 255
        for step in self.pixel_steps:
            images = step(images, generator)
        images = images / 255
        for step in self.colour_steps:
            images = step(images, generator)
        return images

    def describe(self) -> str:
        """Say in one line what is done, such as ``flip-crop: flip p 0.5, crop pad 4``."""
        steps = ", ".join(str(step) for step in self.pixel_steps + self.colour_steps)
        return f"{self.policy}: {steps or 'images as they are'}"


def policy_names() -> list[str]:
    """Return the names of all policies.

    Example:
        >>> "open" in policy_names()
        True
    """
    return list(POLICIES)


def build_augment(policy: str, image_shape: tuple[int, int, int], *, flip: bool) -> Augment:
    """Build an augmentation from the name of its policy.

    Args:
        policy: One of `policy_names`.
        image_shape: Channels, height and width.
        flip: Whether a mirrored image is still an image of its class; if not, no policy mirrors.

    Returns:
        A function of a batch of uint8 images and a generator.

    Raises:
        RecipeError: If the policy is unknown, or changes colours and the images have neither
            1 nor 3 channels.

    Example:
        >>> augment = build_augment("flip-crop", (3, 32, 32), flip=True)
        >>> images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.Generator().manual_seed(0)).shape
        torch.Size([8, 3, 32, 32])
    """
    names = [name for name in POLICIES[check_policy(policy)] if flip or name != "flip"]
    if image_shape[0] not in (1, 3) and _COLOUR.union(_AUTO) & set(names):
        raise RecipeError(
            f"The augmentation {policy!r} changes colours, but the images have {image_shape[0]} "
            "channels, neither 1 nor 3.",
            "Use augment: flip-crop, crop or none.",
        )
    pixel = tuple(_step(name, image_shape) for name in names if name not in _COLOUR)
    colour = tuple(_step(name, image_shape) for name in names if name in _COLOUR)
    return Augment(policy, image_shape, pixel, colour)


def _step(name: str, image_shape: tuple[int, int, int]) -> Step:
    """Return one step with strengths that fit the size of the images."""
    _, height, width = image_shape
    steps: dict[str, Step] = {
        "flip": Flip(),
        "crop": Crop((max(1, round(height / 8)), max(1, round(width / 8)))),
        "cutout": Cutout(min(height, width) // 2),
        "jitter": Jitter(),
        "grey": Grey(),
        "blur": Blur(),
        "autoaugment": AutoAugment(),
        "randaugment": RandAugment(),
        "trivialaugment": TrivialAugmentWide(),
    }
    return steps[name]
