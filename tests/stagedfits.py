"""Fits of methods with a second stage, for their tests."""

from __future__ import annotations

from typing import Any

from torch import nn

from purenoise.augment import build_augment
from purenoise.fitting import make_ready, phases_of
from purenoise.methods import Phase
from purenoise.network import network
from purenoise.prepare import Prepared, prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.training import Fit

SHORT = ("epochs=4", "batch_size=128", "warmup=0", "defer=0.5", "precision=float64")
STAGED = ["crt", "lws", "weight-balancing"]


def recipe_of(*changes: str) -> Recipe:
    """Return the digits recipe for four short epochs, half of them in the second stage."""
    return load_recipe("digits", [*SHORT, *changes])


def parts(recipe: Recipe) -> tuple[Prepared, list[Phase], nn.Module]:
    """Return data, phases and a plain network."""
    data = prepare(recipe.data)
    phases = phases_of(recipe, data)
    return data, phases, network(recipe, data)


def fit_of(recipe: Recipe, **options: Any) -> Fit:
    """Return a loop that has not begun."""
    data, phases, model = parts(recipe)
    make_ready(model, recipe, phases, data)
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)
    return Fit(recipe, data, model, phases, augment, **options)
