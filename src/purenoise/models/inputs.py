"""The images that published weights were trained on: their size and the constants of pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from purenoise.errors import ModelError
from purenoise.models.libraries import timm_config, torchvision_weights
from purenoise.models.weightsfile import weights_path
from purenoise.smallfile import MIB, read_small

MOST_BYTES = 1024 * MIB  # of a run's summary
TOO_MUCH = (RecursionError, MemoryError, OverflowError)


@dataclass(frozen=True)
class Input:
    """What a network takes.

    Args:
        shape: Channels, height and width.
        mean: Subtracted from pixels in [0, 1], one value per channel.
        std: By which they are divided then.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def published_input(name: str) -> Input | None:
    """Return what the published weights of a torchvision or timm model take.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.

    Returns:
        None for one of our own models, which has no published weights.

    Raises:
        ModelError: If the library has no such model, or no weights of it.

    Example:
        >>> published_input("torchvision:resnet18").shape
        (3, 224, 224)
    """
    library, _, rest = name.partition(":")
    if library == "torchvision" and rest:
        transforms = torchvision_weights(rest).transforms()
        (side,) = set(transforms.crop_size)
        return Input((3, side, side), tuple(transforms.mean), tuple(transforms.std))
    if library == "timm" and rest:
        config = timm_config(rest)
        channels, height, width = config.input_size
        return Input((channels, height, width), tuple(config.mean), tuple(config.std))
    return None


def input_of_file(name: str, path: str | Path) -> Input | None:
    """Return what a file of weights takes.

    Args:
        name: Of the model.
        path: Of the weights. Beside those of a run lies what its images were; of others it is
            assumed that they saw what the published weights of that model saw.

    Returns:
        None if nothing is known.

    Raises:
        ModelError: If the library has no such model. A file that is missing is an error only where
            its weights are wanted.
    """
    try:
        summary = weights_path(path).with_name("summary.json")
        kept = json.loads(read_small(summary, MOST_BYTES))
        channels, height, width = map(int, kept["image_shape"])
        mean, std = (tuple(map(float, values)) for values in kept["normalize"])
        return Input((channels, height, width), mean, std)
    except (ModelError, OSError, ValueError, LookupError, TypeError, *TOO_MUCH):
        return published_input(name) if ":" in name else None
