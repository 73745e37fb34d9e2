"""The network of a recipe: new, or from a finished run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import torch
from torch import nn

from purenoise.checkpoint import load_weights
from purenoise.errors import RunError
from purenoise.losses import LDAM_SCALE
from purenoise.modelinput import input_note
from purenoise.models import CosineLinear, build_model
from purenoise.models.weightsfile import load_file
from purenoise.prepare import Prepared
from purenoise.recipe import Recipe, load_recipe
from purenoise.runlog import RunFolder
from purenoise.summaryform import read_summary


def network(recipe: Recipe, data: Prepared) -> nn.Module:
    """Build the network of a recipe with its first weights, in the recipe's precision, plain."""
    return noted_network(recipe, data)[0]


def noted_network(recipe: Recipe, data: Prepared) -> tuple[nn.Module, list[str]]:
    """Do what `network` does, and return as well what a user should know of its weights."""
    shape, pretrained = data.dataset.image_shape, recipe.model.pretrained
    model = _network(recipe, data.dataset.n_classes, shape[0], pretrained=pretrained)
    if recipe.model.weights is None:
        return model, input_note(recipe, shape)
    return model, load_file(model, recipe.model.weights) + input_note(recipe, shape)


def _network(recipe: Recipe, n_classes: int, channels: int, *, pretrained: bool) -> nn.Module:
    method = recipe.resolved_method()
    model = build_model(
        recipe.model.name,
        n_classes,
        in_channels=channels,
        dropout=recipe.model.dropout,
        cosine=method.cosine,
        pretrained=pretrained,
        generator_seed=recipe.seed,
    )
    for module in model.modules():
        if isinstance(module, CosineLinear):  # what LDAM has in its loss, an evaluation has here
            module.scale = float(method.loss_of(method.phases[-1]).options().get("s", LDAM_SCALE))
    return model.to(getattr(torch, recipe.precision))


def lay_out(model: nn.Module) -> nn.Module:
    """Put a model's weights into the channels-last memory format, in place; returns the model."""
    return model.to(memory_format=torch.channels_last)


def load_run(folder: str | Path) -> tuple[Recipe, dict[str, Any], nn.Module]:
    """Load a finished run for evaluation or prediction.

    Returns:
        Recipe, summary, and the plain model in evaluation mode on the CPU.

    Raises:
        RunError: If the run is not finished or its files do not fit.
    """
    files = RunFolder.existing(folder)
    recipe = load_recipe(str(files.recipe))
    digest = recipe.digest()
    files.check_recipe(digest)
    summary = read_summary(files, digest)
    if summary is None:
        raise RunError(
            f"The run {folder} is not finished.",
            f"To go on: purenoise train {shlex.quote(str(folder))}",
        )
    n_classes, channels = len(summary["class_names"]), summary["image_shape"][0]
    model = _network(recipe, n_classes, channels, pretrained=False)
    load_weights(files.weights, model, digest)
    if summary.get("speed", {}).get("channels_last"):  # so that it computes what the run computed
        lay_out(model)
    return recipe, summary, model.eval()
