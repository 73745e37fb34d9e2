"""AutoAugment, RandAugment and TrivialAugment on a whole batch, every image with its own draws.

A policy draws one or two rounds on the host: for each image an operation and how strong it is. The
images are then sorted by operation, which the host knows, and each batched function of `auto_ops`
runs once per round on the images that drew it.

Source: Cubuk et al. 2019, *AutoAugment*; Cubuk et al. 2020, *RandAugment*; Müller & Hutter 2021,
*TrivialAugment*. Operations, magnitudes and probabilities are those of torchvision's classes with
their default arguments.

Differs: torchvision draws once per batch. What has probability 0 never happens here; in torchvision
it does once in 2^24 draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from purenoise import auto_ops
from purenoise.draws import Draws, chance, move, whole_numbers

__all__ = ["OPERATIONS", "AutoAugment", "RandAugment", "Round", "TrivialAugmentWide", "run_round"]

# Operation of each image as its place in OPERATIONS, int64, and its parameter, float32; on the
# host, both of shape (B,).
Round = tuple[Tensor, Tensor]


def _without_parameter(operation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Give an operation a parameter that it does not look at."""
    return lambda images, _: operation(images)


# The names are those of torchvision. All but the last are what the random policies draw from.
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": _without_parameter(lambda images: images),
    "ShearX": auto_ops.shear_x,
    "ShearY": auto_ops.shear_y,
    "TranslateX": auto_ops.translate_x,
    "TranslateY": auto_ops.translate_y,
    "Rotate": auto_ops.rotate,
    "Brightness": auto_ops.brightness,
    "Color": auto_ops.saturation,
    "Contrast": auto_ops.contrast,
    "Sharpness": auto_ops.sharpness,
    "Posterize": auto_ops.posterize,
    "Solarize": auto_ops.solarize,
    "AutoContrast": _without_parameter(auto_ops.autocontrast),
    "Equalize": _without_parameter(auto_ops.equalize),
    "Invert": _without_parameter(auto_ops.invert),
}
_N_RANDOM = len(OPERATIONS) - 1
_CODE = {name: code for code, name in enumerate(OPERATIONS)}
_SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate",
           "Brightness", "Color", "Contrast", "Sharpness"}  # fmt: skip

# Found for CIFAR-10 by Cubuk et al. 2019: operation, probability, magnitude from 0 to 9, twice; the
# magnitude is 0 where the operation has none.
_CIFAR10 = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)


@dataclass(frozen=True)
class _Reach:
    """How far the magnitudes of a policy reach.

    Attributes:
        bins: Number of magnitudes, evenly spaced from nothing to the furthest.
        shear: Slope.
        pixels: Shift in pixels; None for the share 150/331 of the side of the image.
        degrees: Turn.
        change: Factor of brightness, colour, contrast and sharpness, minus 1.
        cleared: Lowest bits that posterize clears.
    """

    bins: int
    shear: float = 0.3
    pixels: float | None = None
    degrees: float = 30.0
    change: float = 0.9
    cleared: int = 4


@lru_cache(maxsize=16)
def _parameters(reach: _Reach, height: int, width: int) -> Tensor:
    """Return the parameter of each operation at each magnitude, (n_operations, bins); read only."""
    share = 150 / 331
    ends = {
        "ShearX": reach.shear,
        "ShearY": reach.shear,
        "TranslateX": share * width if reach.pixels is None else reach.pixels,
        "TranslateY": share * height if reach.pixels is None else reach.pixels,
        "Rotate": reach.degrees,
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), reach.change),
    }
    table = torch.zeros(len(OPERATIONS), reach.bins)
    for name, end in ends.items():
        table[_CODE[name]] = torch.linspace(0, end, reach.bins)
    for name in ("TranslateX", "TranslateY"):
        table[_CODE[name]].trunc_()  # whole pixels
    cleared = torch.arange(reach.bins) / ((reach.bins - 1) / reach.cleared)
    table[_CODE["Posterize"]] = (8 - cleared).round()
    table[_CODE["Solarize"]] = 255 * torch.linspace(1, 0, reach.bins)
    return table


def _round(
    images: Tensor, reach: _Reach, operation: Tensor, magnitude: Tensor, generator: Draws
) -> Round:
    """Look up parameters, and turn each signed one around with probability a half."""
    value = _parameters(reach, *images.shape[2:])[operation, magnitude]
    signed = torch.tensor([name in _SIGNED for name in OPERATIONS])[operation]
    return operation, torch.where(signed & chance(images, 0.5, generator), -value, value)


