"""Where a run lies, and all that its result depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from purenoise.models.weightsfile import weights_sha256
from purenoise.noisesource import noise_fingerprint
from purenoise.prepare import Prepared
from purenoise.recipe import Recipe, folder_name
from purenoise.speed import Switches


def run_path(recipe: Recipe, base: Recipe) -> Path:
    """Return the folder of a run: ``out/recipe/method/seed-n``."""
    method = recipe.method_name()
    return Path(recipe.out) / folder_name(recipe, base) / method / f"seed-{recipe.seed}"


def run_identity(
    recipe: Recipe,
    data: Prepared,
    device: torch.device,
    threads: int,
    switches: Switches,
    processes: int = 1,
) -> dict[str, Any]:
    """Return all that the result of a run depends on, as plain values."""
    outside = noise_fingerprint(recipe.noise)
    return {
        "recipe": recipe.digest(),
        "device": device.type,
        "threads": threads,
        "torch": str(torch.__version__),  # a plain str: TorchVersion is no plain value
        "speed": switches.record(),
        "fingerprint": data.dataset.fingerprint,
        "subset_sha256": data.dataset.subset_sha256,
        **({"noise_images": outside} if outside else {}),
        **({"weights": weights_sha256(weights)} if (weights := recipe.model.weights) else {}),
        **({"processes": processes} if processes > 1 else {}),
    }
