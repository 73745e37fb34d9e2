"""Size, channels and constants of images from the weights that a recipe begins with.

Published weights were trained on images of one size, normalised with their constants. A recipe that
begins with such weights and says nothing of its own gets both written into it, before anything is
loaded: the run's folder then says what was used, and data are prepared without a model. What a
recipe says itself is kept. Without weights nothing changes.

Noise is drawn in [0, 1] from the statistics of the data at hand, and normalised with these
constants as natural images are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from purenoise.datasection import Normalize
from purenoise.errors import ModelError
from purenoise.models.inputs import Input, input_of_file, published_input
from purenoise.recipe import Recipe
from purenoise.twopass import logits_of


def model_input(recipe: Recipe) -> Input | None:
    """Return what the weights take that a recipe begins with; None without such weights.

    Raises:
        ModelError: If there are no such weights.
    """
    model = recipe.model
    if model.weights is not None:
        return input_of_file(model.name, model.weights)
    return published_input(model.name) if model.pretrained else None


def fit_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe with what it leaves to the model: channels, image size, constants.

    Raises:
        ModelError: See :func:`model_input`.
    """
    data = recipe.data
    is_open = None in (data.image_size, data.channels) or data.normalize == "auto"
    taken = model_input(recipe) if is_open else None
    if taken is None:
        return recipe
    changes: dict[str, object] = {}
    channels, height, width = taken.shape
    if data.image_size is None:
        changes["image_size"] = height if height == width else (height, width)
    if data.channels is None and channels in (1, 3):
        changes["channels"] = channels
    if data.normalize == "auto":
        wanted = data.channels or channels
        mean, std = (_for_channels(values, wanted) for values in (taken.mean, taken.std))
        changes["normalize"] = Normalize(mean=mean, std=std)
    return recipe.model_copy(update={"data": data.model_copy(update=changes)})


def input_note(recipe: Recipe, shape: Sequence[int]) -> list[str]:
    """Say what was taken from the weights, and where the recipe differs from them.

    Args:
        recipe: After :func:`fit_recipe`.
        shape: Channels, height and width of the images at hand.
    """
    taken = model_input(recipe)
    if taken is None:
        return []
    given = recipe.data.normalize
    channels = shape[0]
    mean, std = (_for_channels(values, channels) for values in (taken.mean, taken.std))
    like = isinstance(given, Normalize) and (given.mean, given.std) == (mean, std)
    source = recipe.model.weights or f"the published weights of {recipe.model.name}"
    parts = [
        _both("size", tuple(shape[1:]) == taken.shape[1:], f"{taken.shape[1]} x {taken.shape[2]}"),
        _both("constants", like, f"mean {_numbers(taken.mean)}, std {_numbers(taken.std)}"),
    ]
    return [f"Input of {source}: {'; '.join(parts)}."]


def _both(what: str, same: bool, value: str) -> str:
    return f"{what} {value}, {'used here' if same else 'but the recipe has its own'}"


def _numbers(values: Sequence[float]) -> str:
    return "/".join(f"{value:.3g}" for value in values)


def _for_channels(values: Sequence[float], n: int) -> list[float]:
    """Constants for another number of channels: their average."""
    return list(values) if len(values) == n else [sum(values) / len(values)] * n


def check_input(model: nn.Module, name: str, shape: Sequence[int], n_classes: int) -> None:
    """Refuse, before anything is trained, images that a network of a library cannot take.

    Args:
        model: On its device; left as it is.
        name: Of the model.
        shape: Channels, height and width of the images.
        n_classes: Number of logits that are wanted.

    Raises:
        ModelError: If the network cannot run on them, or gives something else.
    """
    first = next(model.parameters())
    images = torch.zeros(2, *shape, dtype=first.dtype, device=first.device)
    modes = [(module, module.training) for module in model.modules()]
    size = " x ".join(map(str, shape))
    try:
        with torch.no_grad():
            logits = logits_of(model.eval()(images))
    except ModelError:
        raise
    except Exception as error:  # networks refuse sizes in many ways, none of them ours
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:200]
        raise ModelError(
            f"{name} cannot take images of {size} (channels, height, width): {reason}",
            _usual_size(name),
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if tuple(logits.shape) != (2, n_classes):
        raise ModelError(
            f"{name} gives an output of shape {tuple(logits.shape)} for 2 images of {size}, and "
            f"not {n_classes} logits for each.",
            "Choose a classifier.",
        )


def _usual_size(name: str) -> str:
    try:
        taken = published_input(name)
    except ModelError:
        taken = None
    if taken is None:
        return "Set data.image_size to a size that the network takes."
    height, width = taken.shape[1:]
    size = f"{height}" if height == width else f"[{height},{width}]"
    return f"It was made for images of {height} x {width}: set data.image_size={size}."
