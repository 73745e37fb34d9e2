"""Where a run takes place, as far as its result depends on it: ``python -m purenoise.lab.place``.

The process that plans a comparison names states by it (:mod:`purenoise.lab.sharing`). If the runs
train elsewhere, a process on each of those machines answers: whether it is the same program, what
its device is, and whether it sees the folder through which states and results pass.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from purenoise.errors import PureNoiseError
from purenoise.recipe import Recipe

Place = Mapping[str, Any]
PROGRAM = ("purenoise", "commit", "python", "torch", "torchvision", "numpy")


def place_of(recipe: Recipe) -> Place:
    """Return device, threads, switches and environment of a run on this machine.

    Raises:
        RecipeError: If the machine cannot do what the recipe asks for.
    """
    from purenoise.runtime import resolve_device, resolve_threads
    from purenoise.speed import resolve_speed

    device, threads = resolve_device(recipe.device), resolve_threads(recipe.threads)
    switches = resolve_speed(recipe.speed, device, recipe.precision)
    return {"device": device.type, "threads": threads, "speed": switches.record(),
            "environment": _environment(str(device), threads)}  # fmt: skip


@functools.lru_cache
def _environment(device: str, threads: int) -> dict[str, Any]:
    import torch

    from purenoise.runtime import environment

    return environment(torch.device(device), threads)


def program() -> dict[str, Any]:
    """Return what must be the same wherever runs of one comparison train."""
    known = _environment("cpu", 1)
    return {key: known[key] for key in PROGRAM}


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Say what this machine is.

    Args:
        question: ``token``, a file that was written where the comparison was planned, ``text``,
            what it holds, and ``recipes``.

    Returns:
        ``program``, ``shared`` (whether the file is seen and one beside it can be written),
        ``places`` of the recipes, ``fault`` if a recipe cannot be done here.
    """
    found: dict[str, Any] = {"program": program(), "places": [], "fault": ""}
    found["shared"] = _shares(Path(question["token"]), question["text"])
    try:
        recipes = [Recipe.model_validate(content) for content in question["recipes"]]
        found["places"] = [place_of(recipe) for recipe in recipes]
    except PureNoiseError as error:
        found["fault"] = error.message
    return found


def _shares(token: Path, text: str) -> bool:
    try:
        seen = token.read_text(encoding="utf-8") == text
        beside = token.with_name(f"{token.name}-")
        beside.touch()
        beside.unlink(missing_ok=True)  # several machines may ask at once
    except OSError:
        return False
    return seen


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))  # noqa: T201 - what was asked for
