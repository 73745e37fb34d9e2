"""What is exported: a finished run, or one of its adjusted forms, as one plain network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import purenoise
from purenoise.errors import RunError
from purenoise.export.manifest import Manifest
from purenoise.models import CosineLinear
from purenoise.network import load_run
from purenoise.posthoc.change import Change
from purenoise.recipe import Recipe
from purenoise.runlog import RunFolder
from purenoise.summaryform import read_summary


@dataclass(frozen=True)
class Finished:
    """A finished run, or an adjusted form of one.

    Args:
        folder: Of the run or of the adjusted form.
        run: Of the run.
        recipe: Of the run.
        summary: Of the run, or of the adjusted form, which has ``adjusted``.
        model: Plain, in evaluation mode, on the CPU, in the run's precision.
    """

    folder: Path
    run: Path
    recipe: Recipe
    summary: Mapping[str, Any]
    model: nn.Module

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.summary["image_shape"]
        return channels, height, width


def load_finished(folder: str | Path) -> Finished:
    """Load a finished run, or an adjusted form of one with the adjustment in its last layer.

    Args:
        folder: Of a run, or ``RUN/adjusted/METHOD-HASH``.

    Raises:
        RunError: If the run is not finished, or its files do not belong together.
    """
    path = Path(folder)
    place = path.resolve()
    if place.parent.name != "adjusted" or (path / "recipe.yaml").exists():
        recipe, summary, model = load_run(path)
        return Finished(path, path, recipe, summary, model)
    own, run = read_summary(RunFolder(path)), path / ".." / ".."
    if own is None or "adjusted" not in own:
        raise RunError(
            f"{path} holds no adjusted run (it has no summary.json that says so).",
            "Give the folder that `purenoise adjust` named.",
        )
    recipe, summary, model = load_run(run)
    if own["base"]["digest"] != summary["digest"]:
        raise RunError(
            f"{path} was made of another run than the one that it lies in.",
            "Adjust the run again: purenoise adjust RUN",
        )
    shape = tuple(summary["image_shape"])
    return Finished(path, run, recipe, own, Change.recorded(own["adjusted"]).fold(model, shape))


def describe(found: Finished, checked: str) -> Manifest:
    """Return what a file with this network has to say of itself."""
    cosine = [m for m in found.model.modules() if isinstance(m, CosineLinear)]
    mean, std = found.summary["normalize"]
    return Manifest(
        model=found.recipe.model.name,
        class_names=found.summary["class_names"],
        image_shape=found.image_shape,
        mean=mean,
        std=std,
        head="cosine" if cosine else "linear",
        scale=cosine[0].scale if cosine else 1.0,
        recipe=found.summary["recipe"],
        method=found.summary["method"],
        seed=found.summary["seed"],
        recipe_digest=found.summary["digest"],
        weights_digest=digest(found.model.state_dict()),
        checked=checked,
        purenoise=purenoise.__version__,
    )


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of a network's numbers.

    Example:
        >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.ones(2)})
        False
    """
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        plain = value.detach().cpu().contiguous()
        found.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
