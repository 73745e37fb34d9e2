"""Starts who trains a comparison: processes of this machine, or workers of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from purenoise.errors import RecipeError
from purenoise.lab.executors import Workers
from purenoise.lab.place import Place, place_of
from purenoise.lab.planning import Plan, PlannedRun
from purenoise.lab.pool import Pool
from purenoise.recipe import Recipe
from purenoise.runtime import resolve_device


@contextmanager
def started(
    plan: Plan, pending: Sequence[PlannedRun]
) -> Iterator[tuple[Workers, list[Place] | None]]:
    """Start what the plan asks for.

    Args:
        plan: Of the comparison.
        pending: The runs that are not there yet.

    Yields:
        Workers, and where each run takes place; None if that is not known beforehand.

    Raises:
        PureNoiseError: If they cannot be had, or cannot take the runs.
    """
    recipes = [run.recipe for run in pending]
    if plan.executor != "ray" or not pending:
        on_gpu = bool(recipes) and resolve_device(recipes[0].device).type == "cuda"
        environments = gpu_places(recipes[0].device) if on_gpu else []
        yield Pool(max(1, plan.jobs), environments), [place_of(recipe) for recipe in recipes]
        return
    from purenoise.lab.raycluster import connected
    from purenoise.lab.rayworkers import inspected

    threads = _one_number_of_threads(recipes)
    with connected() as cluster:
        content = [recipe.model_dump(mode="json") for recipe in recipes]
        limit = min(plan.jobs or len(pending), len(pending))
        out = Path(recipes[0].out)
        with inspected(cluster, content, recipes[0].device, threads, limit, out) as found:
            yield found


def gpu_places(device: str) -> list[dict[str, str]]:
    """Return what to set in the environment of each worker, so that each has a GPU of its own.

    Args:
        device: Of the recipe; one with a number leaves all workers on that GPU.
    """
    n = torch.cuda.device_count()
    if n < 2 or ":" in device:
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = given.split(",")[:n] if given else [str(i) for i in range(n)]
    return [{"CUDA_VISIBLE_DEVICES": i.strip()} for i in ids]


def _one_number_of_threads(recipes: Sequence[Recipe]) -> int:
    """Return how many threads a run of a cluster takes.

    Raises:
        RecipeError: If that would depend on the node, or the device has a number.
    """
    kinds = {(recipe.threads, recipe.device) for recipe in recipes}
    if len(kinds) > 1:
        raise RecipeError(
            "executor=ray needs one threads= and one device= for all runs.",
            "Say them once, outside the methods.",
        )
    threads, device = kinds.pop()
    if threads == "auto":
        raise RecipeError(
            "executor=ray needs a number of threads: with threads=auto it, and so the result, "
            "would depend on the node.",
            "Add threads=N; each run then takes N CPUs of a node.",
        )
    if ":" in device:
        raise RecipeError(
            f"device={device} cannot be asked of a cluster.", "Say device=cuda: Ray chooses which."
        )
    return int(threads)