def run_round(images: Tensor, operation: Tensor, parameter: Tensor) -> Tensor:
    """Run on each image the operation that it drew.

    Args:
        images: uint8, shape (B, C, H, W), C is 1 or 3, on any device.
        operation: Place of the operation in `OPERATIONS`, int64, on the host, shape (B,).
        parameter: What `auto_ops` takes: slope, pixels, degrees, change of a factor, bits or
            threshold; anything where the operation takes none. float32, on the host, shape (B,).

    Returns:
        uint8, shape (B, C, H, W). What becomes of an image does not depend on the others.

    Example:
        >>> images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
        >>> codes = [list(OPERATIONS).index(name) for name in ("Invert", "Identity")]
        >>> run_round(images, torch.tensor(codes), torch.zeros(2)).amax((1, 2, 3))
        tensor([255,   0], dtype=torch.uint8)
    """
    if not len(images):
        return images
    order = operation.argsort(stable=True)
    sizes = operation.bincount(minlength=len(OPERATIONS)).tolist()  # on the host: no waiting
    rows = move(order, images)
    parts = images.index_select(0, rows).split(sizes)
    parameters = move(parameter[order], images).split(sizes)
    done = [
        function(part, values)
        for function, part, values in zip(OPERATIONS.values(), parts, parameters, strict=True)
        if len(part)
    ]
    return images.new_empty(images.shape).index_copy_(0, rows, torch.cat(done))


class _Policy:
    """What the policies share: draw all rounds, then run them."""

    def draw(self, images: Tensor, generator: Draws) -> list[Round]:
        """Draw the rounds of a batch, of which only number and size count."""
        raise NotImplementedError

    def __call__(self, images: Tensor, generator: Draws) -> Tensor:
        """Change all images, uint8."""
        for operation, parameter in self.draw(images, generator):
            images = run_round(images, operation, parameter)
        return images


@dataclass(frozen=True)
class AutoAugment(_Policy):
    """Run one of the 25 pairs found for CIFAR-10, each half with its probability (Cubuk 2019)."""

    def draw(self, images: Tensor, generator: Draws) -> list[Round]:
        """Draw a pair for each image, then which halves of it run and their signs."""
        pair = whole_numbers(images, len(_CIFAR10), generator)
        rounds = []
        for turn in range(2):
            names, shares, bins = zip(*(sub[turn] for sub in _CIFAR10), strict=True)
            runs = chance(images, torch.tensor(shares)[pair], generator)
            code = torch.tensor([_CODE[name] for name in names])[pair]
            magnitude = torch.tensor(bins)[pair]
            operation = code.where(runs, _CODE["Identity"])
            rounds.append(_round(images, _Reach(bins=10), operation, magnitude, generator))
        return rounds

    def __str__(self) -> str:
        return "AutoAugment, CIFAR-10 policy"


@dataclass(frozen=True)
class RandAugment(_Policy):
    """Run operations drawn with replacement, all equally strong (Cubuk 2020).

    Args:
        n_operations: How many, one after another.
        magnitude: How strong, from 0 to `bins` - 1.
        bins: Number of magnitudes.
    """

    n_operations: int = 2
    magnitude: int = 9
    bins: int = 31

    def draw(self, images: Tensor, generator: Draws) -> list[Round]:
        """Draw operations and signs for each image."""
        magnitude = torch.full((len(images),), self.magnitude)
        rounds = []
        for _ in range(self.n_operations):
            operation = whole_numbers(images, _N_RANDOM, generator)
            rounds.append(_round(images, _Reach(self.bins), operation, magnitude, generator))
        return rounds

    def __str__(self) -> str:
        return f"RandAugment, {self.n_operations} operations of magnitude {self.magnitude}"


@dataclass(frozen=True)
class TrivialAugmentWide(_Policy):
    """Run one operation with a magnitude drawn from a wide range (Müller & Hutter 2021).

    Args:
        bins: Number of magnitudes.
    """

    bins: int = 31

    def draw(self, images: Tensor, generator: Draws) -> list[Round]:
        """Draw an operation, a magnitude and a sign for each image."""
        reach = _Reach(self.bins, shear=0.99, pixels=32, degrees=135, change=0.99, cleared=6)
        operation = whole_numbers(images, _N_RANDOM, generator)
        magnitude = whole_numbers(images, self.bins, generator)
        return [_round(images, reach, operation, magnitude, generator)]

    def __str__(self) -> str:
        return "TrivialAugmentWide"
