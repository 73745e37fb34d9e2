"""Recipes and noise sources that the tests of noise kinds share."""

from __future__ import annotations

import torch
from torch import Tensor

from purenoise.feed import Feed
from purenoise.fitting import phases_of
from purenoise.noisesource import (
    NoiseSource,
)
from purenoise.plan import StepPlan, plan_epoch
from purenoise.prepare import Prepared, prepare
from purenoise.recipe import Recipe, load_recipe

KINDS = ["noise=normal", "noise=uniform", "noise=shuffled",
         "noise={kind: images, source: photographs}", "noise.space=normalized",
         "noise={space: normalized, clip: false}"]  # fmt: skip


SHORT = ("epochs=2", "batch_size=128", "warmup=0", "defer=0.5")


def recipe_of(*changes: str) -> Recipe:
    """Return the digits recipe for two short epochs, the second with noise."""
    return load_recipe("digits", [*SHORT, *changes])


def source_of(recipe: Recipe, data: Prepared, dtype: torch.dtype = torch.float64) -> NoiseSource:
    """Return the noise of a recipe."""
    feed = Feed(data.dataset.train, torch.device("cpu"))
    return NoiseSource(recipe.noise, data, feed, dtype, recipe.seed)


def rows_of(
    source: NoiseSource, plans: list[StepPlan], epoch: int, first_step: int = 0
) -> list[Tensor | None]:
    """Return the noise rows of an epoch's steps, None for a step without, from a step on."""
    steps = range(first_step, len(plans))
    with source.reading(plans, epoch, first_step):
        return [source.rows(m, epoch, s) if (m := plans[s].n_noise) else None for s in steps]


def drawn(
    recipe: Recipe, first_step: int = 0
) -> tuple[list[StepPlan], list[Tensor | None], Prepared]:
    """Return plans and noise rows of the second epoch, from a step on."""
    data = prepare(recipe.data)
    plans = plan_epoch(phases_of(recipe, data)[-1], 1, recipe.train.batch_size, recipe.seed)
    return plans, rows_of(source_of(recipe, data), plans, 1, first_step), data


def pixels(rows: Tensor, data: Prepared) -> Tensor:
    """Undo the normalisation, channel by channel."""
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (data.mean, data.std)
    )
    return rows.double() * std + mean
