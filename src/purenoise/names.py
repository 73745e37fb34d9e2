"""What a recipe may name: augmentation policies, models, data sets, subsets.

Those who build things by these names need torch; whoever only checks a recipe does not, so the
tables stand here, once for both. Imports no torch.
"""

from __future__ import annotations

import os
import re

from purenoise.errors import ModelError, RecipeError, did_you_mean
from purenoise.longtail import SUBSETS

# The steps of each policy, in order.
POLICIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "crop": ("crop",),
    "flip-crop": ("flip", "crop"),
    "flip-crop-cutout": ("flip", "crop", "cutout"),
    "open": ("flip", "crop", "cutout", "jitter", "grey", "blur"),
    "autoaugment": ("flip", "crop", "autoaugment"),
    "randaugment": ("flip", "crop", "randaugment"),
    "trivialaugment": ("flip", "crop", "trivialaugment"),
}
DEPTHS = (8, 20, 32, 44, 56, 110, 1202)  # of our ResNets
OWN_MODELS = (
    "small_cnn",
    *(f"resnet{depth}" for depth in DEPTHS),
    *("wide_resnet28_10", "wide_resnet40_10", "wide_resnet40_14"),
)
LIBRARIES = ("torchvision", "timm")
SHORT_DATA = ("digits", "cifar10", "cifar100")  # `data=NAME`; their files lie anywhere
LISTED_DATA = ("imagenet-lt", "places-lt", "inat2018")  # published lists of files
KNOWN_DATA = (*SHORT_DATA, *LISTED_DATA, "celeba5")
PLACED_DATA = ("folder", "list", "npz", "hf", "arrays")  # what they are depends on where they lie
DATA_SETS = (*KNOWN_DATA, *PLACED_DATA)
TORCHVISION = "torchvision:"  # before the name of one of torchvision's data sets

_WIDE = re.compile(r"wide_resnet(\d+)_([1-9]\d*)")
_ELSEWHERE = "Models of other libraries are written torchvision:NAME or timm:NAME."


def check_policy(name: str) -> str:
    """Return the name of an augmentation policy.

    Raises:
        RecipeError: If it is unknown.
    """
    if name not in POLICIES:
        raise RecipeError(f"There is no augmentation {name!r}.", did_you_mean(name, POLICIES))
    return name


def check_model(name: str) -> str:
    """Return the name of a model; whether a library has its model, only the library can say.

    Raises:
        ModelError: If it is neither one of ours nor written ``torchvision:NAME`` or ``timm:NAME``.

    Example:
        >>> check_model("wide_resnet16_4"), check_model("timm:resnet18")
        ('wide_resnet16_4', 'timm:resnet18')
    """
    library, _, rest = name.partition(":")
    known = (library in LIBRARIES and rest) or name in OWN_MODELS or wide_size(name)
    if not known:
        hint = f"{did_you_mean(name, OWN_MODELS)} {_ELSEWHERE}"
        raise ModelError(f"There is no model {name!r}.", hint)
    return name


def wide_size(name: str) -> tuple[int, int] | None:
    """Return depth and width of a wide ResNet's name, or None for another name.

    Raises:
        ModelError: If no wide ResNet has that depth.

    Example:
        >>> wide_size("wide_resnet28_10"), wide_size("resnet32")
        ((28, 10), None)
    """
    match = _WIDE.fullmatch(name)
    if match is None:
        return None
    depth, width = int(match[1]), int(match[2])
    if depth < 10 or (depth - 4) % 6:
        raise ModelError(
            f"{name} has depth {depth}; a wide ResNet has depth 6n + 4: 10, 16, 22, 28, ...",
            f"Did you mean 'wide_resnet28_10'? {_ELSEWHERE}",
        )
    return depth, width


def check_data_set(name: str) -> str:
    """Return the name of a data set.

    Raises:
        RecipeError: If it is unknown.
    """
    if name not in DATA_SETS:
        hint = (
            f"{did_you_mean(name, DATA_SETS)} A folder of images is data=PATH; torchvision's data "
            "sets are torchvision:NAME."
        )
        raise RecipeError(f"There is no data set {name!r}.", hint)
    return name


def check_subset(name: str) -> str:
    """Return the name of a subset, or the path of an index file.

    Raises:
        RecipeError: If it is neither.
    """
    if name not in SUBSETS and not os.path.isfile(name):
        hint = did_you_mean(name, SUBSETS)
        raise RecipeError(f"Subset {name!r} is neither a known subset nor a file.", hint)
    return name
